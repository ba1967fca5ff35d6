"""The embedded broker: one node, history in this process, nothing survives a restart.

A restart begins a new epoch in every channel, so a resuming subscriber gets a `reset` and
never a repeated offset with other data.
"""

import asyncio
from collections.abc import Callable, Sequence

from hub.brokers.idempotency import IdempotencyKeys
from hub.brokers.memory_history import ChannelLog, HistoryBudget
from hub.brokers.memory_names import Epochs, MemoryDirectory
from hub.brokers.rounds import Rounds
from hub.core.node_records import BrokerRecord
from hub.core.options import MIB, Namespaces
from hub.core.ports import (
    PAGE_BYTES,
    Appearances,
    Downstream,
    HistoryPage,
    Monotonic,
    OnOpen,
    PublishRequest,
    PublishResult,
    StatePage,
)
from hub.core.publication import Position, Publication
from hub.errors import HubError, UnavailableError

# How many channels one call of `sweep` looks at: 0.3 ms, so that 100,000 are through in 10 s
# when it is called ten times a second.
_SWEEP_CHANNELS = 1000
# Of those the ones that are forgotten: 10 us each.
FORGOTTEN_AT_ONCE = 400
# How long operators see a channel that was subscribed to and never published in. A subscriber that
# returns later finds the same epoch. A guess.
_UNUSED_SECONDS = 300.0


