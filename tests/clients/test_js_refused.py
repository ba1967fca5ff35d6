"""The JavaScript client in Node where something on the way refuses WebSockets."""

import asyncio
import json
import shutil
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.support.hub_process import HubProcess
from tests.support.proxies.in_loop import LoopProxy, until_one_ends
from tests.support.waiting import eventually

PROGRAM = Path(__file__).parent / "js" / "refused.mjs"
LIBRARY = Path(__file__).parents[2] / "clients" / "js" / "node_modules" / "ws"
NODE = shutil.which("node")
SECONDS = 60.0
_LIMIT = 1024 * 1024
_REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
pytestmark = [
    pytest.mark.skipif(NODE is None, reason="Node 20 or newer is not installed"),
    pytest.mark.timeout(240),
]


class RefusingProxy(LoopProxy):
    """Answers each `GET /ws` with 403, and passes everything else."""

    def __init__(self, hub_port: int) -> None:
        super().__init__(hub_port, limit_bytes=_LIMIT)
        self.refused = 0

    async def serve(self, browser: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        hub, ask = await self.connect()
        try:
            await until_one_ends(self._pass_on(browser, ask, answer), _pump(hub, answer))
        finally:
            ask.close()

    async def _pass_on(
        self,
        browser: asyncio.StreamReader,
        ask: asyncio.StreamWriter,
        answer: asyncio.StreamWriter,
    ) -> None:
        while data := await browser.read(_LIMIT):
            if data.startswith(b"GET /ws"):
                self.refused += 1
                answer.write(_REFUSED)
                await answer.drain()
                return
            ask.write(data)
            await ask.drain()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(_LIMIT):
        sink.write(data)
        await sink.drain()


@pytest.mark.parametrize("library", ["node", "ws"])
async def test_where_websockets_are_refused_sse_is_used_and_nothing_is_left_behind(
    library: str,
) -> None:
    """One session at the hub, however often WebSocket is tried again beside it."""
    if library == "ws" and not LIBRARY.exists():
        pytest.skip("the tools of clients/js are not installed")
    with HubProcess() as hub:
        async with RefusingProxy(hub.port) as proxy:
            arguments = ("--experimental-websocket", "--no-warnings", str(PROGRAM))
            process = await asyncio.create_subprocess_exec(
                str(NODE), *arguments, proxy.url, "news", library, stdin=PIPE, stdout=PIPE
            )
            assert process.stdin is not None
            assert process.stdout is not None
            events: list[tuple[str, Any]] = []

            async def listen(lines: asyncio.StreamReader) -> None:
                async for line in lines:
                    event, value = json.loads(line)
                    events.append((event, value))

            def said(event: str) -> list[Any]:
                return [value for name, value in events if name == event]

            listening = asyncio.create_task(listen(process.stdout))
            try:
                await eventually(lambda: bool(said("subscribed")), seconds=SECONDS)
                await eventually(lambda: proxy.refused >= 4, seconds=SECONDS)
                async with httpx.AsyncClient(base_url=hub.url) as client:
                    page = (await client.get("/api/connections")).json()
                    assert [each["transport"] for each in page["connections"]] == ["sse"]
                    await client.post("/api/publish/news", json=1)
                await eventually(lambda: said("number") == [1], seconds=SECONDS)
                assert said("state") == [
                    ["connecting", "websocket"],
                    ["connecting", "sse"],
                    ["connected", "sse"],
                ]
                process.stdin.close()
                assert await asyncio.wait_for(process.wait(), SECONDS) == 0
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
                listening.cancel()
