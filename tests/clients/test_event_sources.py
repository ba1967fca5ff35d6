"""Parsers of event streams that others wrote resume several channels after a cut.

What they remember of a stream is the id of events that have data; some forget that of a block
without, as the standard would have it kept.
"""

import asyncio
import json
import shutil
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx_sse
import pytest
import sseclient

from tests.support.hub_process import HubProcess
from tests.support.waiting import eventually

PROGRAM = Path(__file__).parent / "js" / "event_source.mjs"
MODULES = Path(__file__).parents[2] / "clients" / "js" / "node_modules"
NODE = shutil.which("node")
# As npm has them by the names that clients/js/package.json gives to their versions.
PACKAGES = [
    "eventsource",
    "eventsource-4",
    "eventsource-3",
    "eventsource-2",
    "launchdarkly-eventsource",
]
SECONDS = 30.0


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess() as running:
        yield running


class Relay:
    """A way to the hub that can be cut without a word of it."""

    def __init__(self, hub: HubProcess) -> None:
        self._port = int(hub.url.rpartition(":")[2])
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, back}

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65_536):
                    target.write(data)
            except OSError:
                pass
            finally:
                target.close()

        await asyncio.gather(copy(reader, back), copy(there, writer))

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()


@asynccontextmanager
async def relay(hub: HubProcess) -> AsyncIterator[Relay]:
    made = Relay(hub)
    server = await asyncio.start_server(made.pass_on, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        made.cut()
        server.close()


async def publish(hub: HubProcess, *channels: str) -> None:
    async with httpx.AsyncClient(timeout=SECONDS) as http:
        for channel in channels:
            (await http.post(f"{hub.url}/api/publish/{channel}", json=1)).raise_for_status()


def offsets(pushes: list[dict[str, Any]], channel: str) -> list[int]:
    return [p["offset"] for p in pushes if p["op"] == "message" and p["channel"] == channel]


async def positions_are_told() -> None:
    """They follow the messages at the end of the tick: nothing shows when `onmessage` is all."""
    await asyncio.sleep(0.3)


# -- Node ------------------------------------------------------------------------------------------


@asynccontextmanager
async def reading(package: str, url: str) -> AsyncIterator[list[dict[str, Any]]]:
    """Yields the pushes that a program got with the EventSource of this package."""
    assert NODE is not None
    process: Process = await asyncio.create_subprocess_exec(
        NODE, str(PROGRAM), package, url, stdout=PIPE
    )
    seen: list[dict[str, Any]] = []

    async def listen() -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            seen.append(json.loads(line))

    listening = asyncio.create_task(listen())
    try:
        yield seen
    finally:
        process.kill()
        await process.wait()
        await listening


@pytest.mark.skipif(NODE is None, reason="Node 20 or newer is not installed")
@pytest.mark.parametrize("package", PACKAGES)
async def test_an_event_source_of_npm_resumes_every_channel_after_a_cut(
    hub: HubProcess, channel: str, package: str
) -> None:
    """`onmessage` gets no event but `subscribed` and messages."""
    if not (MODULES / package).exists():
        pytest.skip(f"{package} is not installed: npm install --prefix clients/js")
    names = [f"{channel}.a", f"{channel}.b"]
    query = "&".join(f"channel={name}" for name in names)
    async with relay(hub) as way, reading(package, f"{way.url}/sse?{query}") as seen:
        await eventually(lambda: len(seen) == 2, seconds=SECONDS)
        await publish(hub, *names, names[0])
        await eventually(lambda: len(seen) == 5, seconds=SECONDS)
        await positions_are_told()
        way.cut()
        await publish(hub, *names)
        await eventually(lambda: len(seen) >= 9, seconds=SECONDS)
        assert {push["op"] for push in seen} == {"subscribed", "message"}
        assert (offsets(seen, names[0]), offsets(seen, names[1])) == ([1, 2, 3], [1, 2])


# -- Python ----------------------------------------------------------------------------------------


async def test_sseclient_py_hands_out_an_id_that_resumes_every_channel(
    hub: HubProcess, channel: str
) -> None:
    """Its user keeps the last `id` that was not empty."""
    names = [f"{channel}.a", f"{channel}.b"]

    def read(count: int, last_id: str) -> tuple[list[dict[str, Any]], str]:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        got: list[dict[str, Any]] = []
        with httpx.stream(
            "GET", f"{hub.url}/sse", params={"channel": names}, headers=headers, timeout=SECONDS
        ) as response:
            for event in sseclient.SSEClient(response.iter_bytes()).events():
                last_id = event.id or last_id
                got.append(json.loads(event.data))
                came = [push["op"] for push in got].count("message") == count
                if came and event.event == "positions":
                    break
        return got, last_id

    # What was published before the stream is there for one that begins with the newest.
    _, told = await asyncio.to_thread(read, 0, "")
    await publish(hub, *names)
    first, told = await asyncio.to_thread(read, 2, told)
    await publish(hub, *names, names[0])
    second, _ = await asyncio.to_thread(read, 3, told)
    assert (offsets(first, names[0]), offsets(first, names[1])) == ([1], [1])
    assert (offsets(second, names[0]), offsets(second, names[1])) == ([2, 3], [2])


async def test_httpx_sse_hands_out_an_id_that_resumes_every_channel(
    hub: HubProcess, channel: str
) -> None:
    """httpx-sse repeats the last id with each event that has none."""
    names = [f"{channel}.a", f"{channel}.b"]
    params = {"channel": names}
    async with httpx.AsyncClient(base_url=hub.url, timeout=SECONDS) as http:

        async def read(count: int, last_id: str) -> tuple[list[dict[str, Any]], str]:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            got: list[dict[str, Any]] = []
            async with httpx_sse.aconnect_sse(
                http, "GET", "/sse", params=params, headers=headers
            ) as source:
                async for event in source.aiter_sse():
                    if event.data:
                        got.append(event.json())
                    came = [push["op"] for push in got].count("message") == count
                    if came and event.event == "positions":
                        return got, event.id
            raise AssertionError("the stream has ended")

        _, told = await read(0, "")
        await publish(hub, *names)
        first, told = await read(2, told)
        await publish(hub, *names, names[0])
        second, _ = await read(3, told)
    assert (offsets(first, names[0]), offsets(first, names[1])) == ([1], [1])
    assert (offsets(second, names[0]), offsets(second, names[1])) == ([2, 3], [2])
