"""The end of a channel that has a last publication: its members leave once they have it.

A live member leaves after the batch that has the end, a few of them in each turn of the loop: a
channel may have very many. A member that reads history leaves when it has read the end, and one
that comes later does the same. Nothing is kept of it: a channel has ended while its newest
publication is marked as its last.
"""

from collections import deque
from collections.abc import Callable

from hub.core.fanout.channels import Channel
from hub.core.fanout.fanout import Fanout
from hub.core.ports import Broker
from hub.core.publication import ENDS
from hub.core.session.subscription import Subscription
from hub.errors import HubError

REASON = "ended"
"""Of the `unsubscribed` that follows the end."""
# In one turn of the loop. To leave costs about 20 us (a guess), so they are some milliseconds.
_AT_ONCE = 200


class Ending:
    """One per node.

    Args:
        expel: takes a member out of its channel and tells it why.
    """

    def __init__(
        self, broker: Broker, fanout: Fanout, expel: Callable[[Subscription, str], None]
    ) -> None:
        self._broker = broker
        self._fanout = fanout
        self._expel = expel
        self._leaving: deque[tuple[Subscription, int]] = deque()
        fanout.on_ended = self.begin

    def begin(self, channel: Channel) -> None:
        """All members that have the end by now leave."""
        if not self._leaving:
            self._fanout.later(self._some)
        self._leaving += [(each, channel.ended_offset) for each in channel]

    def _some(self) -> None:
        for _ in range(min(_AT_ONCE, len(self._leaving))):
            subscription, end = self._leaving.popleft()
            if subscription.offset >= end:
                self._leave(subscription)
        if self._leaving:
            self._fanout.later(self._some)

    def caught_up(self, subscription: Subscription) -> None:
        """It has all that its channel has: where that includes the end, it leaves."""
        if subscription.channel.ended:
            self._leave(subscription)

    def _leave(self, subscription: Subscription) -> None:
        if not subscription.closed and not subscription.session.closing:
            self._expel(subscription, REASON)

    async def has_ended(self, channel: Channel) -> bool:
        """Whether the channel has ended; what is not known here yet is read from history."""
        if not channel.end_known and not channel.ended:
            offset, epoch = channel.offset, channel.epoch
            try:
                page = await self._broker.history(channel.name, offset - 1, 1)
            except HubError:
                # A peer that asks for nothing of history need not wait for it.
                return False
            newest = page.publications[-1] if page.publications else None
            if page.head.epoch == channel.epoch == epoch:
                channel.end_known = True
                if newest is not None and newest.offset == offset and newest.marks & ENDS:
                    channel.ended_offset = max(channel.ended_offset, offset)
        return channel.ended
