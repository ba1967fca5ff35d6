"""Whatever happens, everybody ends up knowing who is there.

TESTS_SEED=1234 TESTS_STEPS=200 python -m pytest tests/multi_node/test_random_presence.py
"""

import asyncio
import os
import random
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import httpx2 as httpx
import pytest

from tests.brokers.redis.proxy import Proxy, proxy
from tests.multi_node.fleet import hubs, is_ready
from tests.multi_node.guest import Guest
from tests.multi_node.watcher import SETTINGS, present
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

STEPS = int(os.environ.get("TESTS_STEPS", "25"))
ROOM = "room:1"
# Some are the same person at two nodes, who is there until both have left.
SUBJECTS = ("ann", "ann", "bob", "cat", "dog", "dog")
# A dead node's lease lasts 10 s, and the others look every 3 s.
LEASE_DEADLINE_SECONDS = 30.0
# Each costs seconds.
MAX_KILLS = 2


@dataclass
class Evening:
    redis: RedisServer
    proxy: Proxy
    nodes: list[HubProcess]
    chance: random.Random
    guests: list[Guest] = field(default_factory=lambda: [Guest(ROOM, name) for name in SUBJECTS])
    kills: int = 0

    def anywhere(self) -> HubProcess:
        return self.chance.choice(self.nodes)

    def anybody(self) -> Guest:
        return self.chance.choice(self.guests)

    async def end(self) -> None:
        """Guests that sit still or had to go come back; those that left stay away."""
        self.proxy.cut_at, self.proxy.cut_message = None, False
        for hub in self.nodes:
            await eventually(partial(is_ready, hub), seconds=30, what="readiness")
        # Nothing follows that could make good what these cuts cost.
        for _ in range(3):
            await redis_cuts_subscribers(self)
        await self.guests[0].join(self.anywhere())
        there = {guest.subject for guest in self.guests if guest.seated}
        known = [partial(self._knows, guest, there) for guest in self.guests]
        for knows in known:
            await eventually(
                knows, seconds=LEASE_DEADLINE_SECONDS, what=f"{knows.args[0].subject}: {there}"
            )
        for hub in self.nodes:
            await eventually(partial(self._lists, hub, there), what=f"{there} in the list")

    @staticmethod
    async def _lists(hub: HubProcess, there: set[str]) -> bool:
        try:
            return set(await present(hub, ROOM)) == there
        except httpx.HTTPStatusError:
            return False

    @staticmethod
    def _knows(guest: Guest, there: set[str]) -> bool:
        return not guest.seated or guest.others == there


async def somebody_comes(evening: Evening) -> None:
    await evening.anybody().join(evening.anywhere())


async def somebody_leaves(evening: Evening) -> None:
    await evening.anybody().leave()


async def redis_cuts_subscribers(evening: Evening) -> None:
    await _cut_while_people_move(evening, "pubsub")


async def redis_cuts_everybody(evening: Evening) -> None:
    await _cut_while_people_move(evening, "normal")


async def _cut_while_people_move(evening: Evening, kind: str) -> None:
    some = evening.chance.sample(evening.guests, 4)
    moving = [guest.join(evening.anywhere()) for guest in some[:2]]
    moving += [guest.leave() for guest in some[2:]]
    cutting = _cut(evening, kind)
    await asyncio.gather(cutting, *moving)


async def _cut(evening: Evening, kind: str) -> None:
    """Until after the delay of a leave."""
    for _ in range(12):
        evening.redis.ask("CLIENT", "KILL", "TYPE", kind)
        await asyncio.sleep(evening.chance.uniform(0, 0.06))


async def an_answer_is_cut(evening: Evening) -> None:
    evening.proxy.cut_at = evening.chance.choice((b"hub_join", b"hub_leave"))
    await somebody_leaves(evening)
    await somebody_comes(evening)


async def a_message_is_cut(evening: Evening) -> None:
    evening.proxy.cut_message = True
    await somebody_leaves(evening)
    await somebody_comes(evening)


async def messages_are_late(evening: Evening) -> None:
    evening.proxy.hold_subscribers()
    asyncio.get_running_loop().call_later(
        evening.chance.uniform(0.05, 0.5), evening.proxy.release_subscribers
    )
    await somebody_leaves(evening)
    await somebody_comes(evening)


async def redis_dies(evening: Evening) -> None:
    """Redis dies and comes back empty."""
    if evening.kills < MAX_KILLS:
        evening.kills += 1
        restarting = asyncio.create_task(asyncio.to_thread(evening.redis.restart))
        await somebody_leaves(evening)
        await restarting


async def a_node_dies(evening: Evening) -> None:
    """With its sessions; somebody may come to it before it is back."""
    if evening.kills < MAX_KILLS:
        evening.kills += 1
        hub = evening.anywhere()
        await asyncio.to_thread(hub.kill)
        restarting = asyncio.create_task(asyncio.to_thread(hub.restart))
        await somebody_comes(evening)
        await restarting


Step = Callable[[Evening], Awaitable[None]]
EVERYTHING: list[Step] = [
    somebody_comes, somebody_comes, somebody_leaves, redis_cuts_subscribers,
    redis_cuts_everybody, an_answer_is_cut, a_message_is_cut, messages_are_late, redis_dies,
    a_node_dies,
]  # fmt: skip


@pytest.mark.timeout(240 + 4 * STEPS)
async def test_everybody_ends_up_knowing_who_is_there(redis: RedisServer) -> None:
    """By joins and leaves alone, and by asking again where a reset says that some were lost."""
    seed = int(os.environ.get("TESTS_SEED", secrets.randbelow(1 << 32)))
    print(f"TESTS_SEED={seed}")
    settings = SETTINGS | {"HUB_LEAVE_DELAY_SECONDS": "0.1"}
    async with proxy(redis.port) as between, hubs(between.url, 2, **settings) as nodes:
        evening = Evening(redis, between, nodes, random.Random(seed))
        try:
            for _ in range(STEPS):
                step = evening.chance.choice(EVERYTHING)
                print(step.__name__)
                await step(evening)
            await evening.end()
        finally:
            between.release_subscribers()
            for guest in evening.guests:
                await guest.leave()
