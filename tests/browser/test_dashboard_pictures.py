"""The documents' dashboard: HUB_DASHBOARD_PICTURES=hub/docs/pictures pytest -k pictures."""

import os
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.browser.dashboard import go, sign_in
from tests.browser.watched_hub import SLOW, watched_hub
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
]
DIRECTORY = os.environ.get("HUB_DASHBOARD_PICTURES")
# So many seconds of figures look like a chart.
FIGURES = 100


@pytest.mark.skipif(DIRECTORY is None, reason="HUB_DASHBOARD_PICTURES names no directory")
async def test_the_pictures_for_the_readme_are_taken(page: Page) -> None:
    """The overview in the dark, and the page of one who reads too slowly by day."""
    directory = Path(DIRECTORY or "")
    await page.set_viewport_size({"width": 1280, "height": 870})
    await sign_in(page)
    async with watched_hub() as hub:
        await page.emulate_media(color_scheme="dark")
        await go(page, hub.url)
        line = page.locator(".chart", has_text="Connections").locator("path").first

        async def is_full() -> bool:
            return (await line.get_attribute("d") or "").count("L") >= FIGURES

        await eventually(is_full, seconds=150, what="figures for the charts")
        await page.screenshot(path=directory / "dashboard-overview.png")
        await page.emulate_media(color_scheme="light")
        await go(page, hub.url, f"connections/{await hub.connection_of(SLOW)}")
        pause = page.get_by_role("button", name="Pause")
        await expect(page.locator(".tail .mark .bad, .tail .mark .warn").first).to_be_visible()
        await pause.click()
        marks = page.locator(".tail li").locator("visible=true").locator(".mark")
        for place in range(3):
            await expect(marks.nth(place)).not_to_have_text("why?")
        await page.mouse.move(0, 0)
        await page.screenshot(path=directory / "dashboard-connection.png")
