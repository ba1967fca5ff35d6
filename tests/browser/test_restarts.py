"""The hub is restarted again and again under a browser, the Python client and Node.

With Redis nothing is missing and nothing comes twice; with the memory broker, which forgets,
each restart is exactly one `reset` and never a silent loss.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Page

from tests.browser.numbers import Numbers
from tests.browser.reader import Reader
from tests.browser.seen import READ_SECONDS, Witness, catches_up, has_all
from tests.browser.subscribers import NODE, node_subscriber, python_subscriber
from tests.support import redis_server
from tests.support.hub_process import HubProcess
from tests.support.proxies import haproxy
from tests.support.proxies.haproxy import HaProxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(NODE is None, reason="Node is not installed"),
]
# How each ends before it is started again: told to, or as in a crash.
RESTARTS = ("stop", "kill", "stop")


def a_hub(**more: str) -> HubProcess:
    """History holds everything; a stop takes half a second."""
    settings = {"HUB_HISTORY_SIZE": "100000", "HUB_DRAIN_SECONDS": "0.5"} | more
    return HubProcess(allow_tracebacks=False, **settings)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    if not redis_server.is_installed():
        pytest.skip("redis-server is not installed")
    with RedisServer() as server:
        yield server


@asynccontextmanager
async def witnesses(page: Page, url: str, numbers: Numbers) -> AsyncIterator[Mapping[str, Witness]]:
    """One of each client, all subscribed from the stream's start; Node 20 takes SSE."""
    channel, start = numbers.channel, numbers.start
    async with await page.context.new_page() as another:
        reader, polling = Reader(page), Reader(another)
        await reader.open(url, channel, start, {})
        await polling.open(url, channel, start, {"transports": ["poll"]})
        async with python_subscriber(url, channel, start) as python:
            async with node_subscriber(url, channel, start) as node:
                every: dict[str, Witness] = {
                    "chromium": reader,
                    "chromium polling": polling,
                    "python": python,
                    "node": node,
                }
                for witness in every.values():
                    await catches_up(witness, numbers.published)
                yield every


async def test_a_node_on_redis_is_restarted_and_nobody_misses_or_repeats_anything(
    redis: RedisServer, page: Page, channel: str
) -> None:
    """Redis keeps the epoch and the history; publishers are refused meanwhile and retry."""
    with a_hub(HUB_BROKER=redis.url) as hub:
        async with Numbers(hub.url, channel) as numbers:
            async with witnesses(page, hub.url, numbers) as every:
                for how in RESTARTS:
                    await restart(hub, how)
                    await numbers.more(20)
                await nobody_missed_anything(every, numbers)


async def test_two_nodes_are_restarted_in_turn_and_nobody_misses_or_repeats_anything(
    redis: RedisServer, page: Page, channel: str
) -> None:
    """A balancer that asks for readiness stands before the nodes, as in a rolling deploy."""
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(a_hub(HUB_BROKER=redis.url)) for _ in range(2)]
        proxy = stack.enter_context(HaProxy(haproxy.balancing(*(node.port for node in nodes))))
        async with Numbers(proxy.url, channel) as numbers:
            async with witnesses(page, proxy.url, numbers) as every:
                for number, how in enumerate(RESTARTS):
                    await restart(nodes[number % 2], how)
                    await numbers.more(20)
                await nobody_missed_anything(every, numbers)


async def restart(hub: HubProcess, how: str) -> None:
    """End it as said, and start it again on its port."""
    await asyncio.to_thread(hub.stop if how == "stop" else hub.kill)
    await asyncio.to_thread(hub.restart)


async def nobody_missed_anything(every: Mapping[str, Witness], numbers: Numbers) -> None:
    last = await numbers.stop()
    for witness in every.values():
        await has_all(witness, last)


async def test_with_the_memory_broker_every_restart_is_exactly_one_reset(
    page: Page, channel: str
) -> None:
    """Each epoch is complete up to its reset, and no other gap is told."""
    with a_hub() as hub:
        async with Numbers(hub.url, channel) as numbers:
            async with witnesses(page, hub.url, numbers) as every:
                for restarts, how in enumerate(RESTARTS, start=1):
                    await restart(hub, how)
                    await all_were_reset(every, restarts)
                    await numbers.more(20)
                last = await numbers.stop()
                for name, witness in every.items():
                    await catches_up(witness, last)
                    seen = await witness.seen()
                    assert seen.gaps == ["reset"] * len(RESTARTS), name
                    assert seen.faults(numbers.start) == [], name


async def all_were_reset(every: Mapping[str, Witness], times: int) -> None:
    for name, witness in every.items():

        async def told(witness: Witness = witness) -> bool:
            return len((await witness.seen()).gaps) >= times

        await eventually(told, seconds=READ_SECONDS, what=f"reset {times} of {name}")
