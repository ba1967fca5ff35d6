"""The dashboard's lists: many rows, rows that are not nice, and the order that they say."""

import contextlib
import json
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Page, Route, expect
from websockets.asyncio.client import connect

from tests.browser.conftest import publish
from tests.browser.dashboard import go
from tests.support.hub_process import HubProcess

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
]
MANY = 50_000
PAGE = 50


async def test_names_that_peers_chose_steer_nothing(plain_hub: HubProcess, page: Page) -> None:
    """No markup, no other direction of writing, no lines: an operator sees what is there."""
    publish(plain_hub, "prices", {"html": "<img src=x>", "turned": "\u202eabc"})
    agent = "<b>me</b> " + "x" * 4000
    async with connect(f"{plain_hub.ws_url}?channel=prices", user_agent_header=agent) as peer:
        await go(page, plain_hub.url, "connections?channel=prices")
        found = page.locator("tbody tr")
        await expect(found).to_contain_text("<b>me</b> xxx")
        box = await found.bounding_box()
        assert box is not None
        assert box["height"] < 100
        await page.goto(f"{plain_hub.url}/dashboard#/channels/prices")
        await expect(page.locator(".tail li")).to_contain_text(
            '{"html":"<img src=x>","turned":"\\u202eabc"}'
        )
        await page.goto(f"{plain_hub.url}/dashboard#/closed")
        await peer.close(1000, "so \u202e\nlong")
        mark = "\N{REPLACEMENT CHARACTER}"
        await expect(page.locator("tbody tr")).to_contain_text(f"so {mark}{mark}long")


async def test_pages_sorted_by_words_with_spaces_follow_each_other(
    plain_hub: HubProcess, page: Page
) -> None:
    """Fifty-five browsers of one kind: the second page begins where the first ended."""
    agent = "Mozilla/5.0 (X11; Linux) of a kind"
    async with contextlib.AsyncExitStack() as peers:
        for _ in range(PAGE + 5):
            await peers.enter_async_context(connect(plain_hub.ws_url, user_agent_header=agent))
        await go(page, plain_hub.url, "connections?sort=user_agent")
        total = page.locator(".total")
        await expect(total).to_have_text(f"1 to {PAGE} of {PAGE + 6}")
        await page.get_by_role("button", name="Next").click()
        await expect(total).to_have_text(f"{PAGE + 1} to {PAGE + 6} of {PAGE + 6}")
        await expect(page.locator("tbody tr")).to_have_count(6)


async def test_the_age_of_a_connection_is_sorted_as_it_is_shown(
    plain_hub: HubProcess, page: Page
) -> None:
    """The arrow, what a screen reader says, and the choice on a phone agree with the ages."""
    await go(page, plain_hub.url, "connections?sort=-opened_ms")
    head = page.locator("th[data-column=opened_ms]")
    await expect(head).to_have_attribute("aria-sort", "ascending")
    await expect(page.locator(".order select")).to_have_value("-opened_ms")
    chosen = page.locator(".order option:checked")
    await expect(chosen).to_have_text("Age, rising")
    await head.get_by_role("button").click()
    await expect(head).to_have_attribute("aria-sort", "descending")
    await expect(page).to_have_url(f"{plain_hub.url}/dashboard#/connections?sort=opened_ms")


async def test_of_fifty_thousand_connections_the_browser_holds_a_page(
    plain_hub: HubProcess, page: Page
) -> None:
    """The dashboard asks for one page at a time, in the order and from the
    place that the hub named."""
    asked: list[dict[str, list[str]]] = []

    async def answer(route: Route) -> None:
        query = parse_qs(urlsplit(route.request.url).query)
        asked.append(query)
        begin = int(query.get("after", ["0"])[0])
        size = min(int(query["limit"][0]), MANY)
        rows = [connection(number) for number in range(begin, begin + size)]
        told = {
            "connections": rows,
            "total": MANY,
            "next": str(begin + size),
            "complete": False,
            "unanswered": ["node-7"],
        }
        await route.fulfill(body=json.dumps(told), content_type="application/json")

    await page.route("**/api/connections?*", answer)
    await go(page, plain_hub.url, "connections?sort=-sent")
    total = page.locator(".total")
    await expect(total).to_have_text("1 to 50 of 50,000. Without node-7")
    await expect(page.locator("tbody tr")).to_have_count(PAGE)
    await page.get_by_role("button", name="Next").click()
    await expect(total).to_contain_text("51 to 100 of 50,000")
    await page.get_by_role("button", name="Next").click()
    await expect(page.locator("tbody tr").first).to_contain_text("c000100")
    await page.get_by_role("button", name="Previous").click()
    await expect(page.locator("tbody tr").first).to_contain_text("c000050")
    await expect(page.locator("tbody tr")).to_have_count(PAGE)
    assert {query["limit"][0] for query in asked} == {str(PAGE)}
    assert {query["sort"][0] for query in asked} == {"-sent"}
    places = [query.get("after", [""])[0] for query in asked]
    assert [place for at, place in enumerate(places) if place not in places[:at]] == [
        "",
        "50",
        "100",
    ]


def connection(number: int) -> dict[str, object]:
    """One of many, as the API shows it."""
    return {
        "connection": f"c{number:06}",
        "node": f"node-{number % 5}",
        "transport": "websocket",
        "subject": f"user-{number}",
        "address": "10.0.0.1",
        "user_agent": "a browser",
        "opened_ms": 1_760_000_000_000,
        "round_trip_ms": 1.5,
        "sent": 100_000 - number,
        "dropped": 0,
        "outbox_messages": 0,
        "outbox_bytes": 0,
        "outbox_age_seconds": 0.0,
        "subscriptions": [],
    }
