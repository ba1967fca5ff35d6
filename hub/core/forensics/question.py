"""A question about one publication and one connection, the answer, and the state an answer reads.

`hub.core.forensics.explaining` finds the answer. It reads live state through the protocols of this
module: a session, its subscriptions and patterns, and the timelines of channels. The tags and keys
of publications are not noted anywhere, so it also reads the part of the channel's history that
still holds them (`HistoryHeld`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from hub.core.forensics.answers import Fate
from hub.core.forensics.journal import NotedSession, NotedSubscription
from hub.core.forensics.timeline import Timeline
from hub.core.publication import Filter, Position, Publication


@dataclass(frozen=True, slots=True)
class Question:
    """A publication that is asked about, and the head of its channel."""

    channel: str
    epoch: str
    offset: int
    head: int
    """The channel's newest offset in that epoch, as the broker says."""
    current: bool = True
    """Whether the channel is in that epoch now. The head of an epoch that is over is unknown."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """An answer with its details."""

    answer: Fate
    detail: str
    """One sentence for a human."""
    at_seconds: float | None = None
    """The earliest monotonic time at which it can have happened."""
    until_seconds: float | None = None
    """The latest monotonic time at which it can have happened."""
    by: int | None = None
    """The offset that replaced a `conflated` publication."""


class OpenSubscription(NotedSubscription, Protocol):
    """A subscription as it stands now."""

    @property
    def position(self) -> Position: ...

    @property
    def state(self) -> str: ...

    def holds_back(self, offset: int) -> bool: ...


class OpenPatterns(Protocol):
    """The patterns of a session as they stand now."""

    @property
    def by_text(self) -> Mapping[str, object]: ...

    def covers(self, channel: str) -> bool: ...


class OpenSession(NotedSession, Protocol):
    """A session as it stands now."""

    @property
    def subscriptions(self) -> Mapping[str, OpenSubscription]: ...

    @property
    def patterns(self) -> OpenPatterns | None: ...


class Remembers(Protocol):
    """The timelines of channels: a node's `Journal`, or one read from disk (`Recalled`)."""

    @property
    def keeps(self) -> bool:
        """Whether anything is noted at all."""
        ...

    def timeline(self, channel: str, epoch: str) -> Timeline | None: ...


@dataclass(frozen=True, slots=True)
class Recalled:
    """`Remembers` of one channel and epoch."""

    found: Timeline | None
    keeps: bool = True

    def timeline(self, channel: str, epoch: str) -> Timeline | None:
        mine = self.found is not None and self.found.name == (channel, epoch)
        return self.found if mine else None


@dataclass(frozen=True, slots=True)
class HistoryHeld:
    """A part of one channel's history, of one epoch.

    Args:
        read_filter: makes a filter from its noted text.
    """

    publications: Mapping[int, Publication] = field(default_factory=dict)
    """By offset."""
    read_filter: Callable[[bytes], Filter] | None = None

    def lets_through(self, text: str, offset: int) -> bool | None:
        """Return whether a filter lets a publication through; None where that is unknown."""
        found = self.publications.get(offset)
        if found is None or self.read_filter is None:
            return None
        return self.read_filter(text.encode()).matches(found.tags)

    def has_key(self, offset: int) -> bool:
        """Return whether the publication is held and has a key."""
        return offset in self.publications and self.publications[offset].key is not None

    def successor(self, offset: int, last: int) -> int | None:
        """Return the next offset with the same key, up to `last`.

        0 means that there is none, None that it is unknown.
        """
        if (asked := self.publications.get(offset)) is None:
            return None
        for number in range(offset + 1, last + 1):
            if (found := self.publications.get(number)) is None:
                return None
            if found.key == asked.key:
                return number
        return 0


NOTHING_HELD = HistoryHeld()
