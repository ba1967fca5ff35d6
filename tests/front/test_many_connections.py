"""Thousands of connections that say nothing or take nothing: a bounded cost, and an end.

A subscriber beside them misses nothing.
"""

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.hub_process import HubProcess
from tests.support.raw_connection import raw_connection
from tests.support.waiting import eventually
from tests.transports.peers import Query, SsePeer, WebSocketPeer, publisher

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SILENT, DEAF = 5000, 2000
MIB = 1 << 20
ANSWERS_BYTES = 32 * MIB
BOUND = 8000


@pytest.fixture(scope="module", autouse=True)
def descriptors() -> Iterator[None]:
    """As many as this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < BOUND:
        pytest.skip(f"a process may have only {hard} descriptors here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, BOUND), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(
        HUB_MAX_CONNECTIONS=str(BOUND),
        HUB_HANDSHAKE_TIMEOUT_SECONDS="4",
        HUB_WRITE_TIMEOUT_SECONDS="4",
        HUB_BODY_TOTAL_BYTES=str(ANSWERS_BYTES),
        HUB_HISTORY_SIZE="1000",
    ) as process:
        yield process


@asynccontextmanager
async def peers(hub: HubProcess, count: int, says: bytes) -> AsyncIterator[list[socket.socket]]:
    """Yields `count` sockets that each send `says` and read nothing."""
    with contextlib.ExitStack() as stack:
        each = []
        for number in range(count):
            peer = stack.enter_context(socket.socket())
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            peer.connect(("127.0.0.1", hub.port))
            peer.setblocking(False)
            with contextlib.suppress(OSError):
                peer.send(says)
            each.append(peer)
            if number % 50 == 0:
                await asyncio.sleep(0)
        yield each


@asynccontextmanager
async def watching(hub: HubProcess, channel: str) -> AsyncIterator[None]:
    """A subscriber of each kind; what was published meanwhile is what both have, in order."""
    query = Query(channel)
    async with WebSocketPeer(hub.url, query, {}) as one, SsePeer(hub.url, query, {}) as two:
        yield
        assert await one.data(10) == list(range(10))
        assert await two.data(10) == list(range(10))


def peak_bytes(hub: HubProcess) -> int:
    """The most memory that the hub ever had."""
    status = Path(f"/proc/{hub.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


async def sockets(http: httpx.AsyncClient) -> float:
    lines = (await http.get("/metrics")).text.splitlines()
    (found,) = (line for line in lines if line.startswith("hub_http_connections "))
    return float(found.split()[1])


async def test_silent_connections_cost_little_and_end(hub: HubProcess, channel: str) -> None:
    async with publisher(hub.url) as http, watching(hub, channel):
        before = hub.memory_bytes
        async with peers(hub, SILENT, b"") as each:
            for number in range(10):
                (await http.post(f"/api/publish/{channel}", json=number)).raise_for_status()
            # A connection with its parser, buffers and timer.
            assert hub.memory_bytes - before < SILENT * 12_000
            await eventually(lambda: few_are_left(http), seconds=60, what="the end of the silent")
            assert each[0].recv(1000).startswith(b"HTTP/1.1 408 ")


async def test_answers_that_nobody_reads_are_bounded_together_and_given_up(
    hub: HubProcess, channel: str
) -> None:
    """Each is a MiB of history."""
    async with publisher(hub.url) as http, watching(hub, channel):
        for _ in range(16):
            answer = await http.post(f"/api/publish/{channel}-big", json="x" * 60_000)
            answer.raise_for_status()
        before = hub.memory_bytes
        target = f"/api/channels/{channel}-big/history?limit=1000"
        request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        async with peers(hub, DEAF, request):
            for number in range(10):
                (await http.post(f"/api/publish/{channel}", json=number)).raise_for_status()
            await eventually(lambda: few_are_left(http), seconds=90, what="the end of the deaf")
        # The bound, and as much again for what the allocator does not give back.
        assert peak_bytes(hub) - before < 3 * ANSWERS_BYTES + DEAF * 12_000


async def few_are_left(http: httpx.AsyncClient) -> bool:
    return await sockets(http) < 20


async def test_over_the_bound_is_503_and_probes_are_still_answered(channel: str) -> None:
    """Sockets of every kind count."""
    with HubProcess(HUB_MAX_CONNECTIONS="6") as hub:
        async with contextlib.AsyncExitStack() as stack:
            for number in range(6):
                peer = await stack.enter_async_context(raw_connection(hub.url))
                if number % 3 == 0:
                    assert (await peer.upgrade(f"/ws?channel={channel}")).status == 101
                elif number % 3 == 1:
                    peer.request("GET", f"/sse?channel={channel}")
                    await peer.until(b"event: subscribed\n")
                else:
                    peer.request("GET", "/healthz")
                    await peer.answer()
            for target, status in [
                ("/api/channels", 503), ("/healthz", 200), ("/readyz", 200), ("/metrics", 200),
                ("/ws", 503), (f"/poll?channel={channel}", 503), (f"/sse?channel={channel}", 503),
            ]:  # fmt: skip
                async with raw_connection(hub.url) as late:
                    if target == "/ws":
                        answer = await late.upgrade(target)
                    else:
                        late.request("GET", target)
                        answer = await late.answer()
                    assert answer.status == status, target
                    if status == 503:
                        assert answer.code == "unavailable"
                        assert b"no more connections" in answer.body
                    assert await late.rest() == b""
