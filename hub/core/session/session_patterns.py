"""What one session subscribes to by patterns."""

from collections.abc import Collection, Container, MutableMapping
from typing import TYPE_CHECKING

from hub.core.commands import SubscribePattern
from hub.core.patterns import matches
from hub.core.publication import Position
from hub.core.session.subscription import NOWHERE

if TYPE_CHECKING:
    from hub.core.session.session import Session


# 200 bytes each. A channel that was forgotten and goes on is read from its beginning.
_MAX_ENDED = 1000


class Following:
    """One session's pattern."""

    __slots__ = ("command", "entering", "meanwhile", "over", "session")

    def __init__(self, session: "Session", command: SubscribePattern) -> None:
        self.session = session
        self.command = command
        self.over = False
        self.meanwhile: dict[str, None] | None = {}
        """Channels that appeared while it begins; None once it has begun."""
        self.entering: Collection[str] = ()
        """Channels that its answer names, and that the session has still to join."""

    @property
    def pattern(self) -> str:
        return self.command.pattern


class SessionPatterns:
    """One per session that has a pattern."""

    __slots__ = ("by_text", "channels", "ended")

    def __init__(self) -> None:
        self.by_text: dict[str, Following] = {}
        self.channels: dict[str, None] = {}
        """Those that the session is in through nothing but patterns."""
        self.ended: dict[str, Position] = {}
        """Where it left channels that have ended: what follows there comes from behind that."""

    def __bool__(self) -> bool:
        return bool(self.by_text)

    def left_at_end(self, channel: str, place: Position) -> None:
        """The session has had all of a channel that one of them matches."""
        self.ended.pop(channel, None)
        self.ended[channel] = place
        if len(self.ended) > _MAX_ENDED:
            del self.ended[next(iter(self.ended))]

    def count(self, joined: Container[str]) -> int:
        """Through how many channels patterns hold it, with those that it is about to join."""
        entering = (name for each in self.by_text.values() for name in each.entering)
        return len(self.channels) + sum(name not in joined for name in entering)

    def covers(self, channel: str) -> bool:
        """Whether one of them matches this name."""
        return any(matches(pattern, channel) for pattern in self.by_text)

    def pattern_of(self, channel: str) -> str:
        """The first that matches this name; empty where none does any more."""
        return next((pattern for pattern in self.by_text if matches(pattern, channel)), "")

    @property
    def starting(self) -> str:
        """One that has not begun; empty where all have."""
        return next((t for t, each in self.by_text.items() if each.meanwhile is not None), "")

    def mark(self, places: MutableMapping[str, Position]) -> None:
        """Name each pattern of which `places` names no channel.

        A channel named there that a pattern matches says that the pattern resumes. Where there
        is none, its own name says so: it resumes from nowhere, and all there is comes.
        """
        for pattern, following in self.by_text.items():
            if following.meanwhile is not None and following.command.since is None:
                continue
            if not any(matches(pattern, channel) for channel in places):
                places[pattern] = NOWHERE
