"""A real hub as a process and the machine's own Chromium."""

import contextlib
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx2 as httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Error, Page, ViewportSize, async_playwright, expect

from tests.support.hub_process import HubProcess

CHROMIUM = shutil.which("chromium")
# What keeps a headless Chromium quiet and small in a container.
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A page that a test fulfils has no address, so Chromium takes it for a public one and lets it
    # open no WebSocket to loopback: the client would use SSE, and nobody would notice.
    "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets",
]
SIZE: ViewportSize = {"width": 1280, "height": 1060}
# Two busy cores start a browser slowly; only a failing test waits this long.
WAIT_MS = 20_000
expect.set_options(timeout=WAIT_MS)


@pytest.fixture
def demo_hub() -> Iterator[HubProcess]:
    """A hub that publishes the machine's counters."""
    with HubProcess("--demo") as hub:
        yield hub


@pytest.fixture
def plain_hub() -> Iterator[HubProcess]:
    """A hub that publishes nothing by itself."""
    with HubProcess() as hub:
        yield hub


def publish(hub: HubProcess, channel: str, data: object) -> None:
    """As a backend does."""
    httpx.post(f"{hub.url}/api/publish/{channel}", json=data, timeout=30).raise_for_status()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all tests: they say `asyncio(loop_scope="session")`."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS, timeout=WAIT_MS
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tab(browser: Browser) -> AsyncIterator[Page]:
    """The page of those tests that leave it as it was: a new one takes half a second of a core."""
    context = await browser.new_context(viewport=SIZE)
    yield await context.new_page()
    await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(tab: Page, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Page]:
    """A page in which an uncaught error fails the test; nothing is left from other tests.

    What cannot be taken back needs a page of its own (`own_page`): a clock, WebSockets that
    Playwright answers, a state of the network.
    """
    listening: list[tuple[Any, Callable[..., Any]]] = []
    errors: list[str] = []
    async with contextlib.AsyncExitStack() as scripts:
        listen, add_script = tab.on, tab.add_init_script

        def on(event: Any, heard: Callable[..., Any]) -> None:
            listening.append((event, heard))
            listen(event, heard)

        async def add_init_script(script: str) -> None:
            await scripts.enter_async_context(await add_script(script))

        monkeypatch.setattr(tab, "on", on)
        monkeypatch.setattr(tab, "add_init_script", add_init_script)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        yield tab
    for event, heard in listening:
        tab.remove_listener(event, heard)
    await _emptied(tab)
    assert errors == []


async def _emptied(tab: Page) -> None:
    """Leave what the test has opened, and forget what it has kept."""
    with contextlib.suppress(Error):  # a page of no origin has no storage
        await tab.evaluate("sessionStorage.clear()")
    await tab.unroute_all(behavior="ignoreErrors")
    await tab.goto("about:blank")
    await tab.set_viewport_size(SIZE)
    await tab.emulate_media(color_scheme="null")
    devtools = await tab.context.new_cdp_session(tab)
    everything = {"origin": "*", "storageTypes": "all"}
    await devtools.send("Storage.clearDataForOrigin", everything)
    await devtools.detach()


@pytest_asyncio.fixture(loop_scope="session")
async def own_page(browser: Browser) -> AsyncIterator[Page]:
    """A page as `page`, of this test alone."""
    context = await browser.new_context(viewport=SIZE)
    page = await context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    await context.close()
    assert errors == []
