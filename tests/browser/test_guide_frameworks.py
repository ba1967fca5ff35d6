"""The pages of `hub/docs/react.md` and `hub/docs/vue.md`, with the real frameworks."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.browser.bundling import SECONDS, bundle, install, needs_frameworks
from tests.browser.conftest import publish
from tests.browser.serving import served
from tests.support.hub_process import HubProcess
from tests.support.programs import completed
from tests.support.snippets import URL, Block, blocks, finished

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
    needs_frameworks,
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with the package and the frameworks, as npm would install them."""
    install(tmp_path)
    return tmp_path


@pytest.fixture
def origin(folder: Path) -> Iterator[str]:
    with served(folder) as origin:
        yield origin


def react(folder: Path, hub: HubProcess) -> None:
    (block,) = blocks("react-page")
    (folder / "main.jsx").write_text(block.text.replace(URL, hub.url))


def vue(folder: Path, hub: HubProcess) -> None:
    (main,), (component,) = blocks("vue-main"), blocks("vue-page")
    (folder / "App.vue").write_text(component.text)
    shutil.copy(Path(__file__).parent / "bindings" / "compile_vue.mjs", folder)
    completed("node", "compile_vue.mjs", "App.vue", cwd=folder, seconds=SECONDS)
    text = main.text.replace(URL, hub.url).replace("./App.vue", "./App.js")
    (folder / "main.jsx").write_text(text)


def write_page(folder: Path, root: str) -> None:
    """The page that `npm create vite` makes has an element of the id `root`."""
    bundle(folder, "main.jsx", "page.js")
    page = f'<!doctype html><link rel="icon" href="data:,"><div id="{root}"></div>'
    (folder / "index.html").write_text(f'{page}<script src="page.js"></script>')


@pytest.mark.parametrize(
    ("make", "root", "price"),
    [(react, "root", "react-price"), (vue, "app", "vue-price")],
    ids=["react", "vue"],
)
async def test_the_page_of_the_document_shows_prices_people_and_what_they_say(
    page: Page, folder: Path, origin: str, make: object, root: str, price: str
) -> None:
    """The console stays empty."""
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "console", lambda message: said.append(message.text) if message.type == "error" else None
    )
    with HubProcess(HUB_ORIGINS=origin, HUB_NAMESPACES='{"chat": {"presence": true}}') as hub:
        publish(hub, "prices", {"eur": 1.5})
        assert callable(make)
        make(folder, hub)
        write_page(folder, root)
        await page.goto(origin)
        await expect(page.locator("#state")).to_have_text("live over websocket")
        await expect(page.locator("#price")).to_have_text("1.5")
        await expect(page.locator("#people")).to_have_text("1 here")
        (command,) = blocks(price)
        finished(command, hub.url)
        await expect(page.locator("#price")).to_have_text("1.09")
        await page.locator("button").click()
        await expect(page.locator("li")).to_have_text(["hello"])
    assert said == []


@pytest.mark.parametrize("label", ["react-hub", "vue-hub"])
async def test_the_hub_beside_it_starts_with_what_the_page_needs(label: str) -> None:
    """`hub config` in place of `hub serve` shows what it would use."""
    (block,) = blocks(label)
    shown = finished(Block("sh", "", block.text.replace("hub serve", "hub config")))
    assert "http://localhost:5173" in shown
    assert "presence" in shown
