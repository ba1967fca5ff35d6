"""The demo page and the browser client in a real Chromium, against a real hub."""

import json
import os
import re
import shlex

import httpx2 as httpx
import pytest
from playwright.async_api import Page, WebSocketRoute, expect

from tests.browser.conftest import publish
from tests.support.hub_process import HubProcess

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
]
CHANNELS = ("cpu", "memory", "disk", "network")
# Where `README.md` gets its picture from: HUB_SCREENSHOT=<path> pytest -k picture.
SCREENSHOT = os.environ.get("HUB_SCREENSHOT")


async def expect_values_to_change(page: Page, transport: str) -> None:
    """Every card shows a message, and later a newer one, over `transport`."""
    await expect(page.locator("#transport")).to_have_text(transport)
    await expect(page.locator("#state")).to_have_text("connected")
    for channel in CHANNELS:
        card = page.locator(f".card.{channel}[data-live]")
        await expect(card).to_be_visible()
        place, line = card.locator(".place"), card.locator(".line").first
        seen, drawn = await place.inner_text(), await line.get_attribute("d")
        await expect(place).not_to_have_text(seen)
        await expect(line).not_to_have_attribute("d", drawn or "")
    await expect(page.locator("#gaps")).to_have_text("0")


async def test_the_page_shows_values_change_over_websocket(
    demo_hub: HubProcess, page: Page
) -> None:
    """The first choice of the client, with nothing in its way."""
    await page.goto(demo_hub.url)
    await expect_values_to_change(page, "WebSocket")


async def test_the_page_shows_values_change_over_sse_where_websocket_cannot_be_made(
    demo_hub: HubProcess, page: Page
) -> None:
    """A browser policy may forbid WebSocket altogether: its constructor throws."""
    await page.add_init_script("window.WebSocket = class { constructor() { throw Error('no'); } }")
    await page.goto(demo_hub.url)
    await expect_values_to_change(page, "SSE")


async def test_the_page_shows_values_change_over_sse_where_websocket_is_cut(
    demo_hub: HubProcess, own_page: Page
) -> None:
    """A proxy may end the WebSocket before the hub's welcome came through."""

    async def cut(socket: WebSocketRoute) -> None:
        await socket.close()

    await own_page.route_web_socket("**/ws*", cut)
    await own_page.goto(demo_hub.url)
    await expect_values_to_change(own_page, "SSE")


async def test_the_page_shows_values_change_over_sse_where_websocket_stays_silent(
    demo_hub: HubProcess, own_page: Page
) -> None:
    """A proxy may take the handshake and pass no frame: only the probe's time-out tells."""
    await own_page.route_web_socket("**/ws*", lambda socket: None)
    await own_page.goto(demo_hub.url)
    await expect_values_to_change(own_page, "SSE")


@pytest.mark.parametrize(("query", "transport"), [("", "WebSocket"), ("?transport=sse", "SSE")])
async def test_the_page_comes_back_by_itself_after_the_hub_was_restarted(
    demo_hub: HubProcess, page: Page, query: str, transport: str
) -> None:
    """The memory broker forgets its epochs: a reset, and then new values on the same page."""
    await page.goto(demo_hub.url + query)
    await expect_values_to_change(page, transport)
    demo_hub.stop()
    await expect(page.locator("#state")).not_to_have_text("connected")
    demo_hub.restart()
    await expect_values_to_change(page, transport)


@pytest.mark.parametrize(("query", "transport"), [("", "WebSocket"), ("?transport=sse", "SSE")])
async def test_a_message_of_ones_own_arrives_from_the_page_and_from_elsewhere(
    plain_hub: HubProcess, page: Page, query: str, transport: str
) -> None:
    """The "try it" part, with the keyboard alone, on a hub that publishes nothing itself."""
    await page.goto(plain_hub.url + query)
    await expect(page.locator("#transport")).to_have_text(transport)
    await page.locator("#channel").fill("mine")
    await page.locator("#channel").press("Enter")
    await page.locator("#message").fill("it's here")
    await page.locator("#message").press("Enter")
    await expect(page.locator("#log li .body")).to_have_text(["it's here"])
    publish(plain_hub, "mine", {"eur": 1.08})
    await expect(page.locator("#log li .body")).to_have_text(['{"eur":1.08}', "it's here"])
    command = f"""curl -d '"it'\\''s here"' '{plain_hub.url}/api/publish/mine'"""
    await expect(page.locator("#curl")).to_have_text(command)


