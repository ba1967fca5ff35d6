"""What the broker delivers to the channels that have sessions here: `hub.core.ports.Downstream`.

Everything joins its channel's open batch, in the order it came. What is for no channel that is
open here is dropped: the broker may hear of an unsubscribe only later.
"""

from hub.core.counters import Counters
from hub.core.fanout.channels import Channel, OpenChannels
from hub.core.fanout.fanout import Fanout
from hub.core.forensics.journal import Journal
from hub.core.publication import Position, Publication
from hub.core.pushes import Change, Gap, GapReason, PresenceReset


class ChannelDownstream:
    """One per node; keeps nothing of its own."""

    def __init__(
        self, channels: OpenChannels, fanout: Fanout, *, counters: Counters, journal: Journal
    ) -> None:
        self._channels = channels
        self._fanout = fanout
        self._counters = counters
        self._journal = journal

    def deliver(self, publication: Publication) -> None:
        if (channel := self._channels.find(publication.channel)) is not None:
            self._fanout.add(channel, publication)

    def lost(self, gap: Gap) -> None:
        if (channel := self._channels.find(gap.channel)) is not None:
            self._counters.gaps[gap.reason] += len(channel)
            self._journal.lost(gap)
            if gap.first and channel.options.keyed:
                self._mend_by_state(channel)
            self._fanout.add(channel, gap)

    def _mend_by_state(self, channel: Channel) -> None:
        """Something is lost: subscriptions with state are sent the rows in place of a gap."""
        for subscription in [each for each in channel if each.state_need is not None]:
            if subscription.live:
                self._fanout.settle(subscription)
            if not subscription.closed and subscription.live:
                subscription.session.read_state(subscription, subscription.resume_from)

    def reset(self, channel: str, head: Position) -> None:
        if (open_channel := self._channels.find(channel)) is not None:
            self._counters.gaps[GapReason.RESET] += len(open_channel)
            self._fanout.reset(open_channel, head)

    def announce(self, channel: str, change: Change | PresenceReset) -> None:
        if (open_channel := self._channels.find(channel)) is not None:
            self._fanout.announce(open_channel, change)
