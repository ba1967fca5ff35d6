"""Driving the dashboard: in with a key, to a view, and is anybody shut out of it."""

from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]  # has none
from playwright.async_api import Locator, Page, expect

from tests.browser.watched_hub import OPERATOR_KEY

VIEWS = ("", "channels", "connections", "closed", "refused", "explain")
# axe-core's own words for what keeps somebody out.
_FAULTS = {"serious", "critical"}


async def sign_in(page: Page, key: str = OPERATOR_KEY) -> None:
    """Puts the key where the sign-in form puts it, before any page is loaded."""
    await page.add_init_script(f"sessionStorage.setItem('hub.operator-key', '{key}')")


async def go(page: Page, url: str, path: str = "") -> None:
    """To a view of the dashboard of the node at `url`, and until it is live."""
    await page.goto(f"{url}/dashboard#/{path}")
    await expect(page.locator("#status")).to_have_text("Live")


def row(page: Page, *texts: str) -> Locator:
    """The rows of a list in which all these texts stand."""
    found = page.locator("tbody tr")
    for text in texts:
        found = found.filter(has_text=text)
    return found


_AT_REST = """() => document.getAnimations().every((each) =>
  each.playState !== "running" || each.effect.getComputedTiming().iterations === Infinity)"""


async def faults(page: Page) -> list[str]:
    """Returns the serious and critical findings of axe-core on the page at rest.

    A note that just rises is half transparent, and of too little contrast for a moment.
    """
    await page.wait_for_function(_AT_REST)
    results = await Axe().run(page)
    return [
        f"{found['id']}: {node['html'][:200]} {node['failureSummary']}"
        for found in results.response["violations"]
        if found["impact"] in _FAULTS
        for node in found["nodes"]
    ]


async def width_of(page: Page) -> int:
    """How wide the page wants to be, in pixels."""
    width: int = await page.evaluate("document.documentElement.scrollWidth")
    return width
