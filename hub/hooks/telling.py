"""Send events to the application: in batches, signed, retried, bounded.

An event waits some milliseconds for others, and goes with them in one request. A request that is
not answered with a status of 200 to 299 is sent again under the same `webhook-id`, after 1 s, 2 s,
... up to 60 s, each shorter by a random part of up to a half, eight times in all; then it is given
up, counted and logged. Later events wait meanwhile, 16 MiB at most; more are dropped, counted and
logged. One batch is sent at a time, so that events keep their order.
"""

import asyncio
import random
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from structlog.typing import FilteringBoundLogger

from hub.core.counters import Counters
from hub.hooks.calling import Caller, HookError
from hub.hooks.signing import sign

MAX_WAITING_BYTES = 16 * 1024 * 1024
_BATCH_EVENTS = 500
_BATCH_BYTES = 256 * 1024
_GATHER_SECONDS = 0.05
ATTEMPTS = 8
_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 60.0
# The time that a stop waits for events that are not sent yet.
STOP_SECONDS = 2.0
_LOG_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class EventBatch:
    """The events of one request, which is sent as often as necessary."""

    id: str
    body: bytes
    events: int


class EventSender:
    """Sends events to the application; one per node, owned by the event loop."""

    def __init__(  # noqa: PLR0913 - made once
        self,
        caller: Caller,
        *,
        events: frozenset[str],
        secret: bytes,
        node: str,
        wall_clock: Callable[[], float],
        counters: Counters,
        log: FilteringBoundLogger,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take `events`, the types to send, and `secret`, which signs unless it is empty."""
        self.events = events
        self._caller = caller
        self._secret = secret
        self._node = node
        self._wall_clock = wall_clock
        self._counters = counters
        self._log = log
        self._sleep = sleep
        self._waiting: deque[bytes] = deque()
        self.waiting_bytes = 0
        self._came = asyncio.Event()
        self._under_way: EventBatch | None = None
        self._task: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        """The event is set while no request is under way."""
        self._idle.set()
        self._stopping = False
        self._quiet_until_seconds = 0.0

    def tell(
        self, type_: str, fields: Mapping[str, object], at_seconds: float | None = None
    ) -> None:
        """Queue an event; `at_seconds` since 1970 UTC is its time, now without.

        A field `data` of bytes is JSON.
        """
        if type_ not in self.events:
            return
        at_seconds = self._wall_clock() if at_seconds is None else at_seconds
        told = {"type": type_, "time": round(at_seconds, 3), "node": self._node, **fields}
        if isinstance(data := told.get("data"), bytes):
            told["data"] = msgspec.Raw(data)
        event = msgspec.json.encode(told)
        if self.waiting_bytes + len(event) > MAX_WAITING_BYTES:
            self._lost("dropped", 1, f"{self.waiting_bytes:,} bytes of events wait already")
            return
        self._waiting.append(event)
        self.waiting_bytes += len(event)
        self._came.set()

    # -- while it runs -------------------------------------------------------------------------

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Try once to send the queued events, for `STOP_SECONDS` at most."""
        self._stopping = True
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                # To break off a request would have it sent twice.
                await self._idle.wait()
                await self._end()
                while (batch := self._next()) is not None and await self._attempt(batch) is None:
                    self._delivered(batch)
        await self._end()
        left = len(self._waiting) + (self._under_way.events if self._under_way else 0)
        if left:
            self._lost("given_up", left, "the node stops")
        await self._caller.close()

    async def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._came.wait()
                await self._sleep(_GATHER_SECONDS)
                while not self._stopping and (batch := self._next()) is not None:
                    await self._deliver(batch)
            except Exception:  # noqa: BLE001 - a fault of the hub's own must not end the telling
                self._log.exception("webhook_failed")
                self._under_way = None

    def _next(self) -> EventBatch | None:
        """Return the batch under way, or the next; None where nothing waits."""
        if self._under_way is None and self._waiting:
            events: list[bytes] = []
            size = 0
            while self._waiting and len(events) < _BATCH_EVENTS and size < _BATCH_BYTES:
                event = self._waiting.popleft()
                events.append(event)
                size += len(event)
            self.waiting_bytes -= size
            body = b'{"events":[%b]}' % b",".join(events)
            self._under_way = EventBatch(f"msg_{secrets.token_hex(12)}", body, len(events))
        if not self._waiting:
            self._came.clear()
        return self._under_way

    async def _deliver(self, batch: EventBatch) -> None:
        seconds, why = _FIRST_RETRY_SECONDS, ""
        for attempt in range(ATTEMPTS):
            if attempt and self._stopping:
                return
            if attempt:
                # Nodes that fail together do not come back together.
                await self._sleep(seconds * random.uniform(0.5, 1.0))
                seconds = min(seconds * 2, _LAST_RETRY_SECONDS)
            failed = await self._attempt(batch)
            if failed is None:
                self._delivered(batch)
                return
            why = failed
        self._under_way = None
        self._lost("given_up", batch.events, why)

    async def _attempt(self, batch: EventBatch) -> str | None:
        """Send the batch once; return why it failed."""
        self._idle.clear()
        signed = sign(
            self._secret, id_=batch.id, timestamp=int(self._wall_clock()), body=batch.body
        )
        try:
            # A retry because of an unread page would send the events twice.
            status, _ = await self._caller.post(batch.body, signed, whole=())
            if 200 <= status < 300:
                return None
            why = f"the application answered {status}"
        except HookError as error:
            why = str(error)
        finally:
            self._idle.set()
        self._counters.webhook_failures += 1
        return why

    def _delivered(self, batch: EventBatch) -> None:
        self._under_way = None
        self._counters.webhook_events["delivered"] += batch.events

    def _lost(self, outcome: str, events: int, why: str) -> None:
        self._counters.webhook_events[outcome] += events
        now = self._wall_clock()
        if outcome == "given_up" or now >= self._quiet_until_seconds:
            self._quiet_until_seconds = now + _LOG_SECONDS
            self._log.warning("webhook_events_lost", outcome=outcome, events=events, reason=why)