class MemoryBroker:
    """Implements `hub.core.ports.Broker`.

    Args:
        downstream: gets each publication of a subscribed channel, in order.
        position_ttl_seconds: how long a quiet channel without sessions keeps its epoch.
        max_channels: beyond it a channel without sessions is forgotten, one that holds no history
            before one that does, of each the one unused longest; subscribers that come back to it
            get a `reset`.
        history_total_bytes: bytes of all histories; beyond it the oldest publications go.
        rows_total_bytes: bytes of all rows of state; None where they share history's.
        epochs: those of an earlier run, where they go on.
        on_forgotten: gets a channel whose epoch has ended, and the result of `Epochs.end`.
    """

    answers_at_once = True
    publish_soon = None
    publish_many = None

    def __init__(  # noqa: PLR0913 - what every broker is offered, and its bounds
        self,
        *,
        downstream: Downstream,
        namespaces: Namespaces,
        clock: Monotonic,
        wall_clock: Callable[[], float],
        idempotency: IdempotencyKeys,
        position_ttl_seconds: float,
        max_channels: int,
        history_total_bytes: int = 256 * MIB,
        rows_total_bytes: int | None = None,
        epochs: Epochs | None = None,
        on_forgotten: Callable[[ChannelLog, tuple[int, int]], None] = lambda *_: None,
    ) -> None:
        self._downstream = downstream
        self._namespaces = namespaces
        self._clock = clock
        self._wall_clock = wall_clock
        self._idempotency = idempotency
        self._position_ttl_seconds = position_ttl_seconds
        self._max_channels = max_channels
        self._history = HistoryBudget(history_total_bytes, self.place, rows_total_bytes)
        self._epochs = epochs or Epochs()
        self._on_forgotten = on_forgotten
        self._logs: dict[str, ChannelLog] = {}
        self._unused: dict[str, ChannelLog] = {}
        """Channels without subscribers, in the order of their last use: those without a
        publication, so that forgetting them loses nothing."""
        self._without_history: dict[str, ChannelLog] = {}
        """The same, of channels whose publications are all gone."""
        self._with_history: dict[str, ChannelLog] = {}
        """The same, of channels that hold publications or rows."""
        self._in_use: dict[str, ChannelLog] = {}
        """Channels with subscribers, or with a commit under way."""
        self._rounds: Rounds[ChannelLog] = Rounds(lambda log: self._logs.get(log.name) is log)
        self._directory = MemoryDirectory(self._logs)

    async def publish(self, request: PublishRequest) -> PublishResult:
        """Publish like `publish_now`: nothing in it waits."""
        return self.publish_now(request)

    def publish_now(self, request: PublishRequest) -> PublishResult:
        """Number, keep and deliver.

        Raises `ConflictError` for an idempotency key used with other data, and
        `UnavailableError` when a bound of this node is reached.
        """
        now = self._clock()
        if (log := self._logs.get(request.channel)) is None:
            log = self._make(request.channel, now)
        log.used_at_seconds = now
        if request.idempotency_key is not None:
            made = self._idempotency.find(request, epoch=log.epoch)
            if made is not None:
                return made
        time_ms = int(self._wall_clock() * 1000)
        publication = request.numbered(log.name, log.offset + 1, time_ms)
        return PublishResult(self.take(log, publication, request))

    def take(self, log: ChannelLog, publication: Publication, request: PublishRequest) -> Position:
        """Keep and deliver the next publication of `log`, which is numbered; return its
        position."""
        follows_end = log.ends
        if publication.offset == 1:
            self._directory.began(log.name)
        log.append(publication, log.used_at_seconds)
        head = Position(log.epoch, publication.offset)
        if request.idempotency_key is not None:
            self._idempotency.remember(request, head)
        if log.subscribed:
            self._downstream.deliver(publication)
        elif self._with_history.pop(log.name, None) is not None:
            # Nearly always: it holds something already, so it stays in that order, as the last.
            self._with_history[log.name] = log
        else:
            self.place(log)
        if follows_end and publication.offset > 1:
            # Behind the delivery: a pattern's session that left at the end comes back with this
            # one.
            self._directory.began(log.name)
        return head

    def publish_many_now(
        self, requests: Sequence[PublishRequest]
    ) -> Sequence[PublishResult | HubError]:
        """Publish each like `publish_now`; consecutive ones of one channel cost one look."""
        outcomes: list[PublishResult | HubError] = []
        begin, count = 0, len(requests)
        while begin < count:
            first, end = requests[begin], begin + 1
            if first.idempotency_key is None:
                channel = first.channel
                while (
                    end < count
                    and requests[end].channel == channel
                    and requests[end].idempotency_key is None
                ):
                    end += 1
            if end - begin == 1:
                outcomes.append(self._outcome(first))
            else:
                outcomes += self._publish_run(requests[begin:end])
            begin = end
        return outcomes

    def _outcome(self, request: PublishRequest) -> PublishResult | HubError:
        try:
            return self.publish_now(request)
        except HubError as error:
            return error

    def _publish_run(
        self, requests: Sequence[PublishRequest]
    ) -> Sequence[PublishResult | HubError]:
        """Publish in one channel; none of them has an idempotency key."""
        try:
            log = self.log(requests[0].channel)
        except HubError as error:
            return [error] * len(requests)
        name, epoch, time_ms = log.name, log.epoch, int(self._wall_clock() * 1000)
        publications = [
            request.numbered(name, offset, time_ms)
            for offset, request in enumerate(requests, log.offset + 1)
        ]
        follows_end = bool(log.offset) and log.ends
        if not log.offset:
            self._directory.began(name)
        log.extend(publications, log.used_at_seconds)
        if log.subscribed:
            for publication in publications:
                self._downstream.deliver(publication)
        else:
            self.place(log)
        if follows_end:
            self._directory.began(name)
        return [PublishResult(Position(epoch, each.offset)) for each in publications]

    async def subscribe(self, channel: str, on_open: OnOpen) -> None:
        log = self.log(channel)
        log.subscribed = True
        self.place(log)
        on_open(log.head)

    def unsubscribe(self, channel: str) -> None:
        if (log := self._logs.get(channel)) is None:
            return
        log.subscribed = False
        log.used_at_seconds = self._clock()
        self.place(log)

    async def history(
        self, channel: str, after: int, limit: int, *, max_bytes: int = PAGE_BYTES
    ) -> HistoryPage:
        """Return a page; for an unused channel an empty one, in the epoch that it will have."""
        if (log := self._logs.get(channel)) is None:
            return HistoryPage(Position(self._epochs.next(channel), 0), 1, ())
        log.used_at_seconds = now = self._clock()
        log.trim(now)
        self.place(log)
        page, seen = log.page(after, limit, max_bytes, now_seconds=now)
        while not page.publications and seen < log.offset and self._logs.get(channel) is log:
            await asyncio.sleep(0)
            page, seen = log.page(seen, limit, max_bytes, now_seconds=now)
        if limit > 1 and 0 < page.last < log.offset:
            # More will be asked for: let others have their turn between two pages.
            await asyncio.sleep(0)
        return page

    async def state(
        self,
        channel: str,
        after: str,
        limit: int,
        *,
        upto: int | None = None,
        max_bytes: int = PAGE_BYTES,
    ) -> StatePage:
        """Return a page; for an unused channel an empty one, in the epoch that it will have."""
        if (log := self._logs.get(channel)) is None:
            return StatePage(Position(self._epochs.next(channel), 0), (), None)
        log.used_at_seconds = now = self._clock()
        log.trim(now)
        self.place(log)
        if log.rows is None:
            return StatePage(log.head, (), None)
        page = log.rows.page(
            log.head, after, limit, upto=upto, max_bytes=max_bytes, now_seconds=now
        )
        if page.next is not None:
            # As above.
            await asyncio.sleep(0)
        return page

    async def clear(self, channel: str) -> None:
        """Delete the history; rows of a keyed channel stay."""
        if (log := self._logs.get(channel)) is not None:
            log.let_go(log.offset)
            self.place(log)

    def expect(self, channels: Sequence[str]) -> None:
        """Do nothing: `subscribe` does not wait."""

    def follow(self, appearances: Appearances) -> None:
        """Tell of each channel that appears, before its first publication."""
        self._directory.follow(appearances)

    def unfollow(self) -> None:
        self._directory.unfollow()

    async def matching(self, pattern: str, most: int) -> Sequence[str]:
        return await self._directory.matching(pattern, most)

    async def start(self) -> None:
        """Do nothing: there is nothing to connect to."""

    async def stop(self) -> None:
        """Do nothing: there is nothing to end."""

    def impaired(self) -> Sequence[str]:
        """Return nothing: the broker takes all that it can number."""
        return ()

    def away(self) -> Sequence[str]:
        """Return nothing: the broker is this process."""
        return ()

    def problems(self) -> Sequence[str]:
        return ()

    def record(self) -> BrokerRecord:
        """Return figures of this process: there is no server outside it."""
        history = self._history
        return BrokerRecord(
            history_bytes=history.bytes,
            history_limit_bytes=history.max_bytes,
            state_rows=history.row_count,
            state_row_bytes=history.row_bytes,
        )

    def names(self) -> Sequence[str]:
        """Return the channels that have a position; the next to be forgotten come first."""
        return (
            *self._unused,
            *self._without_history,
            *self._with_history,
            *self._in_use,
        )

    def held(self, channel: str) -> tuple[Position, int | None] | None:
        """Return a channel's head and how many publications are held; None for an unknown one."""
        if (log := self._logs.get(channel)) is None:
            return None
        log.trim(self._clock())
        return log.head, len(log)

    def rows_held(self, channel: str) -> tuple[int, int] | None:
        """Return how many rows a keyed channel has, and their bytes."""
        log = self._logs.get(channel)
        return None if log is None else log.rows_held()

    def find(self, channel: str) -> ChannelLog | None:
        """Return the log of a channel that has a position, else None."""
        return self._logs.get(channel)

    def restore(self, head: Position, channel: str, used_at_seconds: float) -> ChannelLog:
        """Go on with a channel of an earlier run; its publications are kept elsewhere."""
        options = self._namespaces.options(channel)
        log = ChannelLog(channel, head.epoch, options, used_at_seconds, self._history)
        log.offset = head.offset
        self._logs[channel] = log
        self._rounds.add(log)
        self.place(log)
        return log

    def log(self, channel: str) -> ChannelLog:
        """Return the log of a channel that is used now; raise `UnavailableError` without room."""
        now = self._clock()
        if (log := self._logs.get(channel)) is None:
            log = self._make(channel, now)
        log.used_at_seconds = now
        return log

    def _make(self, channel: str, now_seconds: float) -> ChannelLog:
        self._make_room()
        epoch, options = self._epochs.next(channel), self._namespaces.options(channel)
        log = ChannelLog(channel, epoch, options, now_seconds, self._history)
        self._logs[channel] = log
        self._rounds.add(log)
        return log

    def place(self, log: ChannelLog) -> None:
        """Put `log` at the end of the order it belongs to now, if it belongs to one."""
        name = log.name
        self._unused.pop(name, None)
        self._without_history.pop(name, None)
        self._with_history.pop(name, None)
        if log.subscribed or log.pinned:
            self._in_use[name] = log
            return
        self._in_use.pop(name, None)
        if len(log) or log.stored or log.rows:
            self._with_history[name] = log
        elif log.offset:
            self._without_history[name] = log
        else:
            self._unused[name] = log

    def _make_room(self) -> None:
        if len(self._logs) < self._max_channels:
            return
        for order in (self._unused, self._without_history, self._with_history):
            for log in order.values():
                self._forget(log)
                return
        raise UnavailableError(f"the node holds {self._max_channels:,} channels in use")

    def _forget(self, log: ChannelLog) -> None:
        log.clear()
        del self._logs[log.name]
        self._unused.pop(log.name, None)
        self._without_history.pop(log.name, None)
        self._with_history.pop(log.name, None)
        self._in_use.pop(log.name, None)
        if log.offset:
            self._directory.ended(log.name)
            self._on_forgotten(log, self._epochs.end(log.name))

    def sweep(self) -> None:
        """Forget old publications and channels, some channels in each call; call it regularly."""
        self._idempotency.sweep()
        self._history.begin_turn()
        now, left = self._clock(), FORGOTTEN_AT_ONCE
        for log in self._rounds.some(_SWEEP_CHANNELS):
            log.trim(now)
            keep_seconds = self._position_ttl_seconds if log.offset else _UNUSED_SECONDS
            in_use = log.subscribed or log.pinned or log.rows
            if not in_use and log.used_at_seconds < now - keep_seconds:
                self._forget(log)
                left -= 1
                if not left:
                    return
