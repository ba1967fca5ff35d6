"""The snippets of `hub/docs/browser.md` in a real browser, on a page of the hub's host."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.support.hub_process import HubProcess
from tests.support.snippets import URL, blocks, finished
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
]

SECONDS = 10.0
WAIT_SECONDS = 30.0
KEY = "t" * 32


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(HUB_NAMESPACES='{"chat": {"presence": true}}') as running:
        yield running


def publish(hub: HubProcess, eur: float, *, to: str = "prices") -> None:
    url = f"{hub.url}/api/publish/{to}"
    httpx.post(url, json={"eur": eur}, timeout=SECONDS).raise_for_status()


class Logged:
    """A page of the hub's host that runs one snippet, and what it wrote to the console."""

    def __init__(self, page: Page, hub: HubProcess) -> None:
        self.page = page
        self.lines: list[str] = []
        self._hub = hub
        page.on("console", lambda message: self.lines.append(message.text))

    async def run(self, label: str) -> None:
        (block,) = (each for each in blocks(label) if each.language in {"js", "html"})
        text = block.text.replace(URL, self._hub.url)
        script = f'<script type="module">{text}</script>' if block.language == "js" else text

        async def answer(route: Route) -> None:
            await route.fulfill(body=f"<!doctype html>{script}", content_type="text/html")

        await self.page.route("**/example", answer)
        await self.page.goto(f"{self._hub.url}/example")

    async def wait_for(self, text: str) -> None:
        found = lambda: any(text in line for line in self.lines)  # noqa: E731 - a condition
        await eventually(found, seconds=WAIT_SECONDS, what=f"{text} among {self.lines}")


async def test_the_page_shows_the_current_price_and_the_next(hub: HubProcess, page: Page) -> None:
    """The page runs as a reader would paste it."""
    publish(hub, 1.5)
    await Logged(page, hub).run("page")
    await expect(page.locator("#eur")).to_have_text("1.5")
    await asyncio.to_thread(publish, hub, 1.6)
    await expect(page.locator("#eur")).to_have_text("1.6")


async def test_the_loop_ends_where_it_is_left(hub: HubProcess, page: Page) -> None:
    """The loop gets each message in turn."""
    logged = Logged(page, hub)
    publish(hub, 1.5)
    await logged.run("loop")
    await logged.wait_for(" 1.5")
    publish(hub, 2.5)
    await logged.wait_for(" 2.5")


async def test_a_position_of_another_epoch_is_told_as_a_reset(hub: HubProcess, page: Page) -> None:
    """The page then gets all that the new epoch has."""
    logged = Logged(page, hub)
    publish(hub, 1.75)
    await logged.run("gaps")
    await logged.wait_for("the hub began anew at")
    await logged.wait_for("price 1.75")


async def test_presence_counts_who_comes(hub: HubProcess, page: Page, browser: Browser) -> None:
    """Two contexts are two members."""
    logged = Logged(page, hub)
    await logged.run("presence")
    await logged.wait_for("here: 1")
    context = await browser.new_context()
    await Logged(await context.new_page(), hub).run("presence")
    await logged.wait_for("here: 2")
    await context.close()


async def test_a_page_follows_what_a_pattern_matches(hub: HubProcess, page: Page) -> None:
    """A channel that appears later is followed too."""
    logged = Logged(page, hub)
    await logged.run("page-pattern")
    await logged.wait_for("prices:eur 1.08")
    await asyncio.to_thread(publish, hub, 0.93, to="prices:usd")
    await logged.wait_for("following prices:usd")
    await logged.wait_for("prices:usd {eur: 0.93}")


async def test_a_page_keeps_a_table(page: Page) -> None:
    """The rows, a change of one, and one that is taken away."""
    with HubProcess(HUB_NAMESPACES='{"prices": {"keyed": true}}') as hub:
        for key in ("EURUSD", "EURGBP"):
            publish(hub, 1, to=f"prices:fx?key={key}")
        logged = Logged(page, hub)
        await logged.run("page-state")
        await logged.wait_for('table {"EURGBP":{"eur":1},"EURUSD":{"eur":1}}')
        await asyncio.to_thread(publish, hub, 2, to="prices:fx?key=EURUSD")
        await logged.wait_for('table {"EURGBP":{"eur":1},"EURUSD":{"eur":2}}')
        row = f"{hub.url}/api/channels/prices:fx/state/EURGBP"
        (await asyncio.to_thread(httpx.delete, row, timeout=SECONDS)).raise_for_status()
        await logged.wait_for('table {"EURUSD":{"eur":2}}')


async def test_a_page_talks_and_reads_history(hub: HubProcess, page: Page) -> None:
    """Its own message comes back to it."""
    logged = Logged(page, hub)
    await logged.run("talk")
    await logged.wait_for("somebody hello")
    await logged.wait_for("true")


async def test_a_page_gets_its_token_from_the_application(page: Page, tmp_path: Path) -> None:
    """The one that the Python snippet beside it makes."""
    (block,) = blocks("token")
    token = finished(block, variables={"HUB_TOKEN_KEYS": KEY}).strip()
    with HubProcess(HUB_TOKEN_KEYS=KEY, HUB_PUBLISH_KEYS="p" * 32) as hub:
        headers = {"Authorization": "Bearer " + "p" * 32}
        price = {"eur": 1.25}
        url = f"{hub.url}/api/publish/prices"
        httpx.post(url, json=price, headers=headers, timeout=SECONDS).raise_for_status()
        await page.route("**/token", lambda route: route.fulfill(body=token))
        logged = Logged(page, hub)
        await logged.run("page-token")
        await logged.wait_for("price 1.25")
        assert not any("refused" in line for line in logged.lines)


async def test_an_event_source_tells_of_a_gap(hub: HubProcess, page: Page) -> None:
    """The page uses nothing but the browser."""
    logged = Logged(page, hub)
    publish(hub, 1.5)
    await logged.run("stream-gaps")
    await logged.wait_for("the hub began anew at")
