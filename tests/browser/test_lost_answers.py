"""Answers that were lost after the hub had done what was asked: a browser hides that.

Chromium sends a request, also a POST, once more by itself when a connection that was used
before ends without an answer. The hub then does it a second time, and the client never knows.
"""

from collections.abc import Iterator

import pytest
from playwright.async_api import Page

from tests.browser.numbers import Numbers
from tests.browser.reader import Reader
from tests.browser.seen import has_all
from tests.support.hub_process import HubProcess
from tests.support.proxies.losing import LosingProxy

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
]


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    """Its heartbeat comes too late for any test to be saved by it."""
    with HubProcess(HUB_HISTORY_SIZE="100000", HUB_HEARTBEAT_SECONDS="120") as hub:
        yield hub


@pytest.mark.parametrize(
    ("transport", "marks"),
    [
        ("sse", [b'"op":"reply","id":1,']),
        ("poll", [b'"op":"reply","id":1,']),
        ("poll", [b'"op":"subscribed"']),
        ("poll", [b'"op":"reply","id":1,', b'"op":"subscribed"']),
        ("poll", [b'"op":"message"']),
        ("poll", [b'"op":"subscribed"', b'"op":"message"']),
    ],
)
async def test_a_subscription_gets_everything_once(
    hub: HubProcess, page: Page, channel: str, transport: str, marks: list[bytes]
) -> None:
    """Whichever answer does not arrive: to the command, or what the session was sent."""
    reader = Reader(page)
    async with LosingProxy(hub.port) as proxy, Numbers(hub.url, channel) as numbers:
        proxy.lose(*marks)
        await reader.open(proxy.url, channel, numbers.start, {"transports": [transport]})
        await reader.arrives_at(transport)
        await numbers.more(20)
        await has_all(reader, await numbers.stop())
        assert len(proxy.lost) == len(marks)


async def test_a_poll_that_was_cut_while_it_waited_costs_nothing(
    hub: HubProcess, page: Page, channel: str
) -> None:
    """The browser sends it again before the hub knows that nobody waits for the first one."""
    reader = Reader(page)
    async with LosingProxy(hub.port) as proxy, Numbers(hub.url, channel) as numbers:
        await reader.open(proxy.url, channel, numbers.start, {"transports": ["poll"]})
        await reader.arrives_at("poll")
        for _ in range(5):
            proxy.cut()
            await numbers.more(10)
        await has_all(reader, await numbers.stop())


@pytest.mark.parametrize("transport", ["sse", "poll"])
async def test_a_publication_of_a_page_is_published_once(
    hub: HubProcess, page: Page, channel: str, transport: str
) -> None:
    """The page sees one position, and so does history."""
    reader = Reader(page)
    async with LosingProxy(hub.port) as proxy, Numbers(hub.url, channel) as numbers:
        await reader.open(proxy.url, channel, numbers.start, {"transports": [transport]})
        await reader.arrives_at(transport)
        # Chromium repeats a POST on a connection that was used before: now there is one.
        await reader.publish(f"{channel}-before", "hello")
        proxy.lose(b'"offset":1}')
        said = f"{channel}-said"
        published = await reader.publish(said, "hello")
        assert proxy.lost
        assert published["offset"] == 1
        assert await reader.history(said) == ["hello"]
        await has_all(reader, await numbers.stop())
