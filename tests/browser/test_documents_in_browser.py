"""The documents in a real browser: search, width, contrast, keyboard."""

from collections.abc import Iterator

import pytest
from playwright.async_api import Page, expect

from hub.docs import DIRECTORY
from tests.browser.dashboard import faults, width_of
from tests.support.hub_process import HubProcess

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
]

PAGES = sorted(path.stem for path in DIRECTORY.glob("*.md") if path.stem != "README")


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(HUB_BASE_PATH="/live") as running:
        yield running


async def test_the_search_finds_a_section_and_leads_to_it(hub: HubProcess, page: Page) -> None:
    """By keyboard: the slash goes to the field, arrows through what is found, Enter opens it."""
    await page.goto(f"{hub.url}/docs")
    await page.keyboard.press("/")
    await page.keyboard.type("full jitter")
    found = page.locator("#results a")
    await expect(found.first).to_contain_text("full jitter")
    await expect(page.locator("#results [role=status]")).to_contain_text("found")
    await page.keyboard.press("ArrowDown")
    await expect(found.first).to_be_focused()
    address = await found.first.get_attribute("href")
    assert address is not None
    await page.keyboard.press("Enter")
    await page.wait_for_url(address)
    await expect(page.locator("main")).to_contain_text("full jitter")


async def test_the_search_says_when_nothing_is_found(hub: HubProcess, page: Page) -> None:
    """Escape closes the empty list of results."""
    await page.goto(f"{hub.url}/docs/react")
    await page.fill("#words", "xyzzy")
    await expect(page.locator("#results")).to_contain_text("Nothing has all of these words")
    await page.keyboard.press("Escape")
    await expect(page.locator("#results")).to_be_hidden()


async def test_the_next_page_is_one_click_away_through_all_of_them(
    hub: HubProcess, page: Page
) -> None:
    """On a phone, and none is wider.

    The browser's console stays empty on the way: the policy forbids nothing that is there.
    """
    logged: list[str] = []
    page.on("console", lambda message: logged.append(message.text))
    await page.set_viewport_size({"width": 390, "height": 844})
    await page.goto(f"{hub.url}/docs")
    assert await width_of(page) == 390
    titles = set()
    for _ in PAGES:
        # The page before has all that the next one has, so nothing else says which is there.
        async with page.expect_event("load"):
            await page.locator("a[rel=next]").click()
        await expect(page.locator("#documents [aria-current=page]")).to_have_count(1)
        assert await width_of(page) == 390, page.url
        titles.add(await page.title())
    assert await page.locator("a[rel=next]").count() == 0
    assert len(titles) == len(PAGES)
    assert logged == []


async def test_the_list_of_pages_shows_the_page_that_is_open(hub: HubProcess, page: Page) -> None:
    """The list is scrolled to the open page if that stands below the fold."""
    await page.set_viewport_size({"width": 1280, "height": 700})
    await page.goto(f"{hub.url}/docs/changelog")
    await expect(page.locator("#documents [aria-current]")).to_be_in_viewport()


@pytest.mark.parametrize("name", ["", "settings", "react", "watching"])
async def test_no_page_keeps_anybody_out(hub: HubProcess, page: Page, name: str) -> None:
    """axe-core judges each page, contrast included, on a phone and on a screen."""
    await page.emulate_media(color_scheme="dark")
    await page.set_viewport_size({"width": 390, "height": 844})
    await page.goto(f"{hub.url}/docs/{name}")
    assert await faults(page) == []
    await page.emulate_media(color_scheme="light")
    assert await faults(page) == []
    await page.set_viewport_size({"width": 1280, "height": 900})
    assert await faults(page) == []
    await page.emulate_media(color_scheme="dark")
    assert await faults(page) == []


# Of the words of code in a table those that stand on two lines. A word ends at a space, a hyphen,
# or where the page lets a line end.
BROKEN_WORDS = """() => [...document.querySelectorAll("td code")].flatMap((code) => {
  const texts = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
  const broken = [];
  while (texts.nextNode()) {
    for (const { 0: word, index } of texts.currentNode.data.matchAll(/[^\\s-]+/g)) {
      const range = document.createRange();
      range.setStart(texts.currentNode, index);
      range.setEnd(texts.currentNode, index + word.length);
      if (range.getClientRects().length > 1) broken.push(word);
    }
  }
  return broken;
})"""


async def test_no_path_in_a_table_breaks_within_a_word(hub: HubProcess, page: Page) -> None:
    """A reader copies a file's name, and types a setting: a line ends behind a slash or a mark."""
    await page.set_viewport_size({"width": 1280, "height": 900})
    broken = {}
    for name in ("threats", "comparison", "figures", "endpoints", "settings", "inside"):
        await page.goto(f"{hub.url}/docs/{name}")
        broken[name] = await page.evaluate(BROKEN_WORDS)
    assert {name: words for name, words in broken.items() if words} == {}
