"""The embedded broker: one node, history in this process, nothing survives a restart.

A restart begins a new epoch in every channel, so a resuming subscriber gets a `reset` and
never a repeated offset with other data.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence

from hub.brokers.idempotency import IdempotencyKeys
from hub.brokers.memory_log import ChannelLog
from hub.core.options import Namespaces
from hub.core.ports import (
    PAGE_BYTES,
    Downstream,
    HistoryPage,
    Monotonic,
    OnOpen,
    PublishRequest,
    PublishResult,
)
from hub.core.publication import Position, Publication
from hub.core.records import BrokerRecord
from hub.errors import UnavailableError

# How many channels one call of `sweep` looks at: 0.3 ms, so that 100,000 are through in 10 s
# when it is called ten times a second.
_SWEEP_CHANNELS = 1000


class MemoryBroker:
    """Implements `hub.core.ports.Broker`.

    Args:
        downstream: gets each publication of a subscribed channel, in order.
        position_ttl_seconds: how long a quiet channel without sessions keeps its epoch.
        max_channels: beyond it the channel unused longest is forgotten; its subscribers
            come back to a `reset`.
    """

    answers_at_once = True

    def __init__(
        self,
        *,
        downstream: Downstream,
        namespaces: Namespaces,
        clock: Monotonic,
        wall_clock: Callable[[], float],
        idempotency: IdempotencyKeys,
        position_ttl_seconds: float,
        max_channels: int,
    ) -> None:
        self._downstream = downstream
        self._namespaces = namespaces
        self._clock = clock
        self._wall_clock = wall_clock
        self._idempotency = idempotency
        self._position_ttl_seconds = position_ttl_seconds
        self._max_channels = max_channels
        self._logs: dict[str, ChannelLog] = {}
        """In the order they were used last, the most recent at the end."""
        self._to_sweep: list[str] = []

    async def publish(self, request: PublishRequest) -> PublishResult:
        """Number, keep and deliver.

        Raises `ConflictError` for an idempotency key used with other data, and
        `UnavailableError` when a bound of this node is reached.
        """
        if (made := self._idempotency.find(request)) is not None:
            return made
        log = self._log(request.channel)
        publication = Publication(
            request.channel,
            log.offset + 1,
            request.data,
            int(self._wall_clock() * 1000),
            request.key,
            request.sender,
            request.skip_connection,
            request.trace,
        )
        log.append(publication)
        self._idempotency.remember(request, log.head)
        if log.subscribed:
            self._downstream.deliver(publication)
        return PublishResult(log.head)

    async def subscribe(self, channel: str, on_open: OnOpen) -> None:
        log = self._log(channel)
        log.subscribed = True
        on_open(log.head)

    def unsubscribe(self, channel: str) -> None:
        if (log := self._logs.get(channel)) is not None:
            log.subscribed = False

    async def history(
        self, channel: str, after: int, limit: int, *, max_bytes: int = PAGE_BYTES
    ) -> HistoryPage:
        """A page; a channel nobody has used yet gets its epoch now."""
        log = self._log(channel)
        log.trim(int(self._wall_clock() * 1000))
        page = log.page(after, limit, max_bytes)
        if limit > 1 and 0 < page.last < log.offset:
            # More will be asked for: let others have their turn between two pages.
            await asyncio.sleep(0)
        return page

    async def start(self) -> None:
        """Nothing to connect to."""

    async def stop(self) -> None:
        """Nothing to end."""

    def problems(self) -> Sequence[str]:
        return ()

    def record(self) -> BrokerRecord:
        """There is nothing outside this process."""
        return BrokerRecord()

    def names(self) -> Sequence[str]:
        """Of the channels that have a position."""
        return tuple(self._logs)

    def held(self, channel: str) -> tuple[Position, int | None] | None:
        """The head of a channel and how many publications are held; None for an unknown one."""
        if (log := self._logs.get(channel)) is None:
            return None
        log.trim(int(self._wall_clock() * 1000))
        return log.head, len(log)

    def _log(self, channel: str) -> ChannelLog:
        now = self._clock()
        if (log := self._logs.pop(channel, None)) is None:
            self._make_room()
            # An epoch is never used twice for a channel: 48 random bits each time.
            epoch = secrets.token_hex(6)
            log = ChannelLog(epoch, self._namespaces.options(channel), now)
        log.used_at_seconds = now
        self._logs[channel] = log
        return log

    def _make_room(self) -> None:
        if len(self._logs) < self._max_channels:
            return
        idle = next((name for name, log in self._logs.items() if not log.subscribed), None)
        if idle is None:
            raise UnavailableError(f"the node holds {self._max_channels:,} channels in use")
        del self._logs[idle]

    def sweep(self) -> None:
        """Forget what is too old, a part of the channels in each call; call it regularly."""
        if not self._to_sweep:
            self._to_sweep = list(self._logs)
        now, now_ms = self._clock(), int(self._wall_clock() * 1000)
        part, self._to_sweep = self._to_sweep[:_SWEEP_CHANNELS], self._to_sweep[_SWEEP_CHANNELS:]
        for name in part:
            if (log := self._logs.get(name)) is None:
                continue
            log.trim(now_ms)
            if not log.subscribed and log.used_at_seconds < now - self._position_ttl_seconds:
                del self._logs[name]
