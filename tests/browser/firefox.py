"""The machine's own Firefox, driven without a driver: it speaks WebDriver BiDi itself.

Playwright drives only builds of its own, and geckodriver is in no package of Debian. BiDi is
JSON over a WebSocket (https://w3c.github.io/webdriver-bidi/), of which four commands are
enough here.
"""

import asyncio
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.support.waiting import eventually

# Not `firefox`, which is a snap on Ubuntu and may not read a profile in a temporary directory.
FIREFOX = shutil.which("firefox-esr")
_LISTENING = re.compile(r"WebDriver BiDi listening on (ws://\S+)")
# A first start with an empty profile, on two busy cores.
_START_SECONDS = 60.0
_CALL_SECONDS = 30.0
_STOP_SECONDS = 15.0


class BidiError(Exception):
    """The browser refused a command, or the page threw."""


class FirefoxTab:
    """Implements `tests.browser.reader.Tab`; one command at a time."""

    def __init__(self, session: ClientConnection) -> None:
        self._session = session
        self._lock = asyncio.Lock()
        self._last_id = 0
        self._context = ""

    async def begin(self) -> None:
        """Take the tab that the browser started with."""
        await self.call("session.new", capabilities={})
        tree = await self.call("browsingContext.getTree")
        self._context = tree["contexts"][0]["context"]

    async def goto(self, url: str) -> None:
        await self.call("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def evaluate(self, expression: str, arg: Any = None) -> Any:
        """The argument and the result travel as JSON, in both directions."""
        result = await self.call(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({expression})({json.dumps(arg)})))()",
            target={"context": self._context},
            awaitPromise=True,
        )
        if result["type"] == "exception":
            raise BidiError(result["exceptionDetails"]["text"])
        value = result["result"].get("value")
        return None if value is None else json.loads(value)

    async def close(self) -> None:
        """The whole browser."""
        await self.call("browser.close")

    async def call(self, method: str, **params: object) -> dict[str, Any]:
        async with self._lock, asyncio.timeout(_CALL_SECONDS):
            self._last_id += 1
            command = {"id": self._last_id, "method": method, "params": params}
            await self._session.send(json.dumps(command))
            # Events of the browser come in between.
            while (answer := json.loads(await self._session.recv())).get("id") != self._last_id:
                pass
        if answer["type"] == "error":
            raise BidiError(f"{method}: {answer['message']}")
        result: dict[str, Any] = answer["result"]
        return result


@asynccontextmanager
async def firefox_tab() -> AsyncIterator[FirefoxTab]:
    """A headless Firefox with an empty profile, from its start to its end."""
    assert FIREFOX is not None
    with tempfile.TemporaryDirectory(prefix="firefox-", ignore_cleanup_errors=True) as directory:
        log = Path(directory) / "log"
        profile = Path(directory) / "profile"
        profile.mkdir()
        flags = ["--headless", "--no-remote", "--remote-debugging-port", "0"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [FIREFOX, *flags, "--profile", str(profile), "about:blank"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            url = await eventually(
                lambda: _address(process, log), seconds=_START_SECONDS, what="Firefox's address"
            )
            async with connect(f"{url}/session", max_size=None, ping_interval=None) as session:
                tab = FirefoxTab(session)
                await tab.begin()
                yield tab
                await tab.close()
        finally:
            await asyncio.to_thread(_end, process)


def _address(process: subprocess.Popen[bytes], log: Path) -> str | None:
    text = log.read_text(errors="replace")
    assert process.poll() is None, text
    listening = _LISTENING.search(text)
    return None if listening is None else listening[1]


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_STOP_SECONDS)
