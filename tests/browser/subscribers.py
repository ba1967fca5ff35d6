"""The Python client, and the browser client in Node, as witnesses beside a browser."""

import asyncio
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from hub_client import ClientOptions, ConnectionState, Gap, HubClient, Message, ReconnectTiming
from tests.browser.seen import Seen

NODE = shutil.which("node")
SCRIPT = Path(__file__).with_name("reader.mjs")
_STOP_SECONDS = 10.0


class Recorded:
    """Implements `tests.browser.seen.Witness` for what runs in this process."""

    def __init__(self) -> None:
        self.log: list[dict[str, Any]] = []
        self.transport = ""
        """The one it is connected by, or was last."""

    def note(self, state: ConnectionState) -> None:
        if state.name == "connected":
            self.transport = state.transport

    async def seen(self) -> Seen:
        return Seen(list(self.log))


@asynccontextmanager
async def python_subscriber(url: str, channel: str, since: str) -> AsyncIterator[Recorded]:
    """`hub_client.HubClient`, which takes the first transport that works."""
    recorded = Recorded()
    timing = ReconnectTiming(open_timeout_seconds=2.0, cap_seconds=1.0, better_seconds=1.0)
    options = ClientOptions(timing=timing, on_state=recorded.note)
    async with HubClient(url, options=options) as client:
        reading = asyncio.create_task(_read(client, channel, since, recorded))
        try:
            yield recorded
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading


async def _read(client: HubClient, channel: str, since: str, recorded: Recorded) -> None:
    async for item in client.subscribe(channel, since=since, gaps=True):
        recorded.log.append(_entry(item))


def _entry(item: Message | Gap) -> dict[str, Any]:
    if isinstance(item, Message):
        return {"data": item.data, "position": str(item.position)}
    return {
        "reason": item.reason, "from": item.first, "to": item.last, "position": str(item.position),
    }  # fmt: skip


class Printed:
    """Implements `Witness` for a process that prints what it sees."""

    def __init__(self, output: Path) -> None:
        self._output = output

    async def seen(self) -> Seen:
        lines = self._output.read_text().split("\n")[:-1]  # the last may be half written
        return Seen([json.loads(line) for line in lines])


@asynccontextmanager
async def node_subscriber(url: str, channel: str, since: str) -> AsyncIterator[Printed]:
    """The browser client in Node."""
    assert NODE is not None
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "lines"
        with output.open("wb") as lines:
            process = subprocess.Popen(
                [NODE, str(SCRIPT), url, channel, since], stdin=subprocess.DEVNULL, stdout=lines
            )
        try:
            yield Printed(output)
            assert process.poll() is None, "the subscriber ended by itself"
        finally:
            process.kill()
            await asyncio.to_thread(process.wait, _STOP_SECONDS)
