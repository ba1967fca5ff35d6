"""An operator acts in the dashboard: each action asks first and shows its result."""

from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.dashboard import faults, go, row, sign_in
from tests.browser.watched_hub import SLOW, WatchedHub, watched_hub
from tests.support.redis_server import is_installed
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(not is_installed(), reason="redis-server is not installed"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hub() -> AsyncIterator[WatchedHub]:
    async with watched_hub() as hub:
        for subject in ("ada", "bob", SLOW):
            await eventually(partial(is_there, hub, subject), seconds=30, what=subject)
        yield hub


async def is_there(hub: WatchedHub, subject: str) -> bool:
    found = await hub.ask("/api/connections", subject=subject)
    return bool(found["total"] == 1)


async def test_disconnecting_asks_first_and_is_seen_among_the_closed(
    hub: WatchedHub, page: Page
) -> None:
    """Escape leaves everything as it was; the button ends it with 4403."""
    await sign_in(page)
    connection = await hub.connection_of("ada")
    await go(page, hub.url, "connections?subject=ada")
    button = page.get_by_role("button", name=f"Disconnect {connection}")
    await button.press("Enter")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text(f"ada ({connection}) is closed")
    assert await faults(page) == []
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    assert await is_there(hub, "ada")
    await button.click()
    await dialog.get_by_role("button", name="Disconnect").click()
    await expect(page.locator(".toast")).to_contain_text("is closed")
    await expect(page.locator(".state")).to_contain_text("No connections")
    await go(page, hub.url, "closed")
    closed = row(page, "ada", "4403", "disconnected by operator", "node-0")
    await expect(closed).to_have_count(1)
    await closed.get_by_role("link", name=connection).click()
    await expect(page.locator(".state")).to_contain_text("It is not open")
    await expect(page.locator(".state")).to_contain_text("4403 forbidden")
    await expect(page.locator(".state")).to_contain_text("disconnected by operator")
    await page.goto(f"{hub.url}/dashboard#/closed?subject=nobody")
    await expect(page.locator(".state")).to_contain_text("None lately")
    await page.locator("input[name=subject]").fill("ada")
    await page.locator("input[name=subject]").press("Enter")
    await expect(closed).to_have_count(1)
    await expect(page).to_have_url(f"{hub.url}/dashboard#/closed?subject=ada")


async def test_unsubscribing_takes_one_channel_and_leaves_the_rest(
    hub: WatchedHub, page: Page
) -> None:
    """The page shows it gone by itself, and says why nothing more comes."""
    await sign_in(page)
    connection = await hub.connection_of("bob")
    await go(page, hub.url, f"connections/{connection}")
    await page.get_by_role("button", name="Unsubscribe from chat:42").click()
    await page.get_by_role("dialog").get_by_role("button", name="Unsubscribe").click()
    await expect(page.locator(".toast")).to_contain_text("has left chat:42")
    await expect(row(page, "chat:42")).to_have_count(0)
    await expect(row(page, "prices")).to_have_count(1)
    head = (await hub.ask("/api/channels/chat:42/history", limit=1))["position"]

    async def moved() -> bool:
        now = await hub.ask("/api/channels/chat:42/history", limit=1)
        return bool(now["position"] != head)

    await eventually(moved, what="another publication")
    offset = int(head.rpartition(":")[2]) + 1
    await go(page, hub.url, f"explain?connection={connection}&channel=chat:42&offset={offset}")
    await expect(page.locator(".verdict .pill")).to_have_text("not subscribed")


async def test_a_test_message_is_published_once_it_is_json(hub: WatchedHub, page: Page) -> None:
    """The dialog shows why the data was refused, and the operator corrects it there."""
    await sign_in(page)
    await go(page, hub.url, "channels/tests")
    await page.get_by_role("button", name="Publish a test message").click()
    dialog = page.get_by_role("dialog")
    data = dialog.get_by_label("Data")
    await data.fill("{no json")
    await dialog.get_by_role("button", name="Publish").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("JSON")
    await data.fill('{"it":"works"}')
    await dialog.get_by_role("button", name="Publish").click()
    await expect(page.locator(".toast")).to_contain_text("Published on tests as")
    await expect(page.locator(".tail li").first).to_contain_text('{"it":"works"}')


async def test_a_drained_node_shows_its_progress_and_can_be_taken_back(
    hub: WatchedHub, page: Page
) -> None:
    """Its connections are closed over the window; the others go on."""
    await sign_in(page)
    await go(page, hub.url)
    node = page.locator("[data-node=node-2]")
    await node.get_by_role("button", name="Drain node-2").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Window in seconds").fill("4")
    await dialog.get_by_role("button", name="Drain").click()
    await expect(node.locator("progress")).to_be_visible()
    await expect(node.locator(".pill")).to_have_text("drained")
    await expect(node.locator("dl div", has_text="Connections").locator("a")).to_have_text("0")
    await expect(page.locator("[data-node=node-1] .pill")).to_have_text("ready")
    await node.get_by_role("button", name="Take back node-2").click()
    await dialog.get_by_role("button", name="Take connections again").click()
    await expect(node.locator(".pill")).to_have_text("ready")


async def test_rebalancing_says_how_many_are_to_move(hub: WatchedHub, page: Page) -> None:
    """The dialog may also say that there is nothing to do."""
    await sign_in(page)
    await go(page, hub.url)
    await page.get_by_role("button", name="Rebalance").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Window in seconds").fill("1")
    await dialog.get_by_role("button", name="Rebalance").click()
    toast = page.locator(".toast")
    await expect(toast).to_have_count(1)
    text = await toast.inner_text()
    assert "asked to move" in text or "it is even" in text


async def test_a_node_that_is_gone_is_silent_first_and_then_no_more_there(
    hub: WatchedHub, page: Page
) -> None:
    """Killed, it takes no leave: its lease runs out."""
    await sign_in(page)
    await go(page, hub.url)
    node = page.locator("[data-node=node-1]")
    await expect(node.locator(".pill")).to_have_text("ready")
    hub.nodes[1].kill()
    await expect(node.locator(".pill")).to_have_text("silent")
    await expect(node).to_have_count(0, timeout=40_000)
    await expect(page.locator(".node")).to_have_count(2)
    await go(page, hub.url, "connections")
    await expect(page.locator("tbody tr").first).to_be_visible()
