"""The channels and patterns that one session's peer asked for, and the position each resumes from.

A peer that keeps no positions of its own names channels in a URL or in a poll, and gets one mark
for all of them. So the session keeps a place for every channel that its peer asked for, from the
request on. A place is one of these:

    asked for          the command; a peer that is cut asks for the same again
    started            the position where the channel starts, until it is subscribed
    subscribed         not used; the subscription has the position
    ended              the subscription that got the channel's last publication
"""

from collections.abc import (
    Callable,
    Collection,
    Container,
    ItemsView,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
    ValuesView,
)
from typing import TYPE_CHECKING, Final, TypeVar, overload

from hub.core.commands import Subscribe, SubscribePattern
from hub.core.patterns import matches
from hub.core.publication import Position
from hub.core.session.subscription import NOWHERE, Subscription

if TYPE_CHECKING:
    from hub.core.session.session import Session

Value = TypeVar("Value")
Default = TypeVar("Default")

Place = Subscribe | Position | Subscription

# Positions of ended channels, 200 bytes each. A channel without one is read from its beginning.
_MAX_ENDED = 1000


class ByChannel(MutableMapping[str, Value]):
    """A dictionary by channel that is small while it has one entry. Its values are never None.

    Nearly every session is in one channel. A dictionary takes 184 bytes for it, a sixth of all
    that the hub holds of an idle connection. This object takes 56, and makes the dictionary for
    the second channel.
    """

    __slots__ = ("_channel", "_many", "_value")

    def __init__(self) -> None:
        self._channel = ""
        self._value: Value | None = None
        """The value of `_channel` while there has been one channel only; else None."""
        self._many: dict[str, Value] | None = None

    def __getitem__(self, channel: str) -> Value:
        if (found := self.get(channel)) is None:
            raise KeyError(channel)
        return found

    @overload
    def get(self, key: str, default: None = None, /) -> Value | None: ...
    @overload
    def get(self, key: str, default: Default, /) -> Value | Default: ...
    def get(self, key: str, default: Default | None = None, /) -> Value | Default | None:
        if (many := self._many) is not None:
            return many.get(key, default)
        value = self._value
        return value if value is not None and self._channel == key else default

    def __contains__(self, channel: object) -> bool:
        if (many := self._many) is not None:
            return channel in many
        return self._value is not None and self._channel == channel

    def __setitem__(self, channel: str, value: Value) -> None:
        if (many := self._many) is not None:
            many[channel] = value
        elif (only := self._value) is None or self._channel == channel:
            self._channel, self._value = channel, value
        else:
            self._many = {self._channel: only, channel: value}
            self._value = None

    def __delitem__(self, channel: str) -> None:
        if (many := self._many) is not None:
            del many[channel]
        elif channel in self:
            self._value = None
        else:
            raise KeyError(channel)

    @overload
    def pop(self, key: str, /) -> Value: ...
    @overload
    def pop(self, key: str, default: Value, /) -> Value: ...
    @overload
    def pop(self, key: str, default: Default, /) -> Value | Default: ...
    def pop(self, key: str, *default: Default) -> Value | Default:
        """Pop a channel as `dict.pop` does. `MutableMapping.pop` takes 1 us for an absent one."""
        if (many := self._many) is not None:
            return many.pop(key, *default)
        if (value := self._value) is not None and self._channel == key:
            self._value = None
            return value
        if not default:
            raise KeyError(key)
        return default[0]

    def setdefault(self, key: str, default: Value) -> Value:
        if (found := self.get(key)) is None:
            self[key] = found = default
        return found

    def __len__(self) -> int:
        if (many := self._many) is not None:
            return len(many)
        return 0 if self._value is None else 1

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def values(self) -> ValuesView[Value]:
        return self._all().values()

    def items(self) -> ItemsView[str, Value]:
        return self._all().items()

    def _all(self) -> dict[str, Value]:
        if (many := self._many) is not None:
            return many
        value = self._value
        return {} if value is None else {self._channel: value}


class Following:
    """One pattern of one session."""

    __slots__ = ("command", "entering", "meanwhile", "over", "session")

    def __init__(self, session: "Session", command: SubscribePattern) -> None:
        self.session = session
        self.command = command
        self.over = False
        self.meanwhile: dict[str, None] | None = {}
        """Channels that appeared while the pattern begins; None once it has begun."""
        self.entering: Collection[str] = ()
        """Channels that the pattern's answer names and that the session has still to join."""

    @property
    def pattern(self) -> str:
        return self.command.pattern


