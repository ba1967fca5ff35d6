"""The pages in `clients/examples`, in a real browser, from the application that serves them."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx2 as httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.support.example_app import ExampleApp
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
]

SECONDS = 10.0


@pytest.fixture
def app() -> Iterator[ExampleApp]:
    with ExampleApp() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def other(browser: Browser) -> AsyncIterator[Page]:
    """The page of somebody else: another context shares no storage."""
    context = await browser.new_context()
    yield await context.new_page()
    await context.close()


def set_price(app: ExampleApp, symbol: str, price: float) -> None:
    body = {"symbol": symbol, "price": price}
    httpx.post(f"{app.url}/prices", json=body, timeout=SECONDS).raise_for_status()


async def test_the_ticker_shows_prices_as_they_come_and_what_was_missed_during_a_reload(
    app: ExampleApp, page: Page
) -> None:
    """One row for each symbol; the tab resumes where it was."""
    set_price(app, "EURUSD", 1.08)
    await page.goto(f"{app.url}/ticker")
    rows = page.locator("#prices tr")
    await expect(rows).to_have_text(["EURUSD1.08"])
    set_price(app, "GBPUSD", 1.27)
    set_price(app, "EURUSD", 1.07)
    await expect(rows).to_have_text(["EURUSD1.07", "GBPUSD1.27"])
    await expect(rows.first.locator("td").last).to_have_class("down")
    await page.goto("about:blank")
    # More than `last` would bring.
    symbols = [f"S{number}" for number in range(25)]
    for symbol in symbols:
        set_price(app, symbol, 1)
    await page.goto(f"{app.url}/ticker")
    expected = ["EURUSD1.07", "GBPUSD1.27", *(f"{symbol}1" for symbol in symbols)]
    await expect(rows).to_have_text(expected)
    await expect(page.locator("#missing")).to_be_hidden()


async def test_the_form_of_the_ticker_publishes_through_the_application(
    app: ExampleApp, page: Page, other: Page
) -> None:
    """Everybody who watches sees the price."""
    for each in (page, other):
        await each.goto(f"{app.url}/ticker")
        await expect(each.locator("#state")).to_contain_text("connected")
    await page.locator("[name=price]").fill("1.5")
    await page.locator("button").click()
    for each in (page, other):
        await expect(each.locator("#prices tr")).to_have_text(["EURUSD1.5"])


async def test_the_ticker_goes_on_after_its_hub_was_restarted(app: ExampleApp, page: Page) -> None:
    """The page reconnects by itself, and counts no missed price for a new epoch."""
    await page.goto(f"{app.url}/ticker")
    await expect(page.locator("#state")).to_contain_text("connected")
    set_price(app, "EURUSD", 1.08)
    await expect(page.locator("#prices tr")).to_have_text(["EURUSD1.08"])
    await asyncio.to_thread(app.restart)
    set_price(app, "EURUSD", 1.2)
    await expect(page.locator("#prices tr")).to_have_text(["EURUSD1.2"])


async def test_two_people_chat_and_see_each_other(app: ExampleApp, page: Page, other: Page) -> None:
    """The names come from the hub, the list of members is true, and a
    newcomer sees earlier messages."""
    await page.goto(f"{app.url}/chat?name=ada")
    await expect(page.locator("#members")).to_have_text("ada")
    await say(page, "<b>hello</b>")
    await other.goto(f"{app.url}/chat?name=bob")
    for each in (page, other):
        await expect(each.locator("#members")).to_have_text("ada, bob")
        await expect(each.locator("#messages li")).to_have_text(["ada<b>hello</b>"])
    await say(other, "hi")
    for each in (page, other):
        await expect(each.locator("#messages li")).to_have_text(["ada<b>hello</b>", "bobhi"])
    await expect(page.locator("[name=text]")).to_have_value("")


async def test_a_leave_is_seen_and_earlier_messages_can_be_asked_for(
    app: ExampleApp, page: Page, other: Page
) -> None:
    """Pages of 20, back to the first; a leave waits some seconds for a reload."""
    await other.goto(f"{app.url}/chat?name=bob")
    await expect(other.locator("#state")).to_have_text("connected")
    for number in range(1, 46):
        await say(other, f"{number}")
    await expect(other.locator("#messages li").last).to_have_text("bob45")
    await page.goto(f"{app.url}/chat?name=ada")
    lines = page.locator("#messages li")
    for shown in (20, 40, 45):
        expected = [f"bob{number}" for number in range(46 - shown, 46)]
        await expect(lines).to_have_text(expected)
        if shown < 45:
            await page.locator("#earlier").click()
    await expect(page.locator("#earlier")).to_be_hidden()
    await expect(page.locator("#members")).to_have_text("ada, bob")
    await other.close()

    async def alone() -> bool:
        return await page.locator("#members").text_content() == "ada"

    await eventually(alone, seconds=30, what="the leave of bob")


async def say(page: Page, text: str) -> None:
    await page.locator("[name=text]").fill(text)
    await page.locator("form button").click()
    await expect(page.locator("[name=text]")).to_have_value("")
