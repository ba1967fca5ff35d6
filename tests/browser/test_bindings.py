"""The React and Vue bindings, with the real frameworks in a real browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from playwright.async_api import Page, expect

from tests.browser.bundling import bundle, install, needs_frameworks
from tests.browser.conftest import publish
from tests.browser.serving import served
from tests.support.hub_process import HubProcess
from tests.support.waiting import eventually

NAMESPACES = '{"chat": {"presence": true}, "keyed": {"keyed": true}}'
PAGES = {"react": "react_page.jsx", "vue": "vue_page.js"}
pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
    needs_frameworks,
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The origin of a web server that has one page for each framework, bundled by esbuild."""
    folder = tmp_path_factory.mktemp("bindings")
    shutil.copytree(Path(__file__).parent / "bindings", folder / "src")
    install(folder)
    for name, source in PAGES.items():
        bundle(folder, f"src/{source}", f"{name}.js")
        icon = '<link rel="icon" href="data:,">'
        page = f'<!doctype html>{icon}<div id="root"></div><script src="{name}.js"></script>'
        (folder / f"{name}.html").write_text(page)
    with served(folder) as origin:
        yield origin


@pytest.mark.parametrize("framework", ["react", "vue"])
async def test_components_of_one_channel_each_get_what_they_ask_for(
    page: Page, pages: str, framework: str
) -> None:
    """Also under StrictMode, which mounts everything twice; nothing throws, nothing comes twice."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    with HubProcess(HUB_ORIGINS=pages, HUB_NAMESPACES=NAMESPACES) as hub:
        for number in range(1, 5):
            publish(hub, "prices", number)
        publish(hub, "other", "first")
        await page.goto(f"{pages}/{framework}.html?hub={hub.url}")
        await expect(page.locator("#newest")).to_have_text("4")
        await expect(page.locator("#list")).to_have_text("2,3,4")
        await expect(page.locator("#connection")).to_have_text("connected websocket")
        await expect(page.locator("#present")).to_have_text("1")
        publish(hub, "prices", 5)
        await expect(page.locator("#newest")).to_have_text("5")
        await expect(page.locator("#list")).to_have_text("3,4,5")
        assert await page.evaluate("seen.newest") == [4, 5]
        assert await page.evaluate("seen.all") == [1, 2, 3, 4, 5]

        await page.locator("#other").click()
        await expect(page.locator("#list")).to_have_text("first")
        publish(hub, "prices", 6)
        publish(hub, "other", "second")
        await expect(page.locator("#list")).to_have_text("first,second")

        await page.locator("#none").click()
        await expect(page.locator("#newest")).to_have_text("nothing")

        def subscribed() -> list[str]:
            [connection] = httpx.get(f"{hub.url}/api/connections").json()["connections"]
            return sorted(each["channel"] for each in connection["subscriptions"])

        async def only_the_others() -> bool:
            return subscribed() == ["chat:1", "keyed:t"]

        assert await eventually(only_the_others)
    assert problems == []


@pytest.mark.parametrize("framework", ["react", "vue"])
async def test_a_pattern_a_table_and_what_a_member_says(
    page: Page, pages: str, framework: str
) -> None:
    """Two tables of one channel, a channel that appears, a member that changes its mind."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    with HubProcess(HUB_ORIGINS=pages, HUB_NAMESPACES=NAMESPACES) as hub:

        def row(key: str, data: object) -> None:
            params = {"key": key}
            httpx.post(
                f"{hub.url}/api/publish/keyed:t", params=params, json=data
            ).raise_for_status()

        row("a", 1)
        row("b", 2)
        await page.goto(f"{pages}/{framework}.html?hub={hub.url}")
        for table in ("#table", "#again"):
            await expect(page.locator(table)).to_have_text("a=1,b=2")
        row("a", 3)
        httpx.delete(f"{hub.url}/api/channels/keyed:t/state/b").raise_for_status()
        for table in ("#table", "#again"):
            await expect(page.locator(table)).to_have_text("a=3")
        publish(hub, "p:new", 1)
        publish(hub, "p:other", 2)
        await expect(page.locator("#everything")).to_have_text("p:new=1,p:other=2")
        await expect(page.locator("#mood")).to_have_text("fine")
        await page.locator("#mood").click()
        await expect(page.locator("#mood")).to_have_text("busy")
    assert problems == []


@pytest.mark.parametrize("framework", ["react", "vue"])
async def test_a_refusal_of_the_hub_is_shown_and_nothing_is_thrown(
    page: Page, pages: str, framework: str
) -> None:
    """A hub that wants tokens: the component gets the error as a value."""
    thrown: list[str] = []
    page.on("pageerror", lambda error: thrown.append(str(error)))
    with HubProcess(HUB_ORIGINS=pages, HUB_TOKEN_KEYS="0123456789abcdef" * 2) as hub:
        await page.goto(f"{pages}/{framework}.html?hub={hub.url}")
        await expect(page.locator("#newest")).to_have_text("closed")
        await expect(page.locator("#connection")).to_contain_text("closed")
    assert thrown == []
