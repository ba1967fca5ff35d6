"""Redis in each of its shapes, under a story: what can happen to it there, told at random.

A `Deployment` knows its servers and its own bad luck; `Wide` is a story over one. What breaks
between a node and Redis is made by CLIENT KILL, again and again, which works in every shape.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from hub.brokers.redis.topology import slots
from tests.multi_node import story as ordinary
from tests.multi_node.story import Lane, Step, Story, publish_many, steps, while_publishing
from tests.support.redis_cluster import SLOTS, RedisCluster
from tests.support.redis_sentinel import SentinelSet
from tests.support.redis_server import RedisServer
from tests.support.stream import Place, View
from tests.support.waiting import eventually

STEPS = steps(8)
# Each costs seconds.
MAX_FAILOVERS = max(4, STEPS // 8)
MAX_RESTARTS = max(2, STEPS // 16)
# Sentinels agree, promote, and try again where that takes too long.
FAILOVER_SECONDS = 60.0
# A replica has five for one that an operator asks for.
ELECTION_SECONDS = 6.0


class Deployment(Protocol):
    """A running one, and what can go wrong in no other."""

    @property
    def url(self) -> str: ...

    @property
    def living(self) -> Sequence[RedisServer]:
        """Those that clients may be connected to."""
        ...

    def steps(self) -> list[Step]: ...


@dataclass
class Wide(Story):
    """A story whose Redis has a shape."""

    deployment: Deployment = field(kw_only=True)
    ends: int = 0
    """How often epochs may have ended."""

    async def end(self) -> list[str]:
        self.redis = self.deployment.living[0]
        self.redis_kills = self.ends
        found = await super().end()
        return found + [fault for lane in self.lanes for fault in _late_answers(lane)]

    async def close(self) -> None:
        for server in self.deployment.living:
            server.thaw()
        await super().close()


def _late_answers(lane: Lane) -> Iterator[str]:
    """Yields the publications that were asked for after a subscriber's reset and got an
    offset in the epoch before it."""
    for seat in lane.seats:
        for place, asked_at in lane.asked_at.items():
            if _had_left(seat.view, place, asked_at):
                yield f"{seat.view.name} had left {place} before it was asked for"


def _had_left(view: View, place: Place, asked_at: float) -> bool:
    return view.left_at.get(place[0], asked_at) < asked_at


# -- anywhere --------------------------------------------------------------------------------------


def _kill(server: RedisServer, name: str) -> None:
    """The connections whose client has this in its name."""
    for line in server.ask("CLIENT", "LIST").split(b"\n"):
        fields = dict(part.partition(b"=")[::2] for part in line.split(b" "))
        if name.encode() in fields.get(b"name", b""):
            server.ask("CLIENT", "KILL", "ID", fields[b"id"])


async def _cut(story: Story, name: str, seconds: float) -> None:
    assert isinstance(story, Wide)
    story.calm = False
    working = asyncio.create_task(publish_many(story))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for server in story.deployment.living:
            with contextlib.suppress(OSError):
                _kill(server, name)
        await asyncio.sleep(0.05)
    await working


async def a_node_hears_nothing(story: Story) -> None:
    """A node gets no pub/sub messages for a while, but publishes."""
    number = story.chance.randrange(len(story.nodes))
    await _cut(story, f"hub:node-{number}:subscriber", story.chance.uniform(0.1, 1.5))


async def a_node_says_nothing(story: Story) -> None:
    """A node cannot publish for a while, but gets pub/sub messages."""
    number = story.chance.randrange(len(story.nodes))
    await _cut(story, f"hub:node-{number}:commands", story.chance.uniform(0.1, 1.5))


async def everybody_is_cut(story: Story) -> None:
    await _cut(story, "hub:node-", 0.02)


async def a_server_stands_still(story: Story) -> None:
    """For a moment, while there is work; shorter than whatever takes it for dead."""
    assert isinstance(story, Wide)
    story.calm = False
    server = story.chance.choice(story.deployment.living)
    server.freeze()
    asyncio.get_running_loop().call_later(story.chance.uniform(0.02, 0.25), server.thaw)
    await publish_many(story)
    server.thaw()


CALM: list[Step] = [
    ordinary.publish_some, ordinary.publish_many, ordinary.someone_comes, ordinary.someone_moves,
    ordinary.someone_leaves, ordinary.a_channel_is_born,
]  # fmt: skip
FAULTS: list[Step] = [
    a_node_hears_nothing, a_node_says_nothing, everybody_is_cut, a_server_stands_still,
    ordinary.a_node_stands_still, ordinary.node_dies,
]  # fmt: skip


# -- one server, or several ------------------------------------------------------------------------


@dataclass
class Servers:
    """Several Redis servers that know nothing of each other."""

    servers: Sequence[RedisServer]
    restarts: int = 0

    @property
    def url(self) -> str:
        return ",".join(server.url for server in self.servers)

    @property
    def living(self) -> Sequence[RedisServer]:
        return self.servers

    def steps(self) -> list[Step]:
        return [self.one_begins_anew] * 2

    async def one_begins_anew(self, story: Story) -> None:
        """Without its tail, or without anything, in the middle of work."""
        assert isinstance(story, Wide)
        if self.restarts == MAX_RESTARTS:
            return
        self.restarts += 1
        story.calm = False
        story.ends += 1
        server = story.chance.choice(self.servers)
        if keeps := story.chance.random() < 0.7:
            server.ask("SAVE")
        async with while_publishing(story, 0.1):
            await asyncio.to_thread(server.restart, empty=not keeps)


@contextlib.contextmanager
def servers(count: int) -> Iterator[Servers]:
    with contextlib.ExitStack() as stack:
        # `save` with no moments: only when it is asked for.
        yield Servers([stack.enter_context(RedisServer()) for _ in range(count)])


# -- Sentinel ------------------------------------------------------------------------------------


@dataclass
class Sentinels:
    redis: SentinelSet
    failovers: int = 0

    @property
    def url(self) -> str:
        return self.redis.url

    @property
    def living(self) -> Sequence[RedisServer]:
        return [self.redis.master, *(s for s in self.redis.servers if s is not self.redis.master)]

    def steps(self) -> list[Step]:
        return [self.there, self.there_and_back, self.there_and_back, self.master_freezes]

    def _begin(self, story: Story, count: int) -> bool:
        assert isinstance(story, Wide)
        if self.failovers + count > MAX_FAILOVERS:
            return False
        self.failovers += count
        story.ends += count
        story.calm = False
        return True

    async def there(self, story: Story) -> None:
        """A planned failover in the middle of work, and the former master follows."""
        if self._begin(story, 1):
            working = asyncio.create_task(publish_many(story))
            await self._fail_over()
            await working
            await self._is_settled()

    async def there_and_back(self, story: Story) -> None:
        """The first one leads again before anybody has made it a replica."""
        if self._begin(story, 2):
            working = asyncio.create_task(publish_many(story))
            await self._fail_over()
            await asyncio.sleep(story.chance.uniform(0, 3))
            await self._fail_over()
            await working
            await self._is_settled()

    async def _fail_over(self) -> None:
        former = self.redis.master

        def asked() -> bool:
            sentinel = self.redis.sentinels[0]
            if self.redis.master is former:
                sentinel.ask("SENTINEL", "FAILOVER", "hub-test")
            return self.redis.master is not former

        await eventually(asked, seconds=FAILOVER_SECONDS, what="a failover")

    async def master_freezes(self, story: Story) -> None:
        """The master wakes up after it was replaced, and still has what it was sent meanwhile."""
        if self._begin(story, 1):
            master = self.redis.master
            master.freeze()
            working = asyncio.create_task(publish_many(story))
            await eventually(
                lambda: self.redis.master is not master, seconds=FAILOVER_SECONDS, what="a failover"
            )
            await asyncio.sleep(story.chance.choice((0.0, 0.2, 1.0)))
            master.thaw()
            await working
            await self._is_settled()

    async def _is_settled(self) -> None:
        def settled() -> bool:
            return b"state=online" in self.redis.master.ask("INFO", "replication")

        await eventually(settled, seconds=FAILOVER_SECONDS, what="a replica")


@contextlib.contextmanager
def sentinels(**configuration: str) -> Iterator[Sentinels]:
    with SentinelSet(**configuration) as redis:  # type: ignore[arg-type] # of the servers
        # A busy machine must not make masters dead at random.
        redis.be_patient(milliseconds=2000)
        yield Sentinels(redis)


# -- Cluster -------------------------------------------------------------------------------------


@dataclass
class Clustered:
    redis: RedisCluster
    leads: list[RedisServer]
    """The masters now, of each third of the slots."""
    follows: RedisServer
    """The replica of the first."""
    moved: dict[int, int] = field(default_factory=dict)
    """Slots that are not where they were: which of `leads` has them."""
    failovers: int = 0

    @property
    def url(self) -> str:
        return self.redis.url

    @property
    def living(self) -> Sequence[RedisServer]:
        return self.leads

    def steps(self) -> list[Step]:
        return [
            self.slot_moves, self.slot_moves, self.slot_there_and_back, self.replica_takes_over,
        ]  # fmt: skip

    async def slot_moves(self, story: Story) -> None:
        """In order, in the middle of work: nothing is lost, and nothing may be announced."""
        working = asyncio.create_task(publish_many(story))
        await self._move(story, slots.slot(story.lane().channel))
        await working

    async def slot_there_and_back(self, story: Story) -> None:
        working = asyncio.create_task(publish_many(story))
        slot = slots.slot(story.lane().channel)
        before = self._owner(slot)
        await self._move(story, slot)
        await self._move(story, slot, before)
        await working

    def _owner(self, slot: int) -> int:
        return self.moved.get(slot, slot * 3 // SLOTS)

    async def _move(self, story: Story, slot: int, to: int | None = None) -> None:
        source = self._owner(slot)
        target = to if to is not None else (source + story.chance.choice((1, 2))) % 3
        way = (slot, self.leads[source], self.leads[target])
        for step in (self.redis.begin_move, self.redis.move_keys, self.redis.end_move):
            await asyncio.sleep(story.chance.choice((0, 0.01, 0.1)))
            await asyncio.to_thread(step, *way)
        self.moved[slot] = target

    async def replica_takes_over(self, story: Story) -> None:
        """As an operator does before maintenance."""
        assert isinstance(story, Wide)
        if self.failovers == MAX_FAILOVERS:
            return
        self.failovers += 1
        story.ends += 1
        story.calm = False
        working = asyncio.create_task(publish_many(story))
        new, former = self.follows, self.leads[0]
        taking_over = _TakingOver(new)
        await eventually(taking_over.is_done, seconds=FAILOVER_SECONDS, what="a failover")
        story.ends += 2 * (taking_over.elections - 1)
        self.leads[0], self.follows = new, former
        await working


@dataclass
class _TakingOver:
    """A replica is asked to lead until another one follows it.

    A slot that came to the former master at the same moment gives it the config epoch of the
    election, too. The cluster settles that, and where the former master keeps its slots the
    replica, which took itself for a master meanwhile, follows it again.
    """

    replica: RedisServer
    elections: int = 0
    _leads: bool = False
    _asked_at: float = -math.inf

    def is_done(self) -> bool:
        told = self.replica.ask("INFO", "replication")
        led, self._leads = self._leads, b"role:master" in told
        self.elections += self._leads and not led
        # Asking once more while it is at it would have it begin anew.
        may_ask = time.monotonic() > self._asked_at + ELECTION_SECONDS
        if not self._leads and may_ask and self.replica.ask("CLUSTER", "FAILOVER")[:1] == b"+":
            self._asked_at = time.monotonic()
        return b"state=online" in told


@contextlib.contextmanager
def clustered() -> Iterator[Clustered]:
    with RedisCluster() as redis:
        # A busy machine, or one that stands still, must not make masters dead at random.
        for server in (*redis.masters, redis.replica):
            server.ask("CONFIG", "SET", "cluster-node-timeout", "5000")
        yield Clustered(redis, list(redis.masters), redis.replica)


DEPLOYMENTS: dict[str, Callable[[], AbstractContextManager[Deployment]]] = {
    "one server": partial(servers, 1),
    "several servers": partial(servers, 2),
    "sentinels": partial(sentinels),
    "sentinels, min-replicas-to-write 1": partial(sentinels, min_replicas_to_write="1"),
    "a cluster": partial(clustered),
}
