"""A new version at noon, on one machine: SIGHUP replaces the workers under 2,000 subscribers.

No client is refused or misses a message: a client that gets a goodbye finds a worker that is
ready, and a connection that waits to be accepted is never reset.
"""

import asyncio
import contextlib
import signal

import pytest

from tests.multi_node.crowd import Crowd, Member
from tests.multi_node.test_rolling_restart import assembled, publishing
from tests.multi_node.workers import BROKER, WorkersHub
from tests.support.waiting import eventually

MEMBERS = 2_000
DRAIN_SECONDS = 4
ROLL_SECONDS = 90.0
# A connection at a time, again and again, beside the crowd: each would see a refusal.
KNOCKS = 4


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_sighup_replaces_workers_and_nobody_is_refused_or_misses_anything(
    channel: str,
) -> None:
    with WorkersHub(HUB_DRAIN_SECONDS=str(DRAIN_SECONDS)) as hub:
        before = hub.processes()
        async with (
            assembled({hub.port}, channel, count=MEMBERS) as (crowd, members),
            publishing([hub], channel) as published,
        ):
            knocks = [
                asyncio.create_task(visit(hub.port))
                for visit in (knock, stay)
                for _ in range(KNOCKS)
            ]
            hub.signal(signal.SIGHUP)
            await eventually(
                lambda: '"workers_replaced"' in hub.stderr, seconds=ROLL_SECONDS, what="a roll"
            )
            after = hub.processes()
            assert after[BROKER] == before[BROKER]
            assert {after[1], after[2]}.isdisjoint({before[1], before[2]})
            await eventually(lambda: all(member.is_here for member in members), seconds=30)
            for task in knocks:
                task.cancel()
            counts = await asyncio.gather(*knocks, return_exceptions=True)
            assert {type(each) for each in counts} == {asyncio.CancelledError}, counts
            await judged(crowd, members, published)


async def judged(crowd: Crowd, members: list[Member], published: list[int]) -> None:
    await eventually(lambda: len(published) > 10)
    last = published[-1]
    await eventually(lambda: all(member.has(last) for member in members), seconds=30)
    moved = sum(member.connects - 1 for member in members)
    refused = crowd.refused.total()
    print(f"{moved} moves, {refused} refused, {len(published)} publications")
    assert not crowd.refused
    assert not crowd.sent_away
    for member in members:
        assert not member.gaps
        first = member.offsets[0]
        assert member.offsets == list(range(first, first + len(member.offsets)))
    # All have moved: each worker was replaced.
    assert all(member.connects > 1 for member in members)


async def knock(port: int) -> None:
    """Connect and ask, until cancelled; raise where that is refused."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 200"), answer
        await asyncio.sleep(0.01)


async def stay(port: int) -> None:
    """Ask again and again on one connection, until an answer says that it is the last; every
    request has its answer."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            while True:
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(len(b'{"status":"ok"}'))
                assert head.startswith(b"HTTP/1.1 200"), head
                if b"connection: close" in head.lower():
                    break
                await asyncio.sleep(0.05)
