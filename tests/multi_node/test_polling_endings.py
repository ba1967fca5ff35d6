"""A poll that waits at one node for the session of another, when one of the two ends."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.multi_node.fleet import hubs, status
from tests.multi_node.test_polling import Poller, publish
from tests.multi_node.watcher import SETTINGS
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(240)
# As long as a poll may wait, and longer than the test's own requests may take (30 s).
WAIT_SECONDS = 55.0


@pytest.fixture
async def both(redis: RedisServer) -> AsyncIterator[list[HubProcess]]:
    async with hubs(redis.url, 2, **SETTINGS) as started:
        yield started


async def waiting_poll(
    poller: Poller, holder: HubProcess, asked: HubProcess
) -> "asyncio.Task[int]":
    """A poll at `asked` for a session of `holder`, which has nothing new to tell."""
    await poller.poll(holder, wait=0)
    await publish(holder, poller.channel, 1)
    await eventually(lambda: _got_it(poller, asked))
    poller.sent.clear()
    poll = asyncio.create_task(poller.poll(asked, wait=WAIT_SECONDS))
    await poller.sent.wait()
    # Whoever is answered after it went out has been read after it.
    assert await status(asked, "/healthz") == 200
    return poll


async def _got_it(poller: Poller, hub: HubProcess) -> bool:
    await poller.poll(hub, wait=1)
    return poller.data == [1]


async def test_a_node_that_stops_refuses_the_polls_that_wait_in_it_for_others(
    both: list[HubProcess], channel: str
) -> None:
    """The poll is answered with 503, so the peer goes on elsewhere; the node stops in order,
    with nothing in its log."""
    holder, asked = both
    poll = await waiting_poll(Poller(channel), holder, asked)
    await asyncio.to_thread(asked.stop)
    assert await poll == 503


@pytest.mark.slow
async def test_a_poll_for_the_session_of_a_killed_node_does_not_wait_to_its_end(
    both: list[HubProcess], channel: str
) -> None:
    """The poll is answered with 404 as soon as the node's lease is over, and the
    peer begins a new session."""
    holder, asked = both
    poller = Poller(channel)
    poll = await waiting_poll(poller, holder, asked)
    await asyncio.to_thread(holder.kill)
    await publish(asked, channel, 2)
    assert await poll == 404
    assert await poller.poll(asked) == 200
    assert poller.data == [1, 2]
