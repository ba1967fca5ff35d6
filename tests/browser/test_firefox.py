"""The browser client in the machine's own Firefox, against a real hub."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio

from tests.browser.firefox import FIREFOX, FirefoxTab, firefox_tab
from tests.browser.numbers import Numbers
from tests.browser.reader import Reader
from tests.browser.seen import catches_up, has_all
from tests.support.hub_process import HubProcess
from tests.support.proxies import nginx
from tests.support.proxies.nginx import Nginx

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(FIREFOX is None, reason="firefox-esr is not installed"),
]
OPTIONS = {"probeMs": 2000}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tab() -> AsyncIterator[FirefoxTab]:
    """One browser and one tab for the file; each test goes to another origin."""
    async with firefox_tab() as tab:
        yield tab


@pytest.fixture
def hub() -> Iterator[HubProcess]:
    with HubProcess(HUB_HISTORY_SIZE="100000") as hub:
        yield hub


async def test_firefox_reads_and_publishes_over_websocket(
    hub: HubProcess, tab: FirefoxTab, channel: str
) -> None:
    """Each message comes once and in order, and the page's publications stand in history."""
    reader = Reader(tab)
    async with Numbers(hub.url, channel) as numbers:
        await reader.open(hub.url, channel, numbers.start, OPTIONS)
        await reader.arrives_at("websocket")
        await numbers.more(20)
        await reader.publish("from-firefox", {"eur": 1.08})
        assert await reader.history("from-firefox") == [{"eur": 1.08}]
        await has_all(reader, await numbers.stop())


@pytest.mark.parametrize(
    ("rules", "transport"),
    [(nginx.plain, "sse"), (nginx.buffering, "poll")],
    ids=["by-default", "buffering-streams"],
)
async def test_firefox_reads_and_publishes_behind_nginx(
    hub: HubProcess,
    tab: FirefoxTab,
    channel: str,
    rules: Callable[[int], str],
    transport: str,
) -> None:
    """One proxy lets no WebSocket through, and another one no stream either."""
    reader = Reader(tab)
    with Nginx(rules(hub.port)) as proxy:
        async with Numbers(hub.url, channel) as numbers:
            await reader.open(proxy.url, channel, numbers.start, OPTIONS)
            await reader.arrives_at(transport)
            await numbers.more(20)
            await reader.publish("from-firefox", {"eur": 1.08})
            assert await reader.history("from-firefox") == [{"eur": 1.08}]
            await has_all(reader, await numbers.stop())
        await tab.goto("about:blank")  # or its stream would hold the proxy


async def test_firefox_is_told_of_a_restart_by_exactly_one_reset(
    hub: HubProcess, tab: FirefoxTab, channel: str
) -> None:
    """The memory broker keeps nothing over a restart."""
    reader = Reader(tab)
    async with Numbers(hub.url, channel) as numbers:
        await reader.open(hub.url, channel, numbers.start, OPTIONS)
        await reader.arrives_at("websocket")
        await numbers.more(20)
        await asyncio.to_thread(hub.restart)
        await numbers.more(5)  # so that the last is of the new epoch for certain
        await catches_up(reader, await numbers.stop())
        seen = await reader.seen()
        assert seen.gaps == ["reset"]
        assert seen.faults(numbers.start) == []
