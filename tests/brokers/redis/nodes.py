"""Two or more nodes without sessions: real brokers on one Redis, and a checker of their streams.

`Stream` is a downstream that is strict: it fails where the broker breaks its contract, and
keeps what came of each channel for the test to look at.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Self

import structlog
from structlog.testing import ReturnLogger

from hub.brokers.redis.broker import RedisBroker
from hub.brokers.redis.options import RedisOptions
from hub.core.counters import Counters
from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import PublishRequest, PublishResult
from hub.core.publication import Position, Publication
from hub.core.pushes import Change, Gap, GapReason, PresenceReset
from tests.support.stream import Push, View
from tests.support.waiting import eventually

# As production, ten times as fast, so that a test sees several rounds.
FAST = RedisOptions(
    node="test",
    command_timeout_seconds=0.5,
    connect_timeout_seconds=1.0,
    subscribe_timeout_seconds=2.0,
    backoff_first_seconds=0.02,
    backoff_max_seconds=0.2,
    canary_seconds=0.1,
    canary_deadline_seconds=0.8,
    reconcile_seconds=0.3,
    linger_seconds=0.05,
)
Item = Publication | Gap | Position


def _push(item: Item) -> Push:
    """As peers are told of it."""
    match item:
        case Publication():
            return {"op": "message", "offset": item.offset, "data": item.data}
        case Gap():
            told = {"epoch": item.epoch, "from": item.first, "to": item.last}
            return {"op": "gap", "reason": item.reason, **told}
        case Position():
            return {"op": "gap", "reason": "reset", "position": str(item)}


@dataclass
class Stream:
    """The items that one node got in one channel, checked as they come."""

    items: list[Item] = field(default_factory=list)
    seen: dict[Position, bytes] = field(default_factory=dict)
    """Data of everything delivered."""
    _view: View = field(default_factory=lambda: View("node"))

    @property
    def head(self) -> Position | None:
        """Where it is; None until it was opened."""
        return None if self._view.position is None else Position(*self._view.position)

    def open(self, head: Position) -> None:
        assert self.head is None, "opened twice"
        self._view.feed({"op": "subscribed", "position": str(head)})

    def add(self, item: Item) -> None:
        self._view.feed(_push(item))
        self._view.check()
        self.items.append(item)
        if isinstance(item, Publication):
            assert self.head is not None
            self.seen[self.head] = item.data

    @property
    def data(self) -> list[bytes]:
        return [item.data for item in self.items if isinstance(item, Publication)]

    @property
    def gaps(self) -> list[Gap]:
        return [item for item in self.items if isinstance(item, Gap)]

    @property
    def lost(self) -> set[int]:
        """Offsets announced as lost between nodes."""
        broker = [gap for gap in self.gaps if gap.reason is GapReason.BROKER]
        return {offset for gap in broker for offset in range(gap.first, gap.last + 1)}

    @property
    def resets(self) -> list[Position]:
        return [item for item in self.items if isinstance(item, Position)]


class TestNode:
    """One broker and what it delivers."""

    __test__ = False

    def __init__(self, url: str, *, options: RedisOptions, namespaces: Namespaces) -> None:
        self.streams: dict[str, Stream] = {}
        self.announced: list[Change | PresenceReset] = []
        self.logged: list[Mapping[str, object]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.counters = Counters()
        self.broker = RedisBroker(
            url=url,
            downstream=self,
            namespaces=namespaces,
            clock=time.monotonic,
            wall_clock=time.time,
            spawn=self._spawn,
            log=structlog.wrap_logger(
                ReturnLogger(), wrapper_class=structlog.BoundLogger, processors=[self._keep]
            ),
            options=options,
            counters=self.counters,
        )

    def _keep(self, _: object, level: str, event: MutableMapping[str, Any]) -> str:
        self.logged.append({**event, "level": level})
        return ""

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(self._run(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, work: Coroutine[object, object, None]) -> None:
        await work

    async def __aenter__(self) -> Self:
        await self.broker.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.broker.stop()
        # One that has ended is discarded a turn of the loop later.
        running = [task for task in self._tasks if not task.done()]
        assert not running, f"still runs after stop: {running}"
        failed = [event for event in self.logged if event["level"] in {"exception", "error"}]
        assert not failed, failed

    # -- hub.core.ports.Downstream -----------------------------------------------------------

    def deliver(self, publication: Publication) -> None:
        if (stream := self.streams.get(publication.channel)) is not None:
            stream.add(publication)

    def lost(self, gap: Gap) -> None:
        if (stream := self.streams.get(gap.channel)) is not None:
            stream.add(gap)

    def reset(self, channel: str, head: Position) -> None:
        if (stream := self.streams.get(channel)) is not None:
            stream.add(head)

    def announce(self, channel: str, change: Change | PresenceReset) -> None:
        self.announced.append(change)

    # -- what tests ask for ------------------------------------------------------------------

    async def subscribe(self, channel: str) -> Stream:
        stream = Stream()

        def on_open(head: Position) -> None:
            stream.open(head)
            self.streams[channel] = stream

        await self.broker.subscribe(channel, on_open)
        return stream

    def unsubscribe(self, channel: str) -> None:
        del self.streams[channel]
        self.broker.unsubscribe(channel)

    async def publish(self, channel: str, data: object, **more: Any) -> PublishResult:
        raw = data if isinstance(data, bytes) else str(data).encode()
        return await self.broker.publish(PublishRequest(channel, raw, "tester", **more))

    async def is_ready(self) -> None:
        await eventually(lambda: not self.broker.problems(), what="readiness")


@contextlib.asynccontextmanager
async def node(
    url: str,
    *,
    options: RedisOptions = FAST,
    namespaces: Mapping[str, ChannelOptions] | None = None,
) -> AsyncGenerator[TestNode]:
    """A node that is connected, unless Redis is away."""
    async with TestNode(
        url, options=options, namespaces=Namespaces(by_name=namespaces or {})
    ) as made:
        yield made
