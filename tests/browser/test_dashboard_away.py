"""The dashboard while Redis is away: each node answers for itself, and says what that means."""

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import publish
from tests.browser.dashboard import faults, go, width_of
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer, is_installed

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(not is_installed(), reason="no redis-server here"),
]
# The hub promises 10 s; the rest is for a busy machine.
PATIENCE_MS = 40_000


async def test_a_red_bar_says_what_is_away_and_then_what_was_reset(
    page: Page, browser: Browser
) -> None:
    """The bar is on a page that is open, on one that is opened meanwhile, and
    on both after the return."""
    with (
        RedisServer() as redis,
        HubProcess(HUB_BROKER=redis.url, HUB_NODE="node-a") as hub,
        HubProcess(HUB_BROKER=redis.url, HUB_NODE="node-b"),
    ):
        await go(page, hub.url)
        await expect(page.locator(".node")).to_have_count(2)
        await page.goto(f"{hub.url}/dashboard#/channel/prices")
        publish(hub, "prices", 1)
        await page.goto(f"{hub.url}/dashboard#/")
        redis.kill()
        another = await browser.new_page(viewport={"width": 390, "height": 844})
        bar, status = "#banner[data-tone=bad]", "#status"
        await expect(page.locator(bar)).to_contain_text("away since", timeout=PATIENCE_MS)
        await another.goto(f"{hub.url}/dashboard")
        for each in (page, another):
            told = each.locator(bar)
            await expect(told).to_contain_text("away since", timeout=PATIENCE_MS)
            await expect(told).to_contain_text(f"redis://127.0.0.1:{redis.port}")
            await expect(told).to_contain_text("Open connections stay")
            await expect(told).to_contain_text("Figures of node-b are from", timeout=PATIENCE_MS)
            await expect(each.locator(status)).to_have_text("This node alone")
            own = each.locator(".node[data-node=node-a]")
            up = own.locator("dl > div", has_text="Up").locator("dd")
            await expect(up).not_to_have_text(await up.inner_text())  # its figures go on
            broker_row = own.locator("dl > div", has_text="Broker").locator("dd")
            await expect(broker_row).to_contain_text("away since")  # why stands above
            other = each.locator(".node[data-node=node-b]")
            await expect(other.locator(".pill")).to_have_text("silent")
            assert await faults(each) == []
        assert await width_of(another) <= 390
        await page.goto(f"{hub.url}/dashboard#/closed")
        await expect(page.locator("main")).to_contain_text("Other nodes cannot be asked now")
        redis.restart(empty=True)
        for each in (page, another):
            told = each.locator("#banner[data-tone=warn]")
            await expect(told).to_contain_text("is back since", timeout=PATIENCE_MS)
            await expect(told).to_contain_text("reset")
            await expect(each.locator(status)).to_have_text("Live", timeout=PATIENCE_MS)
        await another.close()
