"""The dashboard where there is nothing to show, too much, no right, or no hub."""

import json
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser.conftest import publish
from tests.browser.dashboard import go, sign_in
from tests.support.hub_process import HubProcess

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(90),
    pytest.mark.asyncio(loop_scope="module"),
]
MANY = 50_000
PAGE = 50


@pytest.fixture
def keyed_hub() -> Iterator[HubProcess]:
    """Without an operator key there is nobody who may operate."""
    with HubProcess(HUB_PUBLISH_KEYS="a-publish-key") as hub:
        yield hub


async def test_without_keys_nobody_is_asked_for_one(plain_hub: HubProcess, page: Page) -> None:
    """As on one's own machine; and lists with nothing in them say so."""
    await go(page, plain_hub.url)
    await expect(page.locator(".node")).to_have_count(1)
    await expect(page.locator(".node")).to_contain_text("in this process")
    await expect(page.locator("#leave")).to_be_hidden()
    for view, text in (("channels", "No channels"), ("closed", "None lately")):
        await page.goto(f"{plain_hub.url}/dashboard#/{view}")
        await expect(page.locator(".state")).to_contain_text(text)
    await page.goto(f"{plain_hub.url}/dashboard#/connections?subject=nobody")
    await expect(page.locator(".state")).to_contain_text("No connections")
    await page.goto(f"{plain_hub.url}/dashboard#/no/such/view")
    await expect(page.locator(".state")).to_contain_text("Nothing is here")


async def test_it_works_below_a_base_path(page: Page) -> None:
    """Behind a proxy that has other things at the root: every address in it is relative."""
    with HubProcess(HUB_BASE_PATH="/deep/hub") as hub:
        assert hub.url.endswith("/deep/hub")
        await go(page, hub.url)
        await expect(page.locator(".node")).to_have_count(1)
        await page.get_by_role("link", name="Connections", exact=True).click()
        await expect(page.locator("tbody tr")).to_have_count(1)


async def test_a_list_reads_itself_again_when_figures_say_so(
    plain_hub: HubProcess, page: Page
) -> None:
    """A channel appears without a touch; while nothing happens nothing is asked."""
    await go(page, plain_hub.url, "channels")
    await expect(page.locator(".state")).to_contain_text("No channels")
    publish(plain_hub, "prices", 1)
    await expect(page.locator("tbody tr")).to_contain_text("prices")


async def test_a_hub_that_is_gone_is_said_and_its_return_needs_no_hand(
    plain_hub: HubProcess, page: Page
) -> None:
    """A banner, figures that are marked as old, and all is well again after the restart."""
    await go(page, plain_hub.url)
    plain_hub.stop()
    await expect(page.locator("#banner")).to_contain_text("No connection to the hub")
    await expect(page.locator("#status")).not_to_have_text("Live")
    await page.goto(f"{plain_hub.url}/dashboard#/channels")
    await expect(page.locator(".state.failed")).to_contain_text("cannot be reached")
    plain_hub.restart()
    await expect(page.locator("#status")).to_have_text("Live", timeout=45_000)
    await expect(page.locator("#banner")).to_be_hidden()
    await page.get_by_role("button", name="Try again").click()
    await expect(page.locator(".state")).to_contain_text("No channels")


async def test_who_may_not_operate_is_told_why(keyed_hub: HubProcess, page: Page) -> None:
    await page.goto(f"{keyed_hub.url}/dashboard")
    await expect(page.locator(".state")).to_contain_text("HUB_OPERATOR_KEYS is not set")


async def test_a_key_that_is_no_operators_can_be_changed(keyed_hub: HubProcess, page: Page) -> None:
    await sign_in(page, "a-publish-key")
    await page.goto(f"{keyed_hub.url}/dashboard")
    await expect(page.get_by_role("button", name="Use another key")).to_be_visible()


async def test_of_fifty_thousand_connections_the_browser_holds_a_page(
    plain_hub: HubProcess, page: Page
) -> None:
    """It asks for pages, in the order and from the place that the hub named, and draws no more."""
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
