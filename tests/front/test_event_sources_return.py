"""A plain EventSource never comes back after a status that is not 200, so it must not see one.

The readers keep to the standard (`tests/front/event_source.py`); Chromium's own are asked too.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Page

from tests.front.event_source import EventSource
from tests.support.hub_process import HubProcess
from tests.support.proxies.documented import DOCUMENTED, documented
from tests.support.waiting import eventually

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]

READERS = 12


@asynccontextmanager
async def readers(url: str, count: int = READERS) -> AsyncIterator[list[EventSource]]:
    async with contextlib.AsyncExitStack() as stack:
        each = [EventSource(f"{url}/sse?channel=a") for _ in range(count)]
        for one in each:
            await stack.enter_async_context(one)
        await eventually(lambda: all(one.opened for one in each), what="all readers")
        yield each


async def all_come_back(each: Sequence[EventSource], opened: Sequence[int]) -> None:
    def are_back() -> bool:
        assert not [one.failure for one in each if one.failure]
        return all(one.opened > before for one, before in zip(each, opened, strict=True))

    await eventually(are_back, seconds=30, what="the return of all readers")


async def test_after_a_plain_restart_all_come_back() -> None:
    with HubProcess() as hub:
        async with readers(hub.url, 10) as each:
            opened = [one.opened for one in each]
            await asyncio.to_thread(hub.restart)
            await all_come_back(each, opened)


@pytest.mark.parametrize("proxy", DOCUMENTED)
async def test_in_a_rolling_restart_behind_a_proxy_all_come_back(proxy: str) -> None:
    """Both nodes in turn, and at the end both at once: no reader is turned off."""
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(HubProcess()) for _ in range(2)]
        before = stack.enter_context(documented(proxy, [node.port for node in nodes]))
        async with readers(before.url) as each:
            for node in nodes:
                await asyncio.to_thread(node.stop)
                await asyncio.sleep(0.5)
                await asyncio.to_thread(node.restart)
            opened = [one.opened for one in each]
            await asyncio.gather(*(asyncio.to_thread(node.stop) for node in nodes))
            # While there is no node at all, everybody tries at least once.
            await asyncio.sleep(2.5)
            await asyncio.gather(*(asyncio.to_thread(node.restart) for node in nodes))
            await all_come_back(each, opened)


async def test_a_full_node_tells_when_to_come_back() -> None:
    """The node takes the reader as soon as there is room."""
    with HubProcess(HUB_MAX_CONNECTIONS="2") as hub:
        async with readers(hub.url, 2) as first, EventSource(f"{hub.url}/sse?channel=a") as late:
            await asyncio.sleep(1)
            assert (late.opened, late.failure) == (0, "")
            await first[0].__aexit__(None, None, None)
            await eventually(lambda: late.opened == 1, seconds=20, what="the late reader")


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_chromiums_own_come_back(page: Page) -> None:
    """Behind nginx, while no node runs: nginx' own 502 would turn them off."""
    with HubProcess() as hub, documented("nginx", [hub.port, hub.port]) as proxy:
        await page.goto(f"{proxy.url}/api/channels")
        await page.evaluate("""() => {
          window.opened = 0;
          window.sources = [1, 2, 3, 4].map(() => {
            const source = new EventSource("/sse?channel=a");
            source.addEventListener("subscribed", () => { window.opened += 1; });
            return source;
          });
        }""")
        await page.wait_for_function("window.opened === 4")
        await asyncio.to_thread(hub.stop)
        await asyncio.sleep(4)
        assert await page.evaluate("sources.filter(({ readyState }) => readyState === 2)") == []
        await asyncio.to_thread(hub.restart)
        await page.wait_for_function("window.opened === 8", timeout=40_000)
