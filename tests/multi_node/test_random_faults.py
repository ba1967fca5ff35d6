"""Whatever happens to Redis, nodes and connections: order, no repeats, and every loss announced.

    HUB_TEST_SEED=1234 python -m pytest tests/multi_node/test_random_faults.py

plays the same story again, as far as processes do the same again.
"""

import asyncio
import os
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import httpx
import pytest

from tests.multi_node.checker import Place, Truth, faults
from tests.multi_node.fleet import Seat, hubs, is_ready, kept, publish
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

STEPS = 30
SEATS = 5
MANY = 300
# What costs seconds happens so often at most.
MAX_NODE_KILLS = 2
MAX_REDIS_KILLS = 2
Step = Callable[["Story"], Awaitable[None]]


@dataclass
class Story:
    """What has happened so far, and what happens next."""

    redis: RedisServer
    nodes: list[HubProcess]
    channel: str
    chance: random.Random
    seats: list[Seat] = field(default_factory=list)
    said: dict[Place, object] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    node_kills: int = 0
    redis_kills: int = 0
    published: int = 0

    async def tell(self, steps: list[Step]) -> None:
        """Carry out `STEPS` of them, chosen by chance."""
        for _ in range(STEPS):
            step = self.chance.choice(steps)
            self.told.append(step.__name__)
            await step(self)

    def anywhere(self) -> HubProcess:
        return self.chance.choice(self.nodes)

    async def end(self) -> Truth:
        """Peace: everybody sits, one last publication, and all that was kept."""
        for hub in self.nodes:
            await eventually(partial(is_ready, hub), seconds=30, what="readiness")
        for seat in self.seats:
            if not seat.seated:
                await seat.join(self.anywhere())
        await publish_some(self)
        head, held = await kept(self.nodes[0], self.channel)
        await eventually(
            lambda: all(seat.view.position == head for seat in self.seats), what=f"{head} at all"
        )
        # History outlives every cut and every node; what a new epoch costs, a reset says.
        return Truth(self.said, held, head, may_lose=False, epochs=1 + self.redis_kills)


# -- what can happen -----------------------------------------------------------------------------


async def publish_some(story: Story) -> None:
    """Up to twenty at once, each at some node, each until it is known what became of it."""
    count = story.chance.randint(1, 20)
    numbers = range(story.published, story.published + count)
    story.published += count
    await asyncio.gather(*(_publish(story, number, story.anywhere()) for number in numbers))


async def _publish(story: Story, number: int, hub: HubProcess) -> None:
    async def published() -> bool:
        try:
            answer = await publish(hub, story.channel, number, key=f"key-{number}")
        except httpx.TransportError:
            return False
        if answer.status_code == 503:
            assert answer.headers["Retry-After"]
            return False
        told = answer.raise_for_status().json()
        story.said[told["epoch"], told["offset"]] = number
        return True

    await eventually(published, seconds=30, what=f"publication {number}")


async def publish_many(story: Story) -> None:
    """Several hundred in one request, so that what goes wrong meanwhile hits the middle."""
    rest = list(range(story.published, story.published + MANY))
    story.published += MANY
    hub = story.anywhere()

    async def published() -> bool:
        items = [_item(story, number) for number in rest]
        try:
            async with httpx.AsyncClient(timeout=10) as client:
                told = (await client.post(f"{hub.url}/api/publish", json=items)).json()
        except httpx.TransportError:
            return False
        for number, one in zip(tuple(rest), told, strict=True):
            if "offset" in one:
                story.said[one["epoch"], one["offset"]] = number
                rest.remove(number)
        return not rest

    await eventually(published, seconds=30, what=f"{MANY} publications")


def _item(story: Story, number: int) -> dict[str, object]:
    return {"channel": story.channel, "data": number, "idempotency_key": f"key-{number}"}


async def someone_comes(story: Story) -> None:
    if len(story.seats) < SEATS:
        seat = Seat(story.channel, f"seat-{len(story.seats)}")
        story.seats.append(seat)
        await seat.join(story.anywhere())


async def someone_moves(story: Story) -> None:
    """Leaves, and resumes at some node."""
    if story.seats:
        await story.chance.choice(story.seats).join(story.anywhere())


async def someone_leaves(story: Story) -> None:
    if story.seats:
        await story.chance.choice(story.seats).leave()


async def redis_cuts_subscribers(story: Story) -> None:
    await _cut_while_publishing(story, "pubsub")


async def redis_cuts_everybody(story: Story) -> None:
    await _cut_while_publishing(story, "normal")


async def _cut_while_publishing(story: Story, kind: str) -> None:
    publishing = asyncio.create_task(publish_many(story))
    for _ in range(5):
        await asyncio.sleep(story.chance.uniform(0, 0.02))
        story.redis.ask("CLIENT", "KILL", "TYPE", kind)
    await publishing


async def redis_stands_still(story: Story) -> None:
    """For a moment, while there is work."""
    story.redis.freeze()
    asyncio.get_running_loop().call_later(story.chance.uniform(0.05, 0.5), story.redis.thaw)
    await publish_some(story)


async def redis_begins_anew(story: Story) -> None:
    """Without its tail, or without anything."""
    if story.redis_kills < MAX_REDIS_KILLS:
        story.redis_kills += 1
        if keeps := story.chance.random() < 0.7:
            # What follows is lost, and its offsets are free again.
            story.redis.ask("SAVE")
            await publish_some(story)
        story.redis.restart(empty=not keeps)


async def node_dies(story: Story) -> None:
    """And is started again; its sessions are gone."""
    if story.node_kills < MAX_NODE_KILLS:
        story.node_kills += 1
        hub = story.anywhere()
        await asyncio.to_thread(hub.kill)
        await asyncio.to_thread(hub.restart)


CALM: list[Step] = [publish_some, publish_some, someone_comes, someone_moves, someone_leaves]
CUTS: list[Step] = [redis_cuts_subscribers, redis_cuts_everybody, redis_stands_still]
LOSSES: list[Step] = [redis_begins_anew, node_dies]


@asynccontextmanager
async def story(redis: RedisServer, channel: str) -> AsyncIterator[Story]:
    seed = int(os.environ.get("HUB_TEST_SEED", secrets.randbelow(1 << 32)))
    print(f"HUB_TEST_SEED={seed}")
    async with hubs(redis.url, 2) as nodes:
        told = Story(redis, nodes, channel, random.Random(seed))
        try:
            await someone_comes(told)
            yield told
        finally:
            print(told.told)
            for seat in told.seats:
                await seat.leave()


@pytest.mark.parametrize(
    "steps",
    [CALM, CALM + CUTS, CALM + CUTS + LOSSES],
    ids=["calm", "cut connections", "restarts and kills"],
)
async def test_every_subscriber_sees_all_in_order_or_is_told(
    redis: RedisServer, channel: str, steps: list[Step]
) -> None:
    """Judged by what the subscribers saw alone, strictly in both directions."""
    async with story(redis, channel) as told:
        await told.tell(steps)
        truth = await told.end()
        assert faults([seat.view for seat in told.seats], truth) == []
