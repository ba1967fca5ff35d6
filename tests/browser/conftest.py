"""A real hub as a process and the machine's own Chromium."""

import shutil
from collections.abc import AsyncIterator, Iterator

import httpx2 as httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

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
    httpx.post(f"{hub.url}/api/publish/{channel}", json=data, timeout=5).raise_for_status()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all tests of a file: they say `asyncio(loop_scope="module")`."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS, timeout=WAIT_MS
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page in which an uncaught error fails the test; nothing is left from other tests."""
    context = await browser.new_context(viewport={"width": 1280, "height": 1060})
    page = await context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    await context.close()
    assert errors == []
