"""Where a peer resumes that keeps no positions of its own: from what the hub has told it.

Such a peer names channels, in a URL or in a poll, and is told one mark for all of them. So every
channel that it asked for has a place here, from the asking on.

    asked for          the command: a cut peer asks for the same again
    started            where it starts, until it is subscribed
    subscribed         the place here counts no more: the subscription says how far it is
    ended              the subscription that got the channel's last publication
"""

from collections.abc import Mapping, Sequence

from hub.core.commands import Subscribe
from hub.core.publication import Position
from hub.core.session.by_channel import ByChannel
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
    """Of one session, in the order of asking."""

    __slots__ = ()

    def expect(self, command: Subscribe) -> None:
        """The peer asks for a channel: from now on it is among the places it resumes from."""
        known = self.setdefault(command.channel, command)
        if command.judged and isinstance(known, Subscribe):
            self[command.channel] = command

    @property
    def unstarted(self) -> Sequence[Subscribe]:
        """What was asked for and has not started."""
        return [place for place in self.values() if isinstance(place, Subscribe)]

    def resume_from(self, subscriptions: Mapping[str, Subscription]) -> dict[str, Position]:
        """Every channel that was asked for: at the place that was asked for until it is subscribed.

        One whose start is still unknown is left out: it begins as at first.
        """
        found: dict[str, Position] = {}
        for channel, place in self.items():
            if (subscription := subscriptions.get(channel)) is not None:
                found[channel] = subscription.resume_from
            elif (known := known_place(place)) is not None:
                found[channel] = known
        return found
