"""A browser's console shows the messages that `hub/docs/not-connecting.md` quotes."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from playwright.async_api import Browser, Page

from tests.browser.serving import served
from tests.support.hub_process import HubProcess
from tests.support.redis_server import free_port
from tests.support.snippets import DOCS, Block, blocks, finished
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
]
DOCUMENT = (DOCS / "not-connecting.md").read_text()
KEY = "t" * 32
PAGE = """<!doctype html><link rel="icon" href="data:,"><script type="module">
import { Hub } from "CLIENT/client.js";
const hub = new Hub("ADDRESS"TOKEN);
hub.subscribe("prices", ({ data }) => console.log("price", data));
</script>"""
TOKEN = jwt.encode({"sub": "ada", "hub": {"subscribe": ["news"]}}, KEY, "HS256")


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[str]:
    """Of a web server that has the page, by a name that no hub lists."""
    with served(tmp_path) as origin:
        yield origin


@asynccontextmanager
async def console(page: Page) -> AsyncIterator[Callable[[str], Coroutine[Any, Any, None]]]:
    lines: list[str] = []
    page.on("console", lambda message: lines.append(message.text))
    page.on("pageerror", lambda error: lines.append(str(error)))

    async def says(text: str) -> None:
        where = f"{text!r} among {lines}"
        await eventually(lambda: any(text in line for line in lines), seconds=30, what=where)

    yield says


def written(tmp_path: Path, hub: HubProcess, *, address: str = "", token: str = "") -> None:
    text = PAGE.replace("CLIENT", hub.url).replace("ADDRESS", address or hub.url)
    (tmp_path / "index.html").write_text(text.replace("TOKEN", token))


def documented(text: str) -> str:
    """A part of a message that the document's table has."""
    assert text in DOCUMENT, f"the document does not say {text!r}"
    return text


async def test_the_console_names_another_origin(page: Page, tmp_path: Path, origin: str) -> None:
    with HubProcess() as hub:
        written(tmp_path, hub)
        async with console(page) as says:
            await page.goto(origin)
            await says(documented("origin ... is not allowed").partition(" ... ")[2])
            await says("HUB_ORIGINS")


async def test_a_page_opened_as_a_file(page: Page, tmp_path: Path) -> None:
    with HubProcess() as hub:
        written(tmp_path, hub)
        async with console(page) as says:
            await page.goto(f"file://{tmp_path}/index.html")
            for part in documented("a page opened as a file ... has no origin").split(" ... "):
                await says(part)


async def test_the_console_names_a_missing_token(page: Page, tmp_path: Path, origin: str) -> None:
    with HubProcess(HUB_TOKEN_KEYS=KEY, HUB_ORIGINS=origin) as hub:
        written(tmp_path, hub)
        async with console(page) as says:
            await page.goto(origin)
            await says(documented("a token is needed"))


async def test_a_token_without_the_grant(page: Page, tmp_path: Path, origin: str) -> None:
    with HubProcess(HUB_TOKEN_KEYS=KEY, HUB_ORIGINS=origin) as hub:
        written(tmp_path, hub, token=f', {{ token: "{TOKEN}" }}')
        async with console(page) as says:
            await page.goto(origin)
            await says(documented("no grant to subscribe"))


async def test_the_console_names_a_wrong_address(
    browser: Browser, tmp_path: Path, origin: str
) -> None:
    """An uncaught error, which the console shows like any other."""
    with HubProcess(HUB_ORIGINS=origin) as hub:
        written(tmp_path, hub, address="localhost:8000")
        async with await browser.new_page() as page, console(page) as says:
            await page.goto(origin)
            for part in documented("no hub at ...: write https://host").split(" ..."):
                await says(part)


async def test_the_console_names_a_hub_that_is_not_there(
    page: Page, tmp_path: Path, origin: str
) -> None:
    with HubProcess(HUB_ORIGINS=origin) as hub:
        written(tmp_path, hub, address=f"http://127.0.0.1:{free_port()}")
        async with console(page) as says:
            await page.goto(origin)
            await says(documented("ERR_CONNECTION_REFUSED"))


async def test_the_cures_are_settings_that_a_hub_takes() -> None:
    """`hub config` in place of `hub serve` shows what it would use."""
    for label, shows in (("origins", "https://shop.example"), ("hosts", "hub.test")):
        (block,) = blocks(label)
        shown = finished(Block("sh", "", block.text.replace("hub serve", "hub config")))
        assert shows in shown
