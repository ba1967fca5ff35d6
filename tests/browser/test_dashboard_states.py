"""The dashboard where there is nothing to show, no right, or no hub."""

import re
from collections.abc import Iterator

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser.conftest import publish
from tests.browser.dashboard import go, sign_in
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer, is_installed

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
]


@pytest.fixture
def keyed_hub() -> Iterator[HubProcess]:
    """Without an operator key there is nobody who may operate."""
    with HubProcess(HUB_PUBLISH_KEYS="a-publish-key") as hub:
        yield hub


async def test_without_keys_nobody_is_asked_for_one(plain_hub: HubProcess, page: Page) -> None:
    """On one's own machine nobody needs a key; empty lists say that they are empty."""
    await go(page, plain_hub.url)
    await expect(page.locator(".node")).to_have_count(1)
    await expect(page.locator(".node")).to_contain_text("in this process")
    await expect(page.locator("#leave")).to_be_hidden()
    for view, text in (("channels", "No channels"), ("closed", "None lately")):
        await page.goto(f"{plain_hub.url}/dashboard#/{view}")
        await expect(page.locator(".state").first).to_contain_text(text)
    await page.goto(f"{plain_hub.url}/dashboard#/connections?subject=nobody")
    await expect(page.locator(".state")).to_contain_text("No connections")
    await page.goto(f"{plain_hub.url}/dashboard#/no/such/view")
    await expect(page.locator(".state")).to_contain_text("Nothing is here")


async def test_the_dashboard_works_below_a_base_path(page: Page) -> None:
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
    await expect(page.locator(".state").first).to_contain_text("No channels")
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
    await expect(page.locator(".state.failed").first).to_contain_text("cannot be reached")
    plain_hub.restart()
    await expect(page.locator("#status")).to_have_text("Live", timeout=45_000)
    await expect(page.locator("#banner")).to_be_hidden()
    await page.get_by_role("button", name="Try again").click()
    await expect(page.locator(".state").first).to_contain_text("No channels")


async def test_a_node_that_was_drained_from_its_own_page_is_taken_back_there(
    plain_hub: HubProcess, page: Page
) -> None:
    """A drained node takes no connections, also not the dashboard's, but it answers requests."""
    await go(page, plain_hub.url)
    node = page.locator(".node")
    await node.get_by_role("button", name="Drain").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Window in seconds").fill("0")
    await dialog.get_by_role("button", name="Drain").click()
    await expect(page.locator("#banner")).to_contain_text("Figures are asked for")
    await expect(node.locator(".pill")).to_have_text("drained")
    # Figures with seconds between them are dots.
    line = page.locator(".chart", has_text="Event loop lag").locator("path")
    await expect(line).to_have_attribute("d", re.compile("M[0-9. ]+h0M[0-9. ]+h0"))
    await node.get_by_role("button", name="Take back").click()
    await dialog.get_by_role("button", name="Take connections again").click()
    await expect(page.locator("#status")).to_have_text("Live", timeout=45_000)
    await expect(node.locator(".pill")).to_have_text("ready")
    await expect(page.locator("#banner")).to_be_hidden()


async def test_a_visitor_who_may_not_operate_is_told_why(keyed_hub: HubProcess, page: Page) -> None:
    await page.goto(f"{keyed_hub.url}/dashboard")
    await expect(page.locator(".state")).to_contain_text("HUB_OPERATOR_KEYS is not set")


async def test_a_key_that_is_no_operators_can_be_changed(keyed_hub: HubProcess, page: Page) -> None:
    await sign_in(page, "a-publish-key")
    await page.goto(f"{keyed_hub.url}/dashboard")
    await expect(page.get_by_role("button", name="Use another key")).to_be_visible()


async def test_a_key_that_is_taken_away_leads_back_to_the_door(page: Page) -> None:
    """The sign-in page gives the reason, closes open dialogs, and leads back to the same
    view after the next key."""
    with HubProcess(HUB_OPERATOR_KEYS="the-first-key") as hub:
        await sign_in(page, "the-first-key")
        await go(page, hub.url, "channels")
        await page.get_by_role("button", name="Publish a test message").click()
        hub.restart(HUB_OPERATOR_KEYS="the-second-key")
        field = page.get_by_label("Operator key")
        await expect(field).to_be_focused(timeout=45_000)
        await expect(page.locator(".problem")).to_contain_text("not one that is set here")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await field.fill("the-second-key")
        await field.press("Enter")
        await expect(page.locator("h1")).to_have_text("Channels")
        await expect(page.locator("#status")).to_have_text("Live")


async def test_a_question_does_not_outlive_the_view_that_it_was_about(
    plain_hub: HubProcess, page: Page
) -> None:
    """The way back leads away from it, and its button can do nothing to what was left."""
    await go(page, plain_hub.url)
    await page.get_by_role("link", name="Channels", exact=True).click()
    await page.get_by_role("button", name="Publish a test message").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.go_back()
    await expect(page.locator("h1")).to_have_text("Overview")
    await expect(page.get_by_role("dialog")).to_have_count(0)


async def test_figures_that_could_not_be_read_again_are_said_to_be_old(
    plain_hub: HubProcess, page: Page
) -> None:
    """As when the node that holds the connection answers no more; and not once it does."""
    away = False

    async def answer(route: Route) -> None:
        if away:
            problem = {"detail": "node test-node does not answer", "code": "unavailable"}
            await route.fulfill(status=503, json=problem)
        else:
            await route.continue_()

    await page.route("**/api/connections/*", answer)
    await go(page, plain_hub.url, "connections")
    await page.locator("tbody tr a").first.click()
    await expect(page.locator(".facts")).to_contain_text("websocket")
    away = True
    late = page.locator("main .problem")
    await expect(late).to_have_text("Not up to date: node test-node does not answer")
    await expect(page.locator(".facts")).to_contain_text("websocket")
    away = False
    await expect(late).to_be_hidden()


@pytest.mark.skipif(not is_installed(), reason="no redis-server here")
async def test_a_redis_that_takes_no_publications_is_shown_and_its_mending_too(page: Page) -> None:
    """The node is ready all the same; figures get through a Redis that is full."""
    with RedisServer() as redis, HubProcess(HUB_BROKER=redis.url) as hub:
        await go(page, hub.url)
        node = page.locator(".node")
        await expect(node).to_contain_text("ready")
        redis.ask("CONFIG", "SET", "maxmemory", "1")
        await expect(node).to_contain_text("impaired", timeout=30_000)
        await expect(node).to_contain_text("takes no publications: OOM")
        redis.ask("CONFIG", "SET", "maxmemory", "0")
        await expect(node).not_to_contain_text("impaired", timeout=30_000)
