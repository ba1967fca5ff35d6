"""A real hub as a process and the machine's own Chromium."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

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
]
# Two busy cores start a browser slowly; only a failing test waits this long.
WAIT_MS = 20_000
START_SECONDS = 20.0
expect.set_options(timeout=WAIT_MS)


class HubProcess:
    """`hub serve` on a port of its own, which it keeps over a restart."""

    def __init__(self, log: Path, *arguments: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return once it is ready; raise `AssertionError` with its log when it does not get so."""
        env = os.environ | {"HUB_PORT": str(self.port), "HUB_DRAIN_SECONDS": "0.5"}
        command = [sys.executable, "-m", "hub", "serve", *self._arguments]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """Ask it to stop, and end it when it does not."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=5)
            raise
        finally:
            self._process = None

    def publish(self, channel: str, data: object) -> None:
        httpx.post(f"{self.url}/api/publish/{channel}", json=data, timeout=5).raise_for_status()

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture
def demo_hub(tmp_path: Path) -> Iterator[HubProcess]:
    """A hub that publishes the machine's counters."""
    yield from _running(HubProcess(tmp_path / "hub.log", "--demo"))


@pytest.fixture
def plain_hub(tmp_path: Path) -> Iterator[HubProcess]:
    """A hub that publishes nothing by itself."""
    yield from _running(HubProcess(tmp_path / "hub.log"))


def _running(hub: HubProcess) -> Iterator[HubProcess]:
    hub.start()
    try:
        yield hub
    finally:
        hub.stop()


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
