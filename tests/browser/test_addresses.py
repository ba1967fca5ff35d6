"""A page may write the hub's address in several ways, and is told what is wrong with any other."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, Route

from tests.support.hub_process import HubProcess

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
]
SOURCES = Path(__file__).parents[2] / "clients" / "js" / "src"
# The position of what it publishes, or why it cannot.
PUBLISH = """async ([client, address, channel]) => {
  const { Hub } = await import(client);
  try {
    const hub = new Hub(address ?? undefined);
    return (await hub.publish(channel, 1)).offset;
  } catch ({ message }) {
    return message;
  }
}"""


@pytest.fixture(scope="module")
def based() -> Iterator[HubProcess]:
    """A hub below a path."""
    with HubProcess(HUB_BASE_PATH="/live") as hub:
        yield hub


async def in_a_page(hub: HubProcess, page: Page, address: str | None, channel: str) -> object:
    """Publish from a page of the hub's own origin, below another path than the hub's."""

    async def answer(route: Route) -> None:
        await route.fulfill(body="<!doctype html>", content_type="text/html")

    await page.route("**/shop/page", answer)
    origin = hub.url.removesuffix("/live")
    await page.goto(f"{origin}/shop/page")
    return await page.evaluate(PUBLISH, ["/live/client.js", address, channel])


@pytest.mark.parametrize(
    "address", [None, "", "/live", "/live/", "{origin}/live", "{socket}/live/"]
)
async def test_a_page_reaches_the_hub_by_any_way_to_write_its_address(
    based: HubProcess, page: Page, channel: str, address: str | None
) -> None:
    """A page that names no address uses the hub that its module came from, below its base path."""
    origin = based.url.removesuffix("/live")
    socket = origin.replace("http", "ws")
    written = None if address is None else address.format(origin=origin, socket=socket)
    assert await in_a_page(based, page, written, channel) == 1


@pytest.mark.parametrize("address", ["live", "localhost:8000", "127.0.0.1:8000", "hub.example"])
async def test_a_page_is_told_at_once_what_to_write(
    based: HubProcess, page: Page, channel: str, address: str
) -> None:
    """The page does not ask its own server for a path of that name."""
    told = await in_a_page(based, page, address, channel)
    assert told == f'no hub at "{address}": write https://host, or /path in a page'


async def test_a_module_that_an_application_serves_itself_talks_to_its_own_origin(
    plain_hub: HubProcess, page: Page, channel: str
) -> None:
    """A bundle is such a module: its own path says nothing of the hub's."""

    async def answer(route: Route) -> None:
        name = route.request.url.rpartition("/")[2]
        await route.fulfill(path=SOURCES / name, content_type="text/javascript")

    await page.route("**/static/js/*", answer)
    await page.goto(f"{plain_hub.url}/healthz")
    assert await page.evaluate(PUBLISH, ["/static/js/hub.js", None, channel]) == 1
