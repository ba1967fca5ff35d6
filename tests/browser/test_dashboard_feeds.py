"""The dashboard's view of state, patterns, ends and presence, and what operators do about them."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal

import httpx2 as httpx
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect
from websockets.asyncio.client import ClientConnection, connect

from tests.browser.dashboard import faults, go, row, sign_in, width_of
from tests.browser.watched_hub import OPERATOR, OPERATOR_KEY, TOKEN_KEY, token
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer, is_installed
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
]
PICTURES = os.environ.get("HUB_SCREENSHOTS")
ROWS = 120
NAMESPACES = {"table": {"keyed": True}, "chat": {"presence": True}}


class FeedHub:
    """A hub with a table, an ended channel, and subjects that ask for less than all."""

    def __init__(self, hub: HubProcess, http: httpx.AsyncClient) -> None:
        self.hub = hub
        self.http = http
        self.connections: dict[str, str] = {}

    @property
    def url(self) -> str:
        return self.hub.url

    async def publish(self, *items: Mapping[str, object]) -> None:
        answer = await self.http.post("/api/publish", json=list(items))
        assert answer.status_code == 200, answer.text

    async def get(self, path: str, **query: str) -> Any:
        answer = await self.http.get(path, params=query)
        return answer.raise_for_status().json()

    @contextlib.asynccontextmanager
    async def subscriber(
        self, name: str, subject: str, *commands: Mapping[str, object]
    ) -> AsyncIterator[ClientConnection]:
        """Its connection is known as `name`; it reads until the block ends."""
        async with connect(f"{self.hub.ws_url}?token={token(subject)}") as peer:
            self.connections[name] = json.loads(await peer.recv())["connection"]
            for number, command in enumerate(commands):
                await peer.send(json.dumps({"op": "subscribe", "id": number, **command}))
                while json.loads(await peer.recv()).get("id") != number:
                    pass
            reading = asyncio.create_task(peer.wait_closed())
            try:
                yield peer
            finally:
                reading.cancel()


@pytest_asyncio.fixture(loop_scope="session")
async def feeds() -> AsyncIterator[FeedHub]:
    settings: dict[str, str] = {
        "HUB_OPERATOR_KEYS": OPERATOR_KEY,
        "HUB_TOKEN_KEYS": TOKEN_KEY,
        "HUB_NAMESPACES": json.dumps(NAMESPACES),
    }
    with HubProcess(allow_tracebacks=False, **settings) as hub:
        async with (
            httpx.AsyncClient(base_url=hub.url, headers=OPERATOR, timeout=30) as http,
            contextlib.AsyncExitStack() as peers,
        ):
            feeds = FeedHub(hub, http)
            await feeds.publish(
                *({"channel": "table:fx", "key": f"k{n:03}", "data": {"eur": n}}
                  for n in range(ROWS)),
                {"channel": "prices:eur", "data": 1},
                {"channel": "answer:7", "data": "the end", "end": True},
            )  # fmt: skip
            member = {"channel": "chat:1", "presence": {"data": {"typing": True}}}
            for place in ("one", "two"):
                await peers.enter_async_context(
                    feeds.subscriber(
                        place,
                        "ada",
                        {"pattern": "prices:*"},
                        {"channel": "scores", "filter": {"league": "nba"}},
                        {"channel": "busy", "every_ms": 500},
                        {"channel": "table:fx", "state": True},
                        member,
                    )
                )
            yield feeds


async def test_channels_show_their_rows_and_patterns_how_many_sessions_follow_them(
    feeds: FeedHub, page: Page
) -> None:
    """A pattern leads to its connections, and each connection names its patterns."""
    await sign_in(page)
    await go(page, feeds.url, "channels?sort=-rows")
    first = page.locator("tbody tr").first
    await expect(first).to_contain_text("table:fx")
    await expect(first.locator("[data-label=Rows]")).to_contain_text(f"{ROWS}, ")
    await expect(row(page, "prices:eur").locator("[data-label=Rows]")).to_have_text("\N{EN DASH}")
    pattern = page.get_by_role("region", name="Patterns").locator("tbody tr")
    await expect(pattern).to_have_count(1)
    await expect(pattern.locator("[data-label=Sessions]")).to_have_text("2")
    assert await faults(page) == []
    await pattern.get_by_role("link", name="prices:*").click()
    await expect(page.locator("tbody tr")).to_have_count(2)
    await expect(page.locator("input[name=pattern]")).to_have_value("prices:*")
    mark = page.locator("[data-label=Channels] .tag").first
    await expect(mark).to_have_attribute("title", "By patterns: prices:*")


async def test_a_connection_says_what_each_subscription_asks_for(
    feeds: FeedHub, page: Page
) -> None:
    """The page shows the pattern that a subscription came by, its filter, interval and rows."""
    await sign_in(page)
    await go(page, feeds.url, f"connections/{feeds.connections['one']}")
    for channel, said in {
        "prices:eur": "by the pattern prices:*",
        "scores": 'only {"league":"nba"}',
        "busy": "the newest each 500 ms",
        "table:fx": "rows first",
        "chat:1": "all",
    }.items():
        asked = row(page, channel).locator("[data-label='Asked for']")
        await expect(asked).to_have_text(said)
    await expect(page.locator(".facts")).to_contain_text("prices:*")
    assert await faults(page) == []


async def test_a_keyed_channel_shows_its_rows_in_pages_and_a_row_can_be_removed(
    feeds: FeedHub, page: Page
) -> None:
    await sign_in(page)
    await go(page, feeds.url, "channels/table:fx")
    rows = page.get_by_role("region", name="Rows").locator("tbody tr")
    await expect(page.get_by_role("heading", name=f"Rows ({ROWS})")).to_be_visible()
    await expect(rows).to_have_count(50)
    assert await faults(page) == []
    await expect(rows.first).to_contain_text('{"eur":0}')
    await page.get_by_role("button", name="Next").click()
    await expect(rows.first).to_contain_text("k050")
    await page.get_by_role("button", name="Next").click()
    await expect(rows).to_have_count(ROWS - 100)
    await expect(page.locator(".total")).to_have_text(f"101 to {ROWS} of {ROWS}")
    await page.get_by_role("button", name="Remove k119").click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await expect(rows).to_have_count(ROWS - 101)
    await expect(page.get_by_role("heading", name=f"Rows ({ROWS - 1})")).to_be_visible()
    await expect(page.locator(".tail")).to_contain_text("removes its row")


@pytest.mark.skipif(not is_installed(), reason="no redis-server here")
async def test_where_only_redis_knows_how_many_rows_there_are_they_are_counted_as_shown(
    page: Page,
) -> None:
    """A page of them, and whether there are more."""
    keyed = json.dumps({"table": {"keyed": True}})
    with (
        RedisServer() as redis,
        HubProcess(HUB_BROKER=redis.url, HUB_NAMESPACES=keyed) as hub,
    ):
        async with httpx.AsyncClient(base_url=hub.url) as http:

            async def put(*keys: int) -> None:
                rows = [{"channel": "table:fx", "key": f"k{n:03}", "data": n} for n in keys]
                (await http.post("/api/publish", json=rows)).raise_for_status()

            await put(*range(3))
            await go(page, hub.url, "channels/table:fx")
            counted = page.locator(".facts div", has_text="Rows").locator("dd")
            await expect(counted).to_have_text("3")
            await put(*range(60))
            await expect(counted).to_have_text("50 or more")
            await expect(page.get_by_role("heading", name="Rows (50 or more)")).to_be_visible()


async def test_the_end_of_a_channel_and_what_members_say_of_themselves_are_shown(
    feeds: FeedHub, page: Page
) -> None:
    await sign_in(page)
    await go(page, feeds.url, "channels/answer:7")
    await expect(page.locator(".facts")).to_contain_text("with 1, ")
    await expect(page.locator(".tail")).to_contain_text("the last of its channel")
    await go(page, feeds.url, "channels/chat:1")
    await expect(page.locator(".members li").first).to_contain_text('{"typing":true}')


async def test_history_is_deleted_by_a_button_that_asks_first(feeds: FeedHub, page: Page) -> None:
    """Rows of state stay, and an operator who answers no changes nothing."""
    await sign_in(page)
    await go(page, feeds.url, "channels/table:fx")
    await page.get_by_role("button", name="Delete history").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("for good")
    await page.keyboard.press("Escape")
    path = "/api/channels/table:fx/history"
    assert (await feeds.get(path))["publications"]
    await page.get_by_role("button", name="Delete history").click()
    await dialog.get_by_role("button", name="Delete history").click()
    await expect(page.locator(".toast")).to_contain_text("is deleted")
    assert (await feeds.get(path))["publications"] == []
    assert len((await feeds.get("/api/channels/table:fx/state"))["rows"]) == ROWS


async def test_a_subject_leaves_a_channel_with_all_its_connections_and_is_closed_without_a_ban(
    feeds: FeedHub, page: Page
) -> None:
    """The question says what it is about; the subject may come back."""
    await sign_in(page)
    await go(page, feeds.url, f"connections/{feeds.connections['one']}")
    await page.get_by_role("button", name="Unsubscribe from busy").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("All connections of ada").check()
    assert await faults(page) == []
    await dialog.get_by_role("button", name="Unsubscribe").click()
    await expect(page.locator(".toast")).to_contain_text("Each connection of ada has left busy")
    assert (await feeds.get("/api/connections", channel="busy", subject="ada"))["total"] == 0
    await page.get_by_role("button", name="Close all its connections").click()
    await expect(dialog).to_contain_text("not banned")
    await dialog.get_by_role("button", name="Close all").click()
    await expect(page.locator(".state")).to_contain_text("It is not open")

    async def are_gone() -> bool:
        return bool((await feeds.get("/api/connections", subject="ada"))["total"] == 0)

    await eventually(are_gone, what="all connections of ada to be closed")
    async with feeds.subscriber("again", "ada", {"channel": "busy"}):
        assert (await feeds.get("/api/connections", subject="ada"))["total"] == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_the_numbers_that_feeds_add_fit_a_phone_and_a_screen(
    feeds: FeedHub, page: Page, width: int, scheme: Literal["light", "dark"]
) -> None:
    await page.set_viewport_size({"width": width, "height": 900})
    await page.emulate_media(color_scheme=scheme)
    await sign_in(page)
    views = {
        "channels": "channels",
        "channel": "channels/table:fx",
        "connections": "connections",
        "connection": f"connections/{feeds.connections['one']}",
    }
    for name, path in views.items():
        await go(page, feeds.url, path)
        await expect(page.locator("tbody tr").first).to_be_visible()
        if PICTURES:
            await page.screenshot(
                path=f"{PICTURES}/feeds-{name}-{width}-{scheme}.png", full_page=True
            )
        assert await width_of(page) == width, name
