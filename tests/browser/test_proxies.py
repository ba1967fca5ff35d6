"""Proxies between a page and the hub: the page ends up at a transport that works.

In each case a numbered stream arrives complete, in order and once, the page publishes and
reads history, and when the blockage is gone it moves to the better transport by itself.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest
from playwright.async_api import Page

from tests.browser.numbers import Numbers
from tests.browser.reader import Reader
from tests.browser.seen import READ_SECONDS, has_all
from tests.browser.subscribers import python_subscriber
from tests.support.hub_process import HubProcess
from tests.support.proxies import haproxy, nginx
from tests.support.proxies.haproxy import HaProxy
from tests.support.proxies.nginx import Nginx
from tests.support.proxies.swallowing import SwallowingProxy
from tests.support.snippets import blocks
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
]
# So that a blocked transport costs a test two seconds, and a better one is found soon.
OPTIONS = {"probeMs": 2000, "betterMs": 3000}


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    """One for the whole file: no test stops it. History holds everything."""
    with HubProcess(HUB_HISTORY_SIZE="100000") as hub:
        yield hub


@dataclass(frozen=True, slots=True)
class Way:
    """How a page gets to the hub."""

    url: str
    lift: Callable[[], None]
    """Make it a way that passes everything; blocks for a moment."""


Case = Callable[[HubProcess], AbstractAsyncContextManager[Way]]


@asynccontextmanager
async def directly(hub: HubProcess) -> AsyncIterator[Way]:
    yield Way(hub.url, lambda: None)


def through_nginx(rules: Callable[[int], str]) -> Case:
    @asynccontextmanager
    async def way(hub: HubProcess) -> AsyncIterator[Way]:
        with Nginx(rules(hub.port)) as proxy:
            yield Way(proxy.url, lambda: proxy.change(nginx.upgrading(hub.port)))

    return way


def as_documented(hub_port: int) -> str:
    """Returns the nginx lines of `hub/docs/proxies.md` with the hub's port."""
    (block,) = blocks("proxy")
    assert "127.0.0.1:8000" in block.text
    return block.text.replace("127.0.0.1:8000", f"127.0.0.1:{hub_port}")


def through_haproxy(rules: Callable[[int], str]) -> Case:
    @asynccontextmanager
    async def way(hub: HubProcess) -> AsyncIterator[Way]:
        with HaProxy(rules(hub.port)) as proxy:
            yield Way(proxy.url, lambda: proxy.change(haproxy.one(hub.port)))

    return way


def swallowing(**directions: bool) -> Case:
    @asynccontextmanager
    async def way(hub: HubProcess) -> AsyncIterator[Way]:
        async with SwallowingProxy(hub.port, **directions) as proxy:
            yield Way(proxy.url, proxy.lift)
            assert proxy.swallowed_bytes > 0

    return way


CASES = [
    pytest.param(directly, "websocket", id="nothing"),
    pytest.param(through_haproxy(haproxy.one), "websocket", id="haproxy"),
    pytest.param(through_nginx(as_documented), "websocket", id="nginx-as-documented"),
    pytest.param(through_nginx(nginx.plain), "sse", id="nginx-by-default"),
    pytest.param(through_nginx(partial(nginx.refusing, status=403)), "sse", id="nginx-403"),
    pytest.param(through_nginx(partial(nginx.refusing, status=502)), "sse", id="nginx-502"),
    pytest.param(through_haproxy(partial(haproxy.refusing, status=403)), "sse", id="haproxy-403"),
    pytest.param(swallowing(to_browser=True), "sse", id="frames-to-browser-swallowed"),
    pytest.param(swallowing(to_hub=True), "sse", id="frames-to-hub-swallowed"),
    pytest.param(swallowing(to_browser=True, to_hub=True), "sse", id="all-frames-swallowed"),
    pytest.param(through_nginx(nginx.buffering), "poll", id="nginx-buffering-streams"),
]


@pytest.mark.parametrize(("case", "transport"), CASES)
async def test_a_page_gets_everything_once_and_moves_to_the_better_transport(
    hub: HubProcess, page: Page, channel: str, case: Case, transport: str
) -> None:
    """The stream runs all the while: also while a transport is tried, and while it moves."""
    reader = Reader(page)
    async with case(hub) as way, Numbers(hub.url, channel) as numbers:
        await reader.open(way.url, channel, numbers.start, OPTIONS)
        await reader.arrives_at(transport)
        await numbers.more(20)
        await commands_work(reader, f"{channel}-commands")
        await asyncio.to_thread(way.lift)
        await reader.arrives_at("websocket")
        await numbers.more(20)
        await has_all(reader, await numbers.stop())


@pytest.mark.parametrize(("case", "transport"), CASES)
async def test_the_python_client_arrives_at_the_same_transport_and_moves_to_the_better_one(
    hub: HubProcess, channel: str, case: Case, transport: str
) -> None:
    """The client chooses the transport that works, and gets each message once."""
    async with case(hub) as way, Numbers(hub.url, channel) as numbers:
        async with python_subscriber(way.url, channel, numbers.start) as python:
            await eventually(lambda: python.transport == transport, seconds=READ_SECONDS)
            await numbers.more(10)
            await asyncio.to_thread(way.lift)
            await eventually(lambda: python.transport == "websocket", seconds=READ_SECONDS)
            await numbers.more(10)
            await has_all(python, await numbers.stop())


async def test_a_page_climbs_one_transport_after_the_other_as_a_proxy_is_mended(
    hub: HubProcess, page: Page, channel: str
) -> None:
    """Polling, then server-sent events when nginx stops buffering, then WebSocket."""
    reader = Reader(page)
    with Nginx(nginx.buffering(hub.port)) as proxy:
        async with Numbers(hub.url, channel) as numbers:
            await reader.open(proxy.url, channel, numbers.start, OPTIONS)
            await reader.arrives_at("poll")
            await asyncio.to_thread(proxy.change, nginx.plain(hub.port))
            await reader.arrives_at("sse")
            await asyncio.to_thread(proxy.change, nginx.upgrading(hub.port))
            await reader.arrives_at("websocket")
            await has_all(reader, await numbers.stop())
        await page.goto("about:blank")  # a stream would hold nginx' old worker


async def test_a_page_falls_back_when_the_way_it_used_is_closed(
    hub: HubProcess, page: Page, channel: str
) -> None:
    """WebSocket worked; then it is cut, and made again it is silent."""
    reader = Reader(page)
    async with SwallowingProxy(hub.port) as proxy, Numbers(hub.url, channel) as numbers:
        await reader.open(proxy.url, channel, numbers.start, OPTIONS)
        await reader.arrives_at("websocket")
        proxy.block()
        await reader.arrives_at("sse")
        await numbers.more(20)
        await has_all(reader, await numbers.stop())


async def commands_work(reader: Reader, channel: str) -> None:
    """The page publishes and finds it in history."""
    first = await reader.publish(channel, {"from": "the page"})
    assert first["offset"] == 1
    await reader.publish(channel, "again")
    assert await reader.history(channel) == [{"from": "the page"}, "again"]
