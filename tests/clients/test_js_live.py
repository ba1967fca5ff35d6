"""The browser client in Node against a real hub: every transport, and from one to the next."""

import asyncio
import json
import shutil
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer, is_installed
from tests.support.waiting import eventually

PROGRAM = Path(__file__).parent / "js" / "numbers.mjs"
NODE = shutil.which("node")
# Two busy cores; only a failing test waits this long.
SECONDS = 60.0
pytestmark = [
    pytest.mark.skipif(NODE is None, reason="Node 20 or newer is not installed"),
    pytest.mark.timeout(240),
]


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(HUB_PRESENCE="true", HUB_HISTORY_SIZE="1000") as hub:
        yield hub


@dataclass
class Numbers:
    """The events that the subscriber program has printed so far."""

    process: Process
    events: list[tuple[str, Any]] = field(default_factory=list)

    async def listen(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            event, value = json.loads(line)
            self.events.append((event, value))

    def said(self, event: str) -> list[Any]:
        return [value for name, value in self.events if name == event]

    async def gate(self, word: str) -> None:
        """Open or block the subscriber's WebSocket."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())
        await self.process.stdin.drain()

    async def wait_until_on(self, transport: str) -> None:
        """Return once it is connected over `transport`."""

        def there() -> bool:
            return self.said("state")[-1:] == [["connected", transport]]

        await eventually(there, seconds=SECONDS)

    async def wait_until_subscribed(self, times: int = 1) -> None:
        await eventually(lambda: len(self.said("subscribed")) >= times, seconds=SECONDS)


@asynccontextmanager
async def subscriber(
    url: str, channel: str, last: int, transports: Sequence[str]
) -> AsyncIterator[Numbers]:
    """A running subscriber, ended with the block."""
    # Node 20 has its WebSocket behind a flag; later ones take the flag and have it anyway.
    arguments = ["--experimental-websocket", "--no-warnings", str(PROGRAM), url, channel]
    process = await asyncio.create_subprocess_exec(
        str(NODE), *arguments, str(last), ",".join(transports), stdin=PIPE, stdout=PIPE
    )
    numbers = Numbers(process)
    listening = asyncio.create_task(numbers.listen())
    try:
        yield numbers
        await asyncio.wait_for(process.wait(), SECONDS)
        await listening
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        listening.cancel()


async def publish(hub: HubProcess, channel: str, numbers: range) -> None:
    async with httpx.AsyncClient(base_url=hub.url, timeout=SECONDS) as client:
        for number in numbers:
            answer = await client.post(f"/api/publish/{channel}", json=number)
            answer.raise_for_status()


@pytest.mark.parametrize("transport", ["websocket", "sse", "poll"])
async def test_each_transport_brings_every_number_once_and_in_order(
    hub: HubProcess, transport: str
) -> None:
    """Commands get through as well: publish, history, presence."""
    channel = f"numbers.{transport}"
    async with subscriber(hub.url, channel, 200, [transport]) as numbers:
        await numbers.wait_until_subscribed()
        await publish(hub, channel, range(1, 201))
    assert numbers.said("number") == list(range(1, 201))
    assert numbers.said("gap") == []
    assert numbers.said("end") == [{"published": 1, "history": 200, "members": 1}]
    assert numbers.process.returncode == 0


@pytest.mark.parametrize("lesser", ["sse", "poll"])
async def test_changing_the_transport_loses_and_repeats_nothing(
    hub: HubProcess, lesser: str
) -> None:
    """Down when WebSocket is blocked, up again in the background when it is not."""
    channel = f"moving.{lesser}"
    async with subscriber(hub.url, channel, 600, ["websocket", lesser]) as numbers:
        await numbers.wait_until_subscribed()
        for word, transport, first in (
            ("block", lesser, 1),
            ("open", "websocket", 201),
            ("block", lesser, 401),
        ):
            publishing = asyncio.create_task(
                publish(hub, channel, range(first, first + 200 - (first == 401)))
            )
            await numbers.gate(word)
            await numbers.wait_until_on(transport)
            await publishing
        await publish(hub, channel, range(600, 601))
    assert numbers.said("number") == list(range(1, 601))
    assert numbers.said("gap") == []
    steps = [step for step in numbers.said("state") if step[0] == "connected"]
    assert [transport for _, transport in steps][:4] == ["websocket", lesser, "websocket", lesser]


async def test_moving_up_is_not_seen_as_a_cut(hub: HubProcess) -> None:
    """The better connection takes over while the other one still works."""
    async with subscriber(hub.url, "upwards", 20, ["websocket", "poll"]) as numbers:
        await numbers.wait_until_subscribed()
        await numbers.gate("block")
        await numbers.wait_until_on("poll")
        await numbers.wait_until_subscribed(2)
        seen = len(numbers.said("state"))
        await numbers.gate("open")
        await publish(hub, "upwards", range(1, 11))
        await numbers.wait_until_on("websocket")
        assert numbers.said("state")[seen:] == [["connected", "websocket"]]
        await publish(hub, "upwards", range(11, 21))
    assert numbers.said("number") == list(range(1, 21))


@pytest.mark.skipif(not is_installed(), reason="redis-server is not installed")
@pytest.mark.parametrize("transport", ["sse", "poll"])
async def test_every_request_may_come_to_another_node(transport: str) -> None:
    """Polls and commands find their session behind a balancer that knows none."""
    with (
        RedisServer() as redis,
        HubProcess(HUB_BROKER=redis.url, HUB_NODE="a", HUB_PRESENCE="true") as first,
        HubProcess(HUB_BROKER=redis.url, HUB_NODE="b", HUB_PRESENCE="true") as second,
    ):
        urls = f"{first.url},{second.url}"
        async with subscriber(urls, "balanced", 100, [transport]) as numbers:
            await numbers.wait_until_subscribed()
            await publish(first, "balanced", range(1, 51))
            await publish(second, "balanced", range(51, 101))
        assert numbers.said("number") == list(range(1, 101))
        assert numbers.said("gap") == []
        assert numbers.said("state")[1:] == [["connected", transport], ["closed", transport]]
