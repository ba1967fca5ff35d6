"""A node that hears of publications later than history has them, as behind pub/sub.

What comes in waits until a test lets it arrive. Some of it may get lost on its way; like
`hub.brokers.redis` the node then reads it from history in order, or announces it as lost. An
epoch begins here when the first thing of it arrives, or when history is read.
"""

from collections import deque
from dataclasses import dataclass

from hub.core.fanout.channels import Channel
from hub.core.ports import PAGE_BYTES, HistoryPage
from hub.core.publication import Position, Publication
from hub.core.pushes import Change, Gap, GapReason, PresenceReset
from tests.core.small_node import Shape, SmallNode

ALL = 1 << 30


@dataclass
class OnItsWay:
    """One thing that pub/sub carries; None for what only says that the epoch is a new one."""

    item: Publication | Change | PresenceReset | None
    epoch: str
    lost: bool = False


class LaggingNode(SmallNode):
    """`arrive` lets it hear of what comes next, `catch_up` of all there is."""

    def __init__(self, shape: Shape | None = None) -> None:
        self.on_their_way: dict[str, deque[OnItsWay]] = {}
        super().__init__(shape)
        self._history = self.memory.history
        self.memory.history = self._history_of_a_node_that_is_there  # type: ignore[method-assign]  # what both brokers are asked, in one place

    async def _history_of_a_node_that_is_there(
        self, channel: str, after: int, limit: int, *, max_bytes: int = PAGE_BYTES
    ) -> HistoryPage:
        """A peer that is shown an epoch is at a node that has reached it."""
        page = await self._history(channel, after, limit, max_bytes=max_bytes)
        if (known := self.channels.get(channel)) is not None:
            self._enter_epoch(known)
        return page

    # -- hub.core.ports.Downstream -----------------------------------------------------------

    def deliver(self, publication: Publication) -> None:
        self._send(publication.channel, publication, lost=self.losing)

    def announce(self, channel: str, change: Change | PresenceReset) -> None:
        self._send(channel, change)

    def reset(self, channel: str, head: Position) -> None:
        self._send(channel, None, epoch=head.epoch)

    def _send(
        self,
        channel: str,
        item: Publication | Change | PresenceReset | None,
        *,
        epoch: str | None = None,
        lost: bool = False,
    ) -> None:
        waiting = self.on_their_way.setdefault(channel, deque())
        waiting.append(OnItsWay(item, epoch or self.memory._logs[channel].epoch, lost))

    # -- what a test lets happen -------------------------------------------------------------

    def lose(self, channel: str, index: int) -> None:
        """Loses the publication at this place of the queue."""
        waiting = self.on_their_way.get(channel, deque())
        if index < len(waiting) and isinstance(waiting[index].item, Publication):
            waiting[index].lost = True

    def arrive(self, name: str, count: int = 1) -> None:
        waiting = self.on_their_way.get(name, deque())
        for _ in range(min(count, len(waiting))):
            arrived = waiting.popleft()
            # Nobody here, or gone and come back since: they begin at the head.
            if (channel := self.channels.get(name)) is not None and not arrived.lost:
                self._take(channel, arrived)

    def _take(self, channel: Channel, arrived: OnItsWay) -> None:
        current = self.memory._logs[channel.name].epoch
        match arrived.item:
            case Publication() as publication:
                if arrived.epoch == current:
                    self._enter_epoch(channel)
                if arrived.epoch == channel.epoch and publication.offset > channel.offset:
                    self._fill(channel, publication.offset - 1)
                    # It may have been in history, and so have come with what was missing.
                    if publication.offset > channel.offset:
                        self.downstream.deliver(publication)
            case None:
                self._enter_epoch(channel)
            case change:
                self.downstream.announce(channel.name, change)

    def catch_up(self, name: str) -> None:
        """All that is on its way arrives, and then the node compares its head with history's."""
        self.arrive(name, ALL)
        if (channel := self.channels.get(name)) is not None:
            self._enter_epoch(channel)
            self._fill(channel, self.memory._logs[name].offset)

    # -- what hub.brokers.redis does ---------------------------------------------------------

    def _enter_epoch(self, channel: Channel) -> None:
        log = self.memory._logs[channel.name]
        if log.epoch != channel.epoch:
            self.downstream.reset(channel.name, Position(log.epoch, log.oldest - 1))

    def _fill(self, channel: Channel, through: int) -> None:
        """Delivers what is missing up to `through` from history, or announces it as lost."""
        log = self.memory._logs[channel.name]
        kept = (
            log.page(channel.offset, ALL, now_seconds=0.0)[0].publications
            if log.epoch == channel.epoch
            else ()
        )
        for publication in kept:
            if publication.offset <= through:
                self._give_up(channel, publication.offset - 1)
                self.downstream.deliver(publication)
        self._give_up(channel, through)

    def _give_up(self, channel: Channel, last: int) -> None:
        if last > channel.offset:
            first = channel.offset + 1
            self.lost_offsets |= {(channel.name, channel.epoch, n) for n in range(first, last + 1)}
            self.lost(Gap(channel.name, channel.epoch, first, last, GapReason.BROKER))
