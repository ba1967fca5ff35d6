"""A hub in use, told at random: what has happened so far, and all that can happen next.

Four channels side by side: one that keeps everything, one that keeps little, one that keeps
nothing, and one that keeps a table. Further ones come to be meanwhile, of which only those hear who
follow a pattern. Nodes reach Redis through a proxy that can cut an answer in the middle.
"""

import asyncio
import contextlib
import os
import random
import secrets
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import httpx2 as httpx

from tests.brokers.redis.proxy import Proxy
from tests.multi_node.checker import Truth, faults
from tests.multi_node.fleet import NO_TLS, Seat, hubs, is_ready, kept, publish_one
from tests.multi_node.followers import Follower, PollFollower, StreamFollower
from tests.multi_node.readers import Chair, EventStream, Polls, Reader, stream
from tests.multi_node.tables import TableSeat, TableView, key_of, removes, rows_of
from tests.multi_node.tables import faults as table_faults
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer
from tests.support.stream import Place
from tests.support.waiting import eventually

NAMESPACES = (
    '{"bare":{"history_size":0},"short":{"history_size":20},'
    '"table":{"keyed":true,"history_size":50}}'
)
LANES = 4
SEATS = 2 + 8 * LANES
MAX_BORN = 4
FOLLOWERS = 3
MAX_ABSENT = 2
MANY = 300
# What costs seconds happens so often at most.
MAX_NODE_KILLS = 2
MAX_REDIS_KILLS = 2
Step = Callable[["Story"], Awaitable[None]]


@dataclass
class Lane:
    """One channel, its subscribers, and the answers that its publishers got."""

    channel: str
    keeps_all: bool
    keyed: bool = False
    born: bool = False
    """Whether it came to be in the story: it begins before its first publication, for everybody."""
    ended: bool = False
    """Whether it ever had an end: who named it would have left it for good."""
    seats: list[Seat] = field(default_factory=list)
    said: dict[Place, object] = field(default_factory=dict)
    asked_at: dict[Place, float] = field(default_factory=dict)
    """When the request was sent whose answer named the place."""
    published: int = 0

    def numbers(self, count: int) -> range:
        """The next data to be published: no two are the same."""
        self.published += count
        return range(self.published - count, self.published)


class NoRedis(RedisServer):
    """Where a story of a hub without Redis has its Redis."""

    def __init__(self) -> None:
        """Nothing is started."""

    def thaw(self) -> None:
        """Nothing stands still."""


