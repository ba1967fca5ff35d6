"""The README's page on a web server of its own, so of another origin than the hub's."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import publish
from tests.browser.serving import served
from tests.support.hub_process import HubProcess
from tests.support.snippets import blocks

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """The origin of a web server that serves `tmp_path`."""
    with served(tmp_path) as origin:
        yield origin


async def test_a_page_of_a_listed_origin_loads_the_client_and_talks_to_the_hub(
    page: Page, elsewhere: str, tmp_path: Path
) -> None:
    """`/client.js` and its modules are for all pages; the rest is for `HUB_ORIGINS`."""
    (block,) = (each for each in blocks("subscribe") if each.language == "html")
    with HubProcess(HUB_ORIGINS=elsewhere) as hub:
        publish(hub, "prices", {"eur": 1.5})
        (tmp_path / "index.html").write_text(f"<!doctype html>{block.against(hub.url)}")
        await page.goto(elsewhere)
        await expect(page.locator("#eur")).to_have_text("1.5")
        await page.locator("#raise").click()
        await expect(page.locator("#eur")).to_have_text("1.1")