class SessionPatterns:
    """The patterns of a session; made with its first."""

    __slots__ = ("by_text", "channels", "ended")

    def __init__(self) -> None:
        self.by_text: dict[str, Following] = {}
        self.channels: dict[str, None] = {}
        """Channels that the session is in through patterns only."""
        self.ended: dict[str, Position] = {}
        """The positions of ended channels at which the session left. A channel that goes on is read
        from there."""

    def __bool__(self) -> bool:
        return bool(self.by_text)

    def left_at_end(self, channel: str, place: Position) -> None:
        """Keep the position at which the session left an ended channel."""
        self.ended.pop(channel, None)
        self.ended[channel] = place
        if len(self.ended) > _MAX_ENDED:
            del self.ended[next(iter(self.ended))]

    def count(self, joined: Container[str]) -> int:
        """Return how many channels come through patterns, with those that are being joined."""
        entering = (name for each in self.by_text.values() for name in each.entering)
        return len(self.channels) + sum(name not in joined for name in entering)

    def covers(self, channel: str) -> bool:
        """Return whether a pattern matches this name."""
        return any(matches(pattern, channel) for pattern in self.by_text)

    def pattern_of(self, channel: str) -> str:
        """Return the first pattern that matches this name; empty where none does any more."""
        return next((pattern for pattern in self.by_text if matches(pattern, channel)), "")

    @property
    def starting(self) -> str:
        """A pattern that has not begun; empty where all have."""
        return next((t for t, each in self.by_text.items() if each.meanwhile is not None), "")

    def mark(self, places: MutableMapping[str, Position]) -> None:
        """Add each pattern to `places` of which they name no channel.

        A named channel that a pattern matches tells that the pattern resumes. Without one, the
        pattern's own name tells so: it resumes from `NOWHERE`, and gets everything there is.
        """
        for pattern, following in self.by_text.items():
            if following.meanwhile is not None and following.command.since is None:
                continue
            if not any(matches(pattern, channel) for channel in places):
                places[pattern] = NOWHERE


def known_place(place: Place) -> Position | None:
    """Return where a channel resumes that is not subscribed; None where it begins anew."""
    if isinstance(place, Subscribe):
        return place.since
    return place if isinstance(place, Position) else place.resume_from


def has_ended(place: Place) -> bool:
    """Return whether the place is that of a channel which has had its last publication."""
    return isinstance(place, Subscription)


class Places(ByChannel[Place]):
    """The places of one session, in the order of the requests.

    Args:
        most: how many channels its URL may name.
    """

    __slots__ = ("_most", "on_progress")

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self.on_progress: Callable[[], None] | None = None
        """Called when a channel went live or history was read, where a transport waits for it."""

    def progressed(self) -> None:
        """Report that a channel went live, or that history was read."""
        if self.on_progress is not None:
            self.on_progress()

    def expect(self, command: Subscribe) -> None:
        """Add the channel that the peer asks for."""
        known = self.setdefault(command.channel, command)
        if command.judged and isinstance(known, Subscribe):
            self[command.channel] = command

    def start(self, channel: str, place: Position) -> None:
        """Set the position where a requested channel starts."""
        self[channel] = place
        self.progressed()

    def forget(self, channel: str) -> None:
        """Drop a channel that the peer has left, so that it does not resume."""
        self.pop(channel, None)

    def keep(self, ended: Subscription) -> None:
        """Keep the place of a channel that has ended, and that the peer is no longer in.

        A peer that asks for it again, as a URL does by itself, then resumes after what it got. No
        more channels are kept than a URL may name.
        """
        if len(self) < self._most:
            self[ended.channel.name] = ended

    @property
    def unstarted(self) -> Sequence[Subscribe]:
        """The requests for channels that have not started, in their order."""
        return [place for place in self.values() if isinstance(place, Subscribe)]

    def starting(self, patterns: SessionPatterns | None) -> str:
        """Return a requested channel or pattern that has not started; empty where all have."""
        if unstarted := self.unstarted:
            return unstarted[0].channel
        return "" if patterns is None else patterns.starting

    def resume_from(
        self, subscriptions: Mapping[str, Subscription], patterns: SessionPatterns | None
    ) -> dict[str, Position]:
        """Return the position from which each requested channel resumes.

        A channel whose start is still unknown is left out, so that it begins anew. A pattern of
        which no channel is named resumes by its own name.
        """
        found: dict[str, Position] = {}
        for channel, place in self.items():
            if (subscription := subscriptions.get(channel)) is not None:
                found[channel] = subscription.resume_from
            elif (known := known_place(place)) is not None:
                found[channel] = known
        if patterns is not None:
            patterns.mark(found)
        return found


class _NoPlaces(Places):
    """The places of a peer that keeps its own positions: always empty."""

    __slots__ = ()

    def expect(self, command: Subscribe) -> None:
        """Do nothing."""

    def start(self, channel: str, place: Position) -> None:
        """Do nothing."""

    def keep(self, ended: Subscription) -> None:
        """Do nothing."""

    def resume_from(
        self,
        subscriptions: Mapping[str, Subscription],  # noqa: ARG002 - of the base class
        patterns: SessionPatterns | None,  # noqa: ARG002
    ) -> dict[str, Position]:
        return {}


NO_PLACES: Final = _NoPlaces(most=0)