@dataclass
class Story:
    redis: RedisServer
    proxy: Proxy
    nodes: list[HubProcess]
    lanes: list[Lane]
    chance: random.Random
    told: list[str] = field(default_factory=list)
    calm: bool = True
    """Whether nothing has happened that can cost a message."""
    node_kills: int = 0
    redis_kills: int = 0
    followers: list[Reader] = field(default_factory=list)
    """In each channel that there is, by a pattern."""

    async def tell(self, steps: Sequence[Step], count: int) -> None:
        """Carry out `count` of them, chosen by chance."""
        for _ in range(count):
            step = self.chance.choice(steps)
            self.told.append(step.__name__)
            await step(self)

    def anywhere(self) -> HubProcess:
        return self.chance.choice(self.nodes)

    def lane(self) -> Lane:
        return self.chance.choice(self.lanes)

    @property
    def figures(self) -> str:
        """Returns the story's figures in one line, for a record of many stories."""
        views = [seat.view for seat in self.seats]
        published = sum(lane.published for lane in self.lanes)
        delivered = sum(len(view.delivered) for view in views)
        announced = sum(len(view.announced) for view in views)
        resets = sum(len(view.left) for view in views)
        return (
            f"{len(self.told)} steps, {published} publications, {delivered} deliveries, "
            f"{announced} announced as lost, {resets} resets, {len(views)} views"
        )

    @property
    def seats(self) -> list[Seat]:
        return [seat for lane in self.lanes for seat in lane.seats]

    def absent(self) -> list[Seat]:
        return [seat for seat in self.seats if not seat.seated]

    async def sit(self, lane: Lane) -> None:
        """Somebody new comes, on whatever transport."""
        makes: tuple[Callable[[str, str], Seat], ...] = (Seat, stream)
        if lane.keyed:
            makes = (TableSeat, TableSeat, Seat)
        made = self.chance.choice(makes)
        seat = made(lane.channel, f"{made.__name__} {len(self.seats)}")
        lane.seats.append(seat)
        await seat.join(self.anywhere())

    async def sit_everywhere(self) -> None:
        """Somebody comes who is in all channels at once, of each kind of `readers`."""
        channels = [lane.channel for lane in self.lanes]
        readers: dict[str, Reader] = {
            "a stream": EventStream("a stream", channels),
            "polls": Polls("polls", channels, says_all=False),
            "polls of a session": Polls("polls of a session", channels, says_all=True),
        }
        for name, reader in readers.items():
            for lane in self.lanes:
                lane.seats.append(Chair(lane.channel, name, reader))
            await reader.join(self.anywhere())

    async def follow_everywhere(self) -> None:
        """Somebody comes who follows a pattern, over each transport."""
        readers: dict[str, Reader] = {
            "a follower": Follower("a follower", "**"),
            "a stream of a pattern": StreamFollower("a stream of a pattern", "**"),
            "polls of a pattern": PollFollower("polls of a pattern", "**"),
        }
        for name, reader in readers.items():
            await reader.join(self.anywhere())
            self.followers.append(reader)
            for lane in self.lanes:
                lane.seats.append(Chair(lane.channel, name, reader))

    async def end(self) -> list[str]:
        """Peace, one last publication everywhere; returns all that was wrong."""
        self.proxy.cut_at, self.proxy.cut_message = None, False
        for hub in self.nodes:
            await eventually(partial(is_ready, hub), seconds=30, what="readiness")
        for seat in self.absent():
            # It may have come back in another of its channels.
            if not seat.seated:
                await seat.join(self.anywhere())
        found: list[str] = []
        for lane in self.lanes:
            found += await self._judge(lane)
        return found

    async def _judge(self, lane: Lane) -> list[str]:
        # Nothing follows these: what is lost of them shows only by asking.
        publishing = asyncio.create_task(publish_at_once(self, lane, 3))
        if not self.calm:
            await asyncio.sleep(self.chance.uniform(0, 0.01))
            self.break_once_more()
        await publishing
        head, held = await kept(self.nodes[0], lane.channel)
        views = [seat.view for seat in lane.seats]
        tables = [view for view in views if isinstance(view, TableView)]
        # Whoever does not get there is named by the checker.
        with contextlib.suppress(AssertionError):
            await eventually(lambda: all(view.position == head for view in views))
        # History outlives every cut and every node; what a new epoch costs, a reset says. Where
        # there is too little history, who stayed may miss something only when something broke.
        truth = partial(Truth, lane.said, held, head, epochs=1 + self.redis_kills)
        stayed = [seat.view for seat in lane.seats if seat.connects == 1]
        found = faults(views, truth(may_lose=not lane.keeps_all))
        found += faults(stayed, truth(may_lose=not (lane.keeps_all or self.calm)))
        if lane.keyed:
            at, rows = await rows_of(self.nodes[0], lane.channel)
            assert at == head
            found += table_faults(tables, lane.said, head, rows)
        if lane.born:
            followers = [reader.views[lane.channel] for reader in self.followers]
            late = [view for view in followers if view.began is None or view.began[1] > 0]
            found += [f"{view.name} began at {view.began}" for view in late]
        return found

    def break_once_more(self) -> None:
        """Cuts the nodes' pub/sub connections, so that the last publication is lost on its way."""
        self.redis.ask("CLIENT", "KILL", "TYPE", "pubsub")

    async def close(self) -> None:
        """Let everybody and everything go that may still be held up."""
        self.redis.thaw()
        self.proxy.release_subscribers()
        for hub in self.nodes:
            hub.signal(signal.SIGCONT)
        for seat in self.seats:
            await seat.close()


def steps(otherwise: int) -> int:
    """How long a story is: as TESTS_STEPS says."""
    return int(os.environ.get("TESTS_STEPS", otherwise))


Told = TypeVar("Told", bound=Story)


@contextlib.asynccontextmanager
async def telling(
    broker: str,
    channel: str,
    begin: Callable[[list[HubProcess], list[Lane], random.Random], Told],
) -> AsyncGenerator[Told]:
    """A story of two nodes at this Redis, with its first subscribers; TESTS_SEED chooses it."""
    async with (
        hubs(broker, 2, HUB_NAMESPACES=NAMESPACES) as nodes,
        telling_at(nodes, channel, begin) as told,
    ):
        yield told


