"""An operator in trouble uses the dashboard in a real Chromium on three nodes."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx2 as httpx
import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from tests.browser.dashboard import faults, go, row, sign_in, width_of
from tests.browser.watched_hub import PUBLISH_KEY, SLOW, WatchedHub, watched_hub
from tests.support.hub_process import HubProcess
from tests.support.redis_server import is_installed
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(not is_installed(), reason="redis-server is not installed"),
]
# So many seconds of figures are remembered before anybody looks.
REMEMBERED = 6


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hub() -> AsyncIterator[WatchedHub]:
    async with watched_hub() as hub:
        await eventually(partial(has_lost, hub), seconds=30, what="the slow one's loss")
        yield hub


async def has_lost(hub: WatchedHub) -> bool:
    found = await hub.ask("/api/connections", sort="-missing", limit=1)
    return bool(found["connections"] and found["connections"][0]["dropped"] > 0)


async def colour(found: Locator) -> str:
    """Of an element that is on the page: a list may be drawn anew while it is looked at."""

    async def told() -> str:
        seen: str = await found.evaluate("element => getComputedStyle(element).color")
        return seen

    return await eventually(told, what="an element that stays")


async def boxes(found: Locator) -> list[dict[str, float]]:
    told: list[dict[str, float]] = await found.evaluate_all(
        "all => all.map((each) => each.getBoundingClientRect().toJSON())"
    )
    return told


# -- figures ---------------------------------------------------------------------------------------


async def test_charts_begin_with_what_the_hub_remembers(hub: WatchedHub, page: Page) -> None:
    """On an axis of time: nobody has to wait two minutes to see what just happened."""

    async def remembered() -> bool:
        page = await hub.ask("/api/channels/hub:stats/history", limit=1)
        return int(page["position"].rpartition(":")[2]) > 3 * REMEMBERED

    await eventually(remembered, seconds=30, what="figures in the history")
    await sign_in(page)
    await go(page, hub.url)
    chart = page.locator(".chart", has_text="Publications per second")
    line = chart.locator("path").first
    # Live figures alone would take as many seconds; the page is younger than that.
    await expect(line).to_have_attribute(
        "d", re.compile(rf"(L[^L]*){{{REMEMBERED - 1},}}"), timeout=4000
    )
    assert (await chart.locator(".axis small").all_inner_texts()) == ["2 min ago", "1 min", "now"]
    scale = [
        text.replace(",", "") for text in await chart.locator(".scale small").all_inner_texts()
    ]
    assert scale[-1] == "0"
    assert float(scale[0]) == 2 * float(scale[1])


async def test_an_axis_says_no_number_twice(page: Page) -> None:
    """One connection: its half would be told as 1 as well."""
    with HubProcess() as hub:
        await page.goto(f"{hub.url}/dashboard")
        chart = page.locator(".chart", has_text="Connections")
        labels = chart.locator(".scale small")
        await expect(labels).to_have_text(["1", "", "0"])


async def test_losses_are_red_and_buttons_are_not(hub: WatchedHub, page: Page) -> None:
    """The rows with losses come first, and the fifty buttons that disconnect are not red."""
    await sign_in(page)
    await go(page, hub.url, "connections")
    first = page.locator("tbody tr").first
    await expect(first).to_contain_text(SLOW)
    bad = await colour(first.locator("td[data-label=Dropped] .bad"))
    for label in ("Lacks", "Outbox", "Oldest"):
        assert await colour(first.locator(f"td[data-label={label}] .bad")) == bad
    fine = row(page, "bob")
    await expect(fine.locator(".bad")).to_have_count(0)
    button = fine.get_by_role("button", name="Disconnect")
    assert await colour(button) != bad
    assert await colour(button) == await colour(page.locator("h1"))
    # All of it is there without scrolling sideways.
    table = page.locator(".scroll")
    assert await table.evaluate("each => each.scrollWidth <= each.clientWidth")
    await go(page, hub.url)
    node = page.locator("[data-node=node-2] dl div", has_text="congested")
    assert await colour(node.locator(".bad")) == bad
    loss = page.locator(".chart", has_text="Loss per second").locator("b").first
    await expect(loss).to_have_class("bad")


async def test_dashboards_are_no_subscribers_and_are_marked(hub: WatchedHub, page: Page) -> None:
    """Looking at a channel must not look like a listener."""
    await sign_in(page)
    await go(page, hub.url, "channels/looked-at")
    await page.get_by_role("button", name="Publish a test message").click()
    await page.get_by_role("dialog").get_by_role("button", name="Publish").click()
    fact = page.locator(".facts div", has_text="Subscribers").locator("dd")
    await expect(fact).to_have_text("+1 dashboard 0")
    await expect(page.locator(".facts div", has_text="per second").locator("dd")).not_to_have_text(
        "\N{EN DASH}"
    )
    await go(page, hub.url, "connections?transport=websocket")
    await expect(row(page, "dashboard")).to_have_count(1)
    await expect(row(page, "bob").locator(".tag")).to_have_count(0)


async def test_a_connections_figures_have_rates(hub: WatchedHub, page: Page) -> None:
    """The rates are those of what it is sent and of what it loses, soon
    after the page is opened."""
    await sign_in(page)
    await go(page, hub.url, f"connections/{await hub.connection_of('bob')}")
    await expect(page.locator(".facts div", has_text="Sent").locator("dd")).to_have_text(
        re.compile(r"^[\d,]+, [\d.,]+/s$")
    )
    await go(page, hub.url, f"connections/{await hub.connection_of(SLOW)}")
    dropped = page.locator(".facts div", has_text="Dropped").locator("dd")
    await expect(dropped).to_have_text(re.compile(r"/s$"))


@contextlib.asynccontextmanager
async def fifty_a_second(hub: WatchedHub) -> AsyncIterator[None]:
    async def publish() -> None:
        headers = {"Authorization": f"Bearer {PUBLISH_KEY}"}
        async with httpx.AsyncClient(timeout=10, headers=headers) as client:
            while True:
                items: list[dict[str, Any]] = [{"channel": "prices", "data": n} for n in range(10)]
                await client.post(f"{hub.nodes[1].url}/api/publish", json=items)
                await asyncio.sleep(0.2)

    publishing = asyncio.create_task(publish())
    try:
        yield
    finally:
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)


async def test_the_tail_shows_its_marks_at_fifty_a_second(hub: WatchedHub, page: Page) -> None:
    """The rows that are seen are the newest, and each says what became of it."""
    asked = 0

    def count(request: Any) -> None:
        nonlocal asked
        asked += "api/explain" in request.url

    page.on("request", count)
    await sign_in(page)
    async with fifty_a_second(hub):
        await go(page, hub.url, f"connections/{await hub.connection_of('bob')}")
        marks = page.locator(".tail li .mark")
        await expect(marks.nth(30)).to_be_attached()
        for _ in range(5):
            newest = await marks.first.evaluate("each => each.closest('li').innerText")
            seen = await page.evaluate(
                "[...document.querySelectorAll('.tail li .mark')].slice(0, 12)"
                ".map((each) => each.innerText)"
            )
            assert seen.count("written") >= 11, seen

            async def moved(before: str = newest) -> bool:
                now: str = await marks.first.evaluate("each => each.closest('li').innerText")
                return now != before

            await eventually(moved, what="newer rows")
    # A question is about a page of rows.
    shown = int((await page.locator(".bar .hint").inner_text()).split()[0].replace(",", ""))
    assert asked < shown / 2


# -- why not? --------------------------------------------------------------------------------------


async def test_a_subject_is_the_first_thing_that_can_be_asked_about(
    hub: WatchedHub, page: Page
) -> None:
    """All connections of the subject stand on one line of time, and a click on a
    message asks about that one."""
    await sign_in(page)
    await go(page, hub.url, "explain")
    await expect(page.locator(".filters input").first).to_have_attribute("name", "subject")
    await page.get_by_role("button", name="Explain").click()
    await expect(page.get_by_role("alert").filter(has_text="Give a subject")).to_be_visible()
    await page.get_by_label("Subject").fill(SLOW)
    await page.get_by_label("Channel").fill("bulk")
    await page.get_by_label("Channel").press("Enter")
    line = page.get_by_role("table", name="Line of time")
    await expect(line.locator("tbody tr").first).to_contain_text("opened")
    await expect(line).to_contain_text("dropped because the peer read too slowly")
    assert await faults(page) == []
    message = page.locator(".newest button").last
    offset = await message.locator(".place").inner_text()
    await message.click()
    await expect(page.locator(".verdict .pill")).to_have_text(re.compile("dropped|queued"))
    await expect(page.get_by_label("Offset")).to_have_value(offset)
    await expect(page).to_have_url(re.compile(rf"subject={SLOW}.*channel=bulk.*offset={offset}"))
    await page.get_by_label("Subject").fill("nobody at all")
    await page.get_by_role("button", name="Explain").click()
    await expect(page.locator(".state")).to_contain_text("Nobody of that name")


# -- at any width ----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [390, 1280])
async def test_nothing_stands_alone_on_a_row_or_over_a_line(
    hub: WatchedHub, page: Page, width: int
) -> None:
    """Views in one row, legends in one row, and an axis beside its plot."""
    await page.set_viewport_size({"width": width, "height": 900})
    await sign_in(page)
    await go(page, hub.url)
    await expect(page.locator(".chart b").first).not_to_have_text("\N{EN DASH}")
    assert len({box["top"] for box in await boxes(page.locator("nav a"))}) == 1
    for box in await boxes(page.locator(".chart p")):
        assert box["height"] < 48
    overflowing = await page.locator(".chart p").evaluate_all(
        "all => all.filter((each) => each.scrollWidth > each.clientWidth).length"
    )
    assert overflowing == 0
    # Nothing of it is cut off, and nobody has to find out that it scrolls.
    fits = "(views) => views.scrollWidth <= views.clientWidth"
    assert await page.locator("header > nav").evaluate(fits)
    scales, plots = await boxes(page.locator(".scale")), await boxes(page.locator(".plot svg"))
    for scale, plot in zip(scales, plots, strict=True):
        assert scale["right"] <= plot["left"]
    inside = await boxes(page.locator(".chart"))
    assert all(plot["right"] <= box["right"] for plot, box in zip(plots, inside, strict=True))
    for path in (
        f"explain?subject={SLOW}&channel=bulk",
        f"connections/{await hub.connection_of(SLOW)}",
    ):
        await go(page, hub.url, path)
        await expect(page.locator("table").first).to_be_visible()
        assert await width_of(page) == width


# -- nodes that go: last, because they do not come back --------------------------------------------


async def test_nodes_that_ended_are_listed_with_when_and_how(hub: WatchedHub, page: Page) -> None:
    """One node says that it ends and one falls silent; a page that is opened
    right after that shows both."""
    await sign_in(page)
    await go(page, hub.url)
    await expect(page.locator(".node")).to_have_count(3)
    await asyncio.to_thread(hub.nodes[1].stop)
    stopped = page.locator("[data-gone=node-1]")
    await expect(stopped).to_contain_text("stopped at")
    await expect(stopped.locator(".pill")).to_have_text("stopped")
    await expect(page.locator(".node")).to_have_count(2)
    await asyncio.to_thread(hub.nodes[2].kill)
    lost = page.locator("[data-gone=node-2]")
    await expect(lost).to_contain_text("Nothing was heard of it after", timeout=40_000)
    await expect(lost.locator(".pill")).to_have_text("lost")
    await page.reload()
    await expect(stopped).to_contain_text("stopped at")
    await expect(lost).to_contain_text("Nothing was heard of it after", timeout=30_000)
    assert await faults(page) == []