@pytest.mark.parametrize(
    ("typed", "stored"),
    [('{"eur": 1.5}', {"eur": 1.5}), ("42", 42), ("null", None), ("{eur", "{eur")],
)
async def test_json_that_is_typed_is_published_as_json_and_anything_else_as_text(
    plain_hub: HubProcess, page: Page, typed: str, stored: object
) -> None:
    """The page's button and the command line that it shows both do so."""
    await page.goto(plain_hub.url)
    await page.locator("#channel").fill("mine")
    await page.locator("#message").fill(typed)
    await page.locator("#message").press("Enter")
    await expect(page.locator("#log li")).to_have_count(1)
    answer = httpx.get(f"{plain_hub.url}/api/channels/mine/history").json()
    assert [each["data"] for each in answer["publications"]] == [stored]
    command = await page.locator("#curl").inner_text()
    sent = shlex.split(command)[2]
    assert json.loads(sent) == stored


async def test_a_page_without_its_hub_says_what_it_waits_for_and_then_what_a_reset_is(
    plain_hub: HubProcess, page: Page
) -> None:
    """The page says more than "waiting" and "reset"."""
    await page.goto(plain_hub.url)
    await page.locator("#message").press("Enter")
    await expect(page.locator("#log li")).to_have_count(1)
    plain_hub.stop()
    await expect(page.locator("#state")).to_have_text(
        re.compile(r"^waiting for the hub, next try in \d+ s$")
    )
    plain_hub.restart()
    await expect(page.locator("#log li .body").first).to_contain_text("Offsets begin again")


@pytest.mark.parametrize("width", [390, 1280])
async def test_a_page_that_is_refused_says_why_once(page: Page, width: int) -> None:
    """A hub that wants tokens, opened without one: the cards and the log do not repeat it."""
    await page.set_viewport_size({"width": width, "height": 900})
    with HubProcess(HUB_TOKEN_KEYS="0123456789abcdef" * 2) as hub:
        await page.goto(hub.url)
        await expect(page.locator("#closed")).to_contain_text("?token=TOKEN")
        await expect(page.locator("#state")).to_have_text("closed")
        await expect(page.locator(".detail")).to_have_text(["no connection"] * len(CHANNELS))
        assert await page.locator("#log li").count() == 0
        await page.locator("#message").press("Enter")
        await expect(page.locator("#log li")).to_have_count(1)  # what was asked for is answered
        if picture := os.environ.get("HUB_SCREENSHOTS"):
            await page.screenshot(path=f"{picture}/refused-{width}.png", full_page=True)
        assert await page.evaluate("document.documentElement.scrollWidth") == width


async def test_without_the_demo_the_page_says_how_to_start_it(
    plain_hub: HubProcess, page: Page
) -> None:
    """An empty page would look broken."""
    await page.goto(plain_hub.url)
    await expect(page.locator("#empty")).to_contain_text("hub serve --demo")


async def test_the_page_fits_a_phone(demo_hub: HubProcess, page: Page) -> None:
    """Nothing makes the page scroll sideways at 360 pixels."""
    await page.set_viewport_size({"width": 360, "height": 700})
    await page.goto(demo_hub.url)
    await expect_values_to_change(page, "WebSocket")
    assert await page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.skipif(SCREENSHOT is None, reason="HUB_SCREENSHOT names no file")
async def test_the_picture_for_the_readme_is_taken(demo_hub: HubProcess, page: Page) -> None:
    """The picture has charts that are full of history."""
    await page.emulate_media(color_scheme="dark")
    await page.goto(demo_hub.url)
    await expect(page.locator(".card.cpu .place")).to_contain_text(":110", timeout=60_000)
    await page.locator("#message").press("Enter")
    await expect(page.locator("#log li")).to_have_count(1)
    await page.screenshot(path=SCREENSHOT, full_page=True)