@contextlib.asynccontextmanager
async def telling_at(
    nodes: list[HubProcess],
    channel: str,
    begin: Callable[[list[HubProcess], list[Lane], random.Random], Told],
) -> AsyncGenerator[Told]:
    """A story of these nodes."""
    seed = int(os.environ.get("TESTS_SEED", secrets.randbelow(1 << 32)))
    print(f"TESTS_SEED={seed}")
    lanes = [
        Lane(channel, keeps_all=True),
        Lane(f"short:{channel}", keeps_all=False),
        Lane(f"bare:{channel}", keeps_all=False),
        Lane(f"table:{channel}", keeps_all=False, keyed=True),
    ]
    told = begin(nodes, lanes, random.Random(seed))
    try:
        for lane in (*lanes, *lanes):
            await told.sit(lane)
        await told.sit_everywhere()
        for lane in lanes:
            await publish_at_once(told, lane, 1)
        await told.follow_everywhere()
        yield told
    finally:
        print(told.told, told.figures, sep="\n")
        await told.close()


# -- publishing ----------------------------------------------------------------------------------


async def publish_some(story: Story) -> None:
    """Up to twenty at once, each at some node, each until it is known what became of it."""
    await publish_at_once(story, story.lane(), story.chance.randint(1, 20))


async def publish_at_once(story: Story, lane: Lane, count: int) -> None:
    numbers = lane.numbers(count)
    await asyncio.gather(*(_publish(lane, number, story.anywhere()) for number in numbers))


async def _publish(lane: Lane, number: int, hub: HubProcess, *, end: bool = False) -> None:
    async def published() -> bool:
        asked_at = time.monotonic()
        try:
            answer = await publish_one(hub, _item(lane, number) | {"end": end})
        except httpx.TransportError:
            return False
        if answer.status_code == 503:
            assert answer.headers["Retry-After"]
            return False
        told = answer.raise_for_status().json()
        place = (told["epoch"], told["offset"])
        lane.said[place] = number
        lane.asked_at.setdefault(place, asked_at)
        return True

    await eventually(published, seconds=30, what=f"publication {number}")


async def publish_many(story: Story) -> None:
    """Several hundred in one request, so that what goes wrong meanwhile hits the middle."""
    lane, hub = story.lane(), story.anywhere()
    rest = list(lane.numbers(MANY))

    async def published() -> bool:
        items = [_item(lane, number) for number in rest]
        try:
            async with httpx.AsyncClient(timeout=10, verify=NO_TLS) as client:
                told = (await client.post(f"{hub.url}/api/publish", json=items)).json()
        except httpx.TransportError:
            return False
        for number, one in zip(tuple(rest), told, strict=True):
            if "offset" in one:
                lane.said[one["epoch"], one["offset"]] = number
                rest.remove(number)
        return not rest

    await eventually(published, seconds=30, what=f"{MANY} publications")


@contextlib.asynccontextmanager
async def while_publishing(story: Story, within: float) -> AsyncGenerator[None]:
    """Begin to publish many, and do the block so many seconds later at most; all are in then."""
    working = asyncio.create_task(publish_many(story))
    await asyncio.sleep(story.chance.uniform(0, within))
    yield
    await working


def _item(lane: Lane, number: int) -> dict[str, object]:
    item = {"channel": lane.channel, "data": number, "idempotency_key": f"key-{number}"}
    return item | {"key": key_of(number), "remove": removes(number)} if lane.keyed else item


async def a_channel_is_born(story: Story) -> None:
    """Nobody hears of it but who follows a pattern, from its first publication on."""
    born = [lane for lane in story.lanes if lane.born]
    if len(born) == MAX_BORN:
        await publish_some(story)
        return
    lane = Lane(f"born{len(born)}:{story.lanes[0].channel}", keeps_all=True, born=True)
    lane.seats += [Chair(lane.channel, "", reader) for reader in story.followers]
    story.lanes.append(lane)
    await publish_at_once(story, lane, story.chance.randint(1, 20))


async def a_channel_ends(story: Story) -> None:
    """Whatever follows begins it anew, for everybody who follows a pattern."""
    followed = [each for each in story.lanes if each.born and len(each.seats) == FOLLOWERS]
    if not followed:
        await a_channel_is_born(story)
        return
    lane = story.chance.choice(followed)
    lane.ended = True
    [number] = lane.numbers(1)
    await _publish(lane, number, story.anywhere(), end=True)
    if story.chance.random() < 0.5:
        await publish_at_once(story, lane, story.chance.randint(1, 5))


