"""Where a peer resumes that keeps no positions of its own: from what the hub has told it.

Such a peer names channels, in a URL or in a poll, and is told one mark for all of them. So every
channel that it asked for has a place here, from the asking on.

    asked for          the command: a cut peer asks for the same again
    started            where it starts, until it is subscribed
    subscribed         the place here counts no more: the subscription says how far it is
    ended              the subscription that got the channel's last publication
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from hub.core.commands import Subscribe
from hub.core.publication import Position
from hub.core.session.by_channel import ByChannel
from hub.core.session.session_patterns import SessionPatterns
from hub.core.session.subscription import Subscription

Place = Subscribe | Position | Subscription


def known_place(place: Place) -> Position | None:
    """Where a channel resumes that is not subscribed to; None where it begins as at first."""
    if isinstance(place, Subscribe):
        return place.since
    return place if isinstance(place, Position) else place.resume_from


def has_ended(place: Place) -> bool:
    """Whether the place is that of a channel which has had its last publication."""
    return isinstance(place, Subscription)


class Places(ByChannel[Place]):
    """Of one session, in the order of asking.

    Args:
        most: how many channels its URL may name.
    """

    __slots__ = ("_most", "on_progress")

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self.on_progress: Callable[[], None] | None = None
        """Told when a channel went live or history was read; for a transport that waits for it."""

    def progressed(self) -> None:
        """A channel went live, or history was read."""
        if self.on_progress is not None:
            self.on_progress()

    def expect(self, command: Subscribe) -> None:
        """The peer asks for a channel: from now on it is among the places it resumes from."""
        known = self.setdefault(command.channel, command)
        if command.judged and isinstance(known, Subscribe):
            self[command.channel] = command

    def start(self, channel: str, place: Position) -> None:
        """A channel that was asked for starts there."""
        self[channel] = place
        self.progressed()

    def forget(self, channel: str) -> None:
        """The peer is not in this channel: it does not resume it."""
        self.pop(channel, None)

    def keep(self, ended: Subscription) -> None:
        """The peer is in this channel no more, because the channel has ended.

        A peer that asks for it again, as a URL does by itself, still resumes behind what it got.
        So many channels as a URL may name are kept.
        """
        if len(self) < self._most:
            self[ended.channel.name] = ended

    @property
    def unstarted(self) -> Sequence[Subscribe]:
        """What was asked for and has not started, in the order of asking."""
        return [place for place in self.values() if isinstance(place, Subscribe)]

    def starting(self, patterns: SessionPatterns | None) -> str:
        """A channel or pattern that was asked for and has not started; empty where all have."""
        if unstarted := self.unstarted:
            return unstarted[0].channel
        return "" if patterns is None else patterns.starting

    def resume_from(
        self, subscriptions: Mapping[str, Subscription], patterns: SessionPatterns | None
    ) -> dict[str, Position]:
        """Every channel that was asked for: at the place that was asked for until it is subscribed.

        One whose start is still unknown is left out: it begins as at first. A pattern of which no
        channel is named resumes by its own name.
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
    """Those of a peer that keeps its own positions: it is told none."""

    __slots__ = ()

    def expect(self, command: Subscribe) -> None:
        """Nothing."""

    def start(self, channel: str, place: Position) -> None:
        """Nothing."""

    def keep(self, ended: Subscription) -> None:
        """Nothing."""

    def resume_from(
        self,
        subscriptions: Mapping[str, Subscription],  # noqa: ARG002 - nothing of them is told
        patterns: SessionPatterns | None,  # noqa: ARG002
    ) -> dict[str, Position]:
        return {}


NO_PLACES: Final = _NoPlaces(most=0)
