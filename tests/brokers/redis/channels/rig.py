"""Fakes for the parts of a shard: there is no Redis, and the downstream notes what comes."""

import asyncio
from collections.abc import Coroutine

from hub.brokers.redis.options import RedisOptions, ShardContext, Tasks
from hub.brokers.tracker import HoldBudget
from hub.core.counters import Counters
from hub.core.options import ChannelOptions, Namespaces
from hub.core.publication import Position, Publication
from hub.core.pushes import Change, Gap, PresenceReset
from tests.brokers.redis.fakes import Log
from tests.core.fakes import FakeClock


class Noted:
    """A downstream; publications as their data, gaps and resets in short."""

    def __init__(self) -> None:
        self.items: list[object] = []

    def deliver(self, publication: Publication) -> None:
        self.items.append(publication.data)

    def lost(self, gap: Gap) -> None:
        self.items.append((gap.reason.value, gap.first, gap.last))

    def reset(self, channel: str, head: Position) -> None:
        self.items.append((channel, head))

    def announce(self, channel: str, change: Change | PresenceReset) -> None:
        self.items.append((channel, change))


class PubSubNames:
    """A `PubSub` that notes what is wanted; everything wanted is heard."""

    def __init__(self) -> None:
        self.wanted: list[bytes] = []
        self.barriers = 0

    def add(self, name: bytes) -> None:
        self.wanted.append(name)

    def remove(self, name: bytes) -> None:
        self.wanted.remove(name)

    def hears(self, name: bytes) -> bool:
        return name in self.wanted

    async def barrier(self) -> None:
        self.barriers += 1
        await asyncio.sleep(0)


class ShardRig:
    def __init__(self, options: RedisOptions | None = None, *, allow_raw: bool = False) -> None:
        self.noted, self.log, self.counters, self.clock = Noted(), Log(), Counters(), FakeClock()
        self.options = options or RedisOptions()
        self.pubsub = PubSubNames()
        self._running: set[asyncio.Task[None]] = set()
        self.tasks = Tasks(self._spawn)
        self.context = ShardContext(
            namespaces=Namespaces(ChannelOptions(allow_raw=allow_raw)),
            options=self.options,
            downstream=self.noted,
            clock=self.clock,
            wall_clock=self.clock.wall,
            spawn=self.tasks.spawn,
            log=self.log.logger,
            counters=self.counters,
            hold_budget=HoldBudget(
                channel_messages=100, channel_bytes=10**6, total_bytes=10**6, counters=self.counters
            ),
        )

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        async def run() -> None:
            await work

        task = asyncio.create_task(run())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
