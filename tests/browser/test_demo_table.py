"""The demo page's table of processes in a real Chromium, against a real hub."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import httpx2 as httpx
import pytest
from playwright.async_api import Page, expect

from hub.node.demo import CHANNEL, ROWS
from tests.support.hub_process import HubProcess
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
]
PICTURES = os.environ.get("HUB_SCREENSHOTS")
# Busy enough to be among the busiest, in the way that no other test's processes are: it stays. At
# most five have more of two cores.
_BUSY = """
import time
while True:
    until = time.process_time() + 0.04
    while time.process_time() < until:
        pass
    time.sleep(0.06)
"""


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    """A process that uses much CPU."""
    process = subprocess.Popen([sys.executable, "-c", _BUSY, "secret-argument"])
    yield process
    process.kill()
    process.wait()


def row_of(page: Page, pid: int) -> str:
    return f"#processes-rows tr:has(td:text-is('{pid}'))"


@pytest.mark.parametrize("query", ["", "?transport=sse", "?transport=poll"])
async def test_a_process_appears_in_the_table_and_goes_as_it_ends(
    demo_hub: HubProcess, page: Page, busy: subprocess.Popen[bytes], query: str
) -> None:
    """The row shows what the process uses, and not its command line."""
    await page.goto(demo_hub.url + query)
    line = page.locator(row_of(page, busy.pid))
    await expect(line).to_be_visible()
    await expect(line.locator("th")).to_contain_text("python")
    await expect(line.locator("td").nth(1)).not_to_have_text("0.0 %")
    assert "secret-argument" not in await page.content()
    used = await line.locator("td").nth(1).inner_text()
    await expect(line.locator("td").nth(1)).not_to_have_text(used)  # a change of its row
    busy.kill()
    busy.wait()
    await expect(line).to_have_count(0)
    await expect(page.locator("#gaps")).to_have_text("0")


async def test_a_new_visitor_gets_the_rows_and_then_the_changes(
    demo_hub: HubProcess, page: Page, busy: subprocess.Popen[bytes]
) -> None:
    """The rows are those that the hub has, in one go; what follows changes them."""
    await page.goto(demo_hub.url)
    await expect(page.locator(row_of(page, busy.pid))).to_be_visible()
    await page.reload()
    told = page.locator("#processes-told")
    await expect(told).to_contain_text(f"{ROWS} rows came at the start")
    await expect(told).not_to_contain_text(", then 0 changes")
    await expect(page.locator("#processes-rows tr")).to_have_count(ROWS)

    async def shows_what_the_hub_keeps() -> bool:
        # The busiest processes change at any time, and these are two looks.
        rows = httpx.get(f"{demo_hub.url}/api/channels/{CHANNEL}/state").json()["rows"]
        assert 0 < len(rows) <= ROWS
        kept = {str(row["data"]["pid"]) for row in rows}
        shown = set(await page.locator("#processes-rows td:nth-child(2)").all_inner_texts())
        return len(kept & shown) > ROWS // 2

    await eventually(shows_what_the_hub_keeps)


async def test_the_table_is_whole_again_after_the_hub_was_restarted(
    demo_hub: HubProcess, page: Page, busy: subprocess.Popen[bytes]
) -> None:
    """Rows of the former hub do not stay beside those of the new one."""
    await page.goto(demo_hub.url)
    line = page.locator(row_of(page, busy.pid))
    await expect(line).to_be_visible()
    demo_hub.stop()
    busy.kill()
    busy.wait()
    demo_hub.restart()
    await expect(line).to_have_count(0)
    await expect(page.locator("#processes-rows tr")).to_have_count(ROWS)


async def test_rows_in_a_file_of_a_hub_that_was_killed_go(
    page: Page, busy: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """The next hub compares what it finds with the machine."""
    with HubProcess("--demo", HUB_BROKER=f"sqlite:///{tmp_path}/history.db") as hub:
        await page.goto(hub.url)
        line = page.locator(row_of(page, busy.pid))
        await expect(line).to_be_visible()
        hub.kill()
        busy.kill()
        busy.wait()
        hub.restart()
        await expect(line).to_have_count(0)
        await expect(page.locator("#processes-rows tr")).to_have_count(ROWS)
        await expect(page.locator("#gaps")).to_have_text("0")


async def test_a_hub_without_the_demo_shows_no_table(plain_hub: HubProcess, page: Page) -> None:
    """Its namespace is not keyed: that is no error for whoever looks."""
    await page.goto(plain_hub.url)
    await expect(page.locator("#empty")).to_be_visible()
    await expect(page.locator("#processes")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_the_table_fits_a_phone_and_a_screen(
    demo_hub: HubProcess, page: Page, width: int, scheme: Literal["light", "dark"]
) -> None:
    """Nothing makes the page scroll sideways, and no figure is cut off."""
    await page.set_viewport_size({"width": width, "height": 1000})
    await page.emulate_media(color_scheme=scheme)
    await page.goto(demo_hub.url)
    await expect(page.locator("#processes-rows tr")).to_have_count(ROWS)
    await expect(page.locator("#processes-told")).not_to_contain_text("then 0 changes")
    if PICTURES:
        await page.screenshot(path=f"{PICTURES}/demo-{width}-{scheme}.png", full_page=True)
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    cut = await page.evaluate(
        "[...document.querySelectorAll('#processes td, #processes th')]"
        ".filter((cell) => cell.scrollWidth > cell.clientWidth).map((cell) => cell.textContent)"
    )
    assert cut == []
