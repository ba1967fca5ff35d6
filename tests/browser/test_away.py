"""A page in the background, a laptop asleep, a network that went: nothing is lost by it.

The client has to notice by itself: a connection of a network that is gone is never closed.
"""

from collections.abc import Iterator

import pytest
from playwright.async_api import Page

from tests.browser.numbers import Numbers
from tests.browser.reader import Reader
from tests.browser.seen import catches_up, has_all
from tests.support.hub_process import HubProcess
from tests.support.proxies.swallowing import SwallowingProxy

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
]
OPTIONS = {"probeMs": 1000}
TRANSPORTS = ["websocket", "sse", "poll"]


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    """Its heartbeat comes too late for any test to be saved by it."""
    with HubProcess(HUB_HISTORY_SIZE="100000", HUB_HEARTBEAT_SECONDS="120") as hub:
        yield hub


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_browser_that_was_offline_gets_what_it_missed(
    hub: HubProcess, own_page: Page, channel: str, transport: str
) -> None:
    """Chromium's own offline mode, which also refuses every new connection."""
    reader = Reader(own_page)
    async with SwallowingProxy(hub.port) as proxy, Numbers(hub.url, channel) as numbers:
        options = OPTIONS | {"transports": [transport]}
        await reader.open(proxy.url, channel, numbers.start, options)
        await reader.arrives_at(transport)
        await own_page.context.set_offline(True)
        proxy.cut()
        await numbers.more(30)
        await own_page.context.set_offline(False)
        await numbers.more(20)
        await has_all(reader, await numbers.stop())


@pytest.mark.parametrize(
    ("transport", "sign"),
    [
        ("websocket", "dispatchEvent(new Event('online'))"),
        ("sse", "document.dispatchEvent(new Event('visibilitychange', { bubbles: true }))"),
    ],
    ids=["websocket-network-is-back", "sse-page-is-shown"],
)
async def test_a_word_of_the_browser_makes_the_client_look_whether_it_is_still_connected(
    hub: HubProcess, page: Page, channel: str, transport: str, sign: str
) -> None:
    """The connection of the network before hangs; no heartbeat is due for a long while."""
    reader = Reader(page)
    async with SwallowingProxy(hub.port) as proxy, Numbers(hub.url, channel) as numbers:
        options = OPTIONS | {"transports": [transport]}
        await reader.open(proxy.url, channel, numbers.start, options)
        await reader.arrives_at(transport)
        await catches_up(reader, numbers.published)
        proxy.freeze()
        await numbers.more(10)
        proxy.strand()
        await page.evaluate(sign)
        await has_all(reader, await numbers.stop())


async def test_a_silent_connection_is_given_up_when_heartbeats_are_missing(
    page: Page, channel: str
) -> None:
    """Nobody says anything: neither the browser nor the network."""
    reader = Reader(page)
    with HubProcess(HUB_HISTORY_SIZE="100000", HUB_HEARTBEAT_SECONDS="1") as hub:
        async with SwallowingProxy(hub.port) as proxy, Numbers(hub.url, channel) as numbers:
            await reader.open(proxy.url, channel, numbers.start, OPTIONS)
            await reader.arrives_at("websocket")
            proxy.freeze()
            await numbers.more(10)
            proxy.strand()
            await has_all(reader, await numbers.stop())


async def test_a_laptop_that_slept_an_hour_goes_on_where_it_was(
    hub: HubProcess, own_page: Page, channel: str
) -> None:
    """Its timers are late and its clock has moved on; its connection is long gone."""
    reader = Reader(own_page)
    await own_page.clock.install()
    async with SwallowingProxy(hub.port) as proxy, Numbers(hub.url, channel) as numbers:
        await reader.open(proxy.url, channel, numbers.start, OPTIONS)
        await reader.arrives_at("websocket")
        proxy.freeze()
        await numbers.more(10)
        proxy.strand()
        await own_page.clock.fast_forward("01:00:00")
        await has_all(reader, await numbers.stop())


async def test_a_page_that_was_frozen_in_the_background_gets_what_it_missed(
    hub: HubProcess, own_page: Page, channel: str
) -> None:
    """Chromium freezes a page that is long hidden: no timer and no event until it is shown."""
    reader = Reader(own_page)
    devtools = await own_page.context.new_cdp_session(own_page)
    async with SwallowingProxy(hub.port) as proxy, Numbers(hub.url, channel) as numbers:
        await reader.open(proxy.url, channel, numbers.start, OPTIONS)
        await reader.arrives_at("websocket")
        await devtools.send("Page.setWebLifecycleState", {"state": "frozen"})
        proxy.cut()
        await numbers.more(30)
        await devtools.send("Page.setWebLifecycleState", {"state": "active"})
        await has_all(reader, await numbers.stop())
