"""Every view of the dashboard in a real Chromium, on three nodes with Redis and live traffic."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Page, Request, expect

from tests.browser.dashboard import VIEWS, faults, go, row, sign_in, width_of
from tests.browser.watched_hub import LOST, OPERATOR_KEY, PEOPLE, SLOW, WatchedHub, watched_hub
from tests.support.redis_server import is_installed
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(not is_installed(), reason="redis-server is not installed"),
]
# The crowd on WebSocket, the slow one, one each on SSE and polling.
EVERYBODY = len(PEOPLE) + 3
# What stands where there is no figure.
NOTHING = "\N{EN DASH}"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hub() -> AsyncIterator[WatchedHub]:
    async with watched_hub() as hub:
        await eventually(lambda: all_there(hub), seconds=30, what="everybody's connection")
        yield hub


async def all_there(hub: WatchedHub) -> bool:
    """All subscribers are connected and the slow one has lost enough."""
    found = await hub.ask("/api/connections", sort="-dropped", limit=1)
    return bool(found["total"] >= EVERYBODY and found["connections"][0]["dropped"] > 3 * LOST)


async def test_an_operator_comes_in_with_a_key_and_with_nothing_else(
    hub: WatchedHub, page: Page
) -> None:
    """A wrong one is said to be wrong; the right one is kept by this tab alone."""
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    await page.goto(f"{hub.url}/dashboard")
    field = page.get_by_label("Operator key")
    await expect(field).to_be_focused()
    assert await faults(page) == []
    await field.fill("wrong")
    await field.press("Enter")
    await expect(page.locator(".problem")).to_contain_text("not one that is set here")
    await field.fill(OPERATOR_KEY)
    await field.press("Enter")
    await expect(page.locator(".node")).to_have_count(3)
    await expect(page.locator("#status")).to_have_text("Live")
    assert sockets
    assert OPERATOR_KEY not in "".join(sockets)
    assert OPERATOR_KEY in await page.evaluate("Object.values(sessionStorage).join()")
    assert OPERATOR_KEY not in await page.evaluate("Object.values(localStorage).join()")
    assert OPERATOR_KEY not in await page.evaluate("document.cookie + location.href")
    await page.get_by_role("button", name="Sign out").click()
    await expect(field).to_be_visible()
    assert await page.evaluate("sessionStorage.length") == 0


async def test_the_overview_is_live_without_asking(hub: WatchedHub, page: Page) -> None:
    """Three nodes, charts that move, and no request once it is there: figures are pushed."""
    await sign_in(page)
    await go(page, hub.url)
    await expect(page.locator(".node .pill")).to_have_text(["ready", "ready", "ready"])
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    page.on("request", note)
    for title in ("Connections", "Publications per second", "Deliveries per second"):
        figure = page.locator(".chart", has_text=title).locator("b").first
        await expect(figure).not_to_have_text("0")
        await expect(figure).not_to_have_text(NOTHING)
    line = page.locator(".chart", has_text="Deliveries per second").locator("path").first
    for _ in range(3):
        drawn = await line.get_attribute("d")
        await expect(line).not_to_have_attribute("d", drawn or "")
    assert asked == []


async def test_the_overview_counts_what_the_nodes_hold(hub: WatchedHub, page: Page) -> None:
    """The overview counts each transport over all nodes, and this page itself among them."""
    await sign_in(page)
    await go(page, hub.url)
    figures = page.locator(".chart", has_text="Connections").first.locator("b")

    async def agree() -> bool:
        """The page of the test before may still be on its way out."""
        found = await hub.ask("/api/connections", limit=1)
        return str(found["total"]) == await figures.nth(0).inner_text()

    await eventually(agree, what="the same number here and in the list")
    await expect(figures.nth(2)).to_have_text("1")
    await expect(figures.nth(3)).to_have_text("1")
    latency = page.locator(".chart", has_text="Delivery latency").locator("b").first
    await expect(latency).to_contain_text("ms")
    broker = page.locator(".node").first.locator("dl div", has_text="Broker")
    await expect(broker).to_contain_text("ms")


async def test_channels_are_those_of_all_nodes_in_any_order(hub: WatchedHub, page: Page) -> None:
    """Subscribers are added up over nodes; the keyboard sorts and filters."""
    await sign_in(page)
    await go(page, hub.url, "channels")
    first = page.locator("tbody tr").first
    await expect(first).to_contain_text("prices")
    await expect(first.locator("td").nth(1)).to_have_text(str(len(PEOPLE) + 1))
    await expect(first.locator("td").nth(2)).not_to_have_text(NOTHING)
    await page.get_by_role("columnheader", name="Channel").get_by_role("button").press("Enter")
    await expect(first).to_contain_text("bulk")
    await expect(page).to_have_url(f"{hub.url}/dashboard#/channels?sort=channel")
    await page.get_by_label("Begins with").fill("chat:")
    await page.get_by_label("Begins with").press("Enter")
    await expect(page.locator("tbody tr")).to_have_count(1)


async def test_a_channel_shows_its_history_and_then_what_comes(hub: WatchedHub, page: Page) -> None:
    """The page lists the members, and the operator who only looks is not one of them."""
    await sign_in(page)
    await go(page, hub.url, "channels/chat%3A42")
    await expect(page.locator(".facts")).to_contain_text("Held in history")
    await expect(page.get_by_role("heading", name="Present")).to_have_text(
        f"Present ({len(PEOPLE)})"
    )
    newest = page.locator(".tail li").first
    await expect(newest).to_contain_text("key greeting")
    seen = await newest.inner_text()
    await expect(newest).not_to_have_text(seen)


async def test_connections_are_filtered_and_sorted_by_the_hub(hub: WatchedHub, page: Page) -> None:
    """The one who reads nothing is found by what it lost."""
    await sign_in(page)
    await go(page, hub.url, "connections")
    await page.get_by_role("button", name="Dropped").click()
    await expect(page.locator("tbody tr").first).to_contain_text(SLOW)
    await page.locator("select[name=transport]").select_option("sse")
    await page.get_by_role("button", name="Filter").click()
    await expect(row(page, "sse-sue", "node-1")).to_have_count(1)
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.reload()
    await expect(page.locator("tbody tr")).to_have_count(1)


async def test_a_connections_page_tells_what_became_of_each_publication(
    hub: WatchedHub, page: Page
) -> None:
    """Written to one who reads; of one who does not, lost or still waiting."""
    await sign_in(page)
    await go(page, hub.url, f"connections/{await hub.connection_of('bob')}")
    await expect(page.locator(".facts")).to_contain_text("bob")
    await expect(row(page, "prices", "live")).to_have_count(1)
    await expect(page.locator(".mark .good").first).to_have_text("written")
    await go(page, hub.url, f"connections/{await hub.connection_of(SLOW)}")
    await expect(row(page, "bulk", "congested")).to_have_count(1)
    await expect(page.locator(".mark .warn, .mark .bad").first).to_have_text("queued")


async def test_the_form_says_why_a_publication_did_not_come(hub: WatchedHub, page: Page) -> None:
    """An operator types into the form what a user complains of."""
    await sign_in(page)
    await go(page, hub.url, "explain")
    await page.get_by_label("Connection").fill(await hub.connection_of(SLOW))
    await page.get_by_label("Channel").fill("bulk")
    await page.get_by_label("Offset").fill(str(LOST))
    await page.get_by_label("Offset").press("Enter")
    verdict = page.locator(".verdict")
    await expect(verdict.locator(".pill")).to_have_text("dropped")
    await expect(verdict).to_contain_text("drop_oldest")
    assert await faults(page) == []


async def test_an_address_leads_back_to_what_it_showed(hub: WatchedHub, page: Page) -> None:
    """The address can be sent to a colleague, who sees the same answer."""
    await sign_in(page)
    connection = await hub.connection_of(SLOW)
    await go(page, hub.url, f"explain?connection={connection}&channel=bulk&offset={LOST}")
    await expect(page.locator(".verdict .pill")).to_have_text("dropped")


@pytest.mark.parametrize("view", [*VIEWS, "channels/prices", "connections/"])
async def test_no_view_has_a_serious_accessibility_fault(
    hub: WatchedHub, page: Page, view: str
) -> None:
    """axe-core judges each view, contrast included, and no view is wider than a phone."""
    await page.emulate_media(color_scheme="dark")
    await sign_in(page)
    if view == "connections/":
        view += await hub.connection_of(SLOW)
    await go(page, hub.url, view)
    await expect(page.locator("[aria-busy], .state:has-text('Loading')")).to_have_count(0)
    assert await faults(page) == []
    await page.emulate_media(color_scheme="light")
    assert await faults(page) == []
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await faults(page) == []
    assert await width_of(page) == 360
    await page.emulate_media(color_scheme="dark")
    assert await faults(page) == []


async def test_the_keyboard_alone_reaches_every_view(hub: WatchedHub, page: Page) -> None:
    """From the top of the page by Tab and Enter; the content gets the focus then."""
    await sign_in(page)
    await go(page, hub.url)
    for view in ("Channels", "Connections", "Closed", "Refused", "Why not?", "Overview"):
        await page.evaluate("document.body.tabIndex = -1; document.body.focus()")
        for _ in range(12):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.textContent") == view:
                break
        await page.keyboard.press("Enter")
        await expect(page.locator("h1")).to_have_text(view)
        await expect(page.locator("main")).to_be_focused()
