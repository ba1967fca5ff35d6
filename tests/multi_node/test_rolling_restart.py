"""A deploy at noon: every node is restarted under two thousand subscribers.

They move evenly, because closes are paced and each goodbye says how soon to come back, and
nobody misses a message, because each resumes where it was at another node.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator

import httpx2 as httpx
import pytest

from tests.multi_node.crowd import Crowd, Member, per_second
from tests.multi_node.fleet import hubs, is_ready, publish
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

MEMBERS = 2000
DRAIN_SECONDS = 8
# What a goodbye leaves at most (`hub.admin.drain`): the returns take this longer than the closes.
RETURN_SECONDS = 1
MOST_UNEVEN = 1.5
GOING_SECONDS = 60.0


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_rolling_restart_moves_everybody_evenly_and_loses_nothing(
    redis: RedisServer, channel: str
) -> None:
    """Two thousand connections, three nodes: the peak of returns stays below 1.5 times the mean.

    A busy machine, which returns are late on, may spoil one restart of the three; a hub that sends
    its peers away unevenly spoils each.
    """
    uneven = []
    async with (
        hubs(redis.url, 3, HUB_DRAIN_SECONDS=str(DRAIN_SECONDS)) as nodes,
        assembled({hub.port for hub in nodes}, channel) as (crowd, members),
        publishing(nodes, channel) as published,
    ):
        for hub in nodes:
            crowd.returns.clear()
            moved = await restart(hub, crowd, members)
            rates = per_second(crowd.returns)
            unevenness = max(rates) * (DRAIN_SECONDS + RETURN_SECONDS) / moved
            print(f"{moved} moved, per second {rates}, peak {unevenness:.2f} times the even rate")
            uneven.append(unevenness)
        assert sorted(uneven)[1] <= MOST_UNEVEN, uneven
        await eventually(lambda: len(published) > 10)
        last = published[-1]
        await eventually(lambda: all(member.has(last) for member in members), seconds=30)
        for member in members:
            assert not member.gaps
            first = member.offsets[0]
            assert member.offsets == list(range(first, first + len(member.offsets)))
        assert sum(member.connects for member in members) > 2 * MEMBERS


async def restart(hub: HubProcess, crowd: Crowd, members: list[Member]) -> int:
    """Stop the node as a deploy does and start it again; return how many had to move.

    While it is away they all have come back elsewhere.
    """
    before = len(crowd.returns)
    hub.signal(signal.SIGTERM)
    # A load balancer learns from /readyz.
    crowd.ports.discard(hub.port)
    assert await asyncio.to_thread(hub.wait, GOING_SECONDS) == 0
    await eventually(lambda: all(member.is_here for member in members), seconds=30)
    moved = len(crowd.returns) - before
    await asyncio.to_thread(hub.start)
    await eventually(lambda: is_ready(hub), seconds=30)
    crowd.ports.add(hub.port)
    return moved


@contextlib.asynccontextmanager
async def assembled(
    ports: set[int], channel: str, *, count: int = MEMBERS
) -> AsyncGenerator[tuple[Crowd, list[Member]]]:
    """Everybody subscribed, until the end of `with`."""
    crowd = Crowd(set(ports))
    members = [Member(crowd, channel) for _ in range(count)]
    staying = []
    for number, member in enumerate(members):
        staying.append(asyncio.create_task(member.run()))
        if number % 50 == 0:
            await asyncio.sleep(0.01)
    try:
        await eventually(lambda: all(member.epoch for member in members), seconds=60)
        yield crowd, members
    finally:
        for task in staying:
            task.cancel()
        ends = await asyncio.gather(*staying, return_exceptions=True)
        assert {type(end) for end in ends} == {asyncio.CancelledError}, ends


@contextlib.asynccontextmanager
async def publishing(nodes: list[HubProcess], channel: str) -> AsyncGenerator[list[int]]:
    """A numbered stream, by whichever node takes it; the list has the offsets so far."""
    offsets: list[int] = []

    async def feed() -> None:
        number = 0
        while True:
            number += 1
            await _publish(nodes, channel, number, offsets)
            await asyncio.sleep(0.3)

    feeding = asyncio.create_task(feed())
    try:
        yield offsets
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


async def _publish(nodes: list[HubProcess], channel: str, number: int, offsets: list[int]) -> None:
    for hub in nodes:
        with contextlib.suppress(httpx.HTTPError):
            answer = await publish(hub, channel, number, key=f"{channel}-{number}")
            if answer.status_code == 200:
                offsets.append(answer.json()["offset"])
                return