# -- coming and going ----------------------------------------------------------------------------


async def someone_comes(story: Story) -> None:
    if sum(len(lane.seats) for lane in story.lanes if not lane.born) < SEATS:
        await story.sit(story.chance.choice([lane for lane in story.lanes if not lane.ended]))


async def someone_moves(story: Story) -> None:
    """Leaves, or comes back, and resumes at some node, while there is work."""
    seat = story.chance.choice(story.absent() or story.seats)
    await asyncio.gather(seat.join(story.anywhere()), publish_some(story))


async def someone_leaves(story: Story) -> None:
    """Most stay: only they see what happens."""
    if len(story.absent()) < MAX_ABSENT:
        await story.chance.choice(story.seats).leave()


# -- what breaks ---------------------------------------------------------------------------------


async def redis_cuts_subscribers(story: Story) -> None:
    await _cut_while_publishing(story, "pubsub")


async def redis_cuts_everybody(story: Story) -> None:
    await _cut_while_publishing(story, "normal")


async def _cut_while_publishing(story: Story, kind: str) -> None:
    story.calm = False
    publishing = asyncio.create_task(publish_many(story))
    for _ in range(5):
        await asyncio.sleep(story.chance.uniform(0, 0.02))
        story.redis.ask("CLIENT", "KILL", "TYPE", kind)
    await publishing


async def an_answer_is_cut(story: Story) -> None:
    """In the middle: what was asked is done, and nobody is told."""
    story.calm = False
    story.proxy.cut_at = b"hub_publish"
    await publish_many(story)


async def a_message_is_cut(story: Story) -> None:
    """On its way to one of the subscribers."""
    story.calm = False
    story.proxy.cut_message = True
    await publish_many(story)


async def messages_are_late(story: Story) -> None:
    """Pub/sub messages are held back, so that the answers to the nodes' questions overtake them."""
    story.proxy.hold_subscribers()
    asyncio.get_running_loop().call_later(
        story.chance.uniform(0.05, 0.5), story.proxy.release_subscribers
    )
    await asyncio.gather(publish_many(story), someone_moves(story))


async def redis_stands_still(story: Story) -> None:
    """For a moment, while there is work."""
    story.calm = False
    story.redis.freeze()
    asyncio.get_running_loop().call_later(story.chance.uniform(0.05, 0.5), story.redis.thaw)
    await publish_some(story)


async def a_node_stands_still(story: Story) -> None:
    """Long enough now and then that Redis and its own calls have given it up."""
    story.calm = False
    hub, seconds = story.anywhere(), story.chance.choice((0.05, 0.3, 3.0))
    hub.signal(signal.SIGSTOP)
    asyncio.get_running_loop().call_later(seconds, hub.signal, signal.SIGCONT)
    await publish_many(story)


async def redis_begins_anew(story: Story) -> None:
    """Without its tail, or without anything, in the middle of work."""
    if story.redis_kills < MAX_REDIS_KILLS:
        story.calm = False
        story.redis_kills += 1
        if keeps := story.chance.random() < 0.7:
            # What follows is lost, and its offsets are free again.
            story.redis.ask("SAVE")
            await asyncio.gather(*(publish_at_once(story, lane, 5) for lane in story.lanes))
        working = asyncio.create_task(publish_many(story))
        await asyncio.to_thread(story.redis.restart, empty=not keeps)
        await working


async def node_dies(story: Story) -> None:
    """A node is killed and started again, and its sessions are gone."""
    if story.node_kills < MAX_NODE_KILLS:
        story.node_kills += 1
        hub = story.anywhere()
        await asyncio.to_thread(hub.kill)
        await asyncio.to_thread(hub.restart)


CALM: list[Step] = [
    publish_some, publish_some, publish_many, someone_comes, someone_moves, someone_leaves,
    messages_are_late, a_channel_is_born, a_channel_ends,
]  # fmt: skip
CUTS: list[Step] = [
    redis_cuts_subscribers, redis_cuts_everybody, an_answer_is_cut, a_message_is_cut,
    redis_stands_still, a_node_stands_still,
]  # fmt: skip
LOSSES: list[Step] = [redis_begins_anew, redis_begins_anew, node_dies]
