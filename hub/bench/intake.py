"""How many publications a second one node takes in on a Redis: `hub bench --intake`.

The node has the first core to itself; Redis and the load share the others. Every publication is
acknowledged, and each connection waits for its answers before it sends more; a WebSocket has 16
publications under way. No subscriber anywhere, payloads of 200 bytes, a channel per connection.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast

import uvloop

from hub.bench.cores import Cores
from hub.bench.greetings import payload, publish_frame, publisher_request
from hub.bench.plan import BenchError, Target
from hub.bench.server import Server, own_server
from hub.bench.several_nodes import redis

SETTLE_SECONDS = 0.5
PAYLOAD = payload(0, 200)
ARRAY = 100
WINDOW = 16
Value = TypeVar("Value")
_OK = b"HTTP/1.1 200"


class Sender(asyncio.Protocol):
    """Sends `request` again as soon as it was answered `answers` times."""

    def __init__(self, greeting: bytes, request: bytes, *, needle: bytes, answers: int) -> None:
        self._greeting = greeting
        self._request = request
        self._needle = needle
        self._answers = self._owed = answers
        self._tail = b""
        self.answered = 0
        self.wrong = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Uvloop's transports have the methods of the class, not the class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._greeting + self._request)

    def data_received(self, data: bytes) -> None:
        if b" 503 " in data or b'"error":' in data:
            self.wrong = data
        # A needle may be cut in two by the end of a read.
        text = self._tail + data
        found = text.count(self._needle)
        self._tail = text[len(text) - len(self._needle) + 1 :]
        self.answered += found
        self._owed -= found
        if self._owed <= 0:
            self._owed += self._answers
            self._transport.write(self._request)

    def close(self) -> None:
        self._transport.close()


def post(target: Target, path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def single(target: Target, number: int) -> Sender:
    request = post(target, f"/api/publish/intake-{number}", PAYLOAD)
    return Sender(b"", request, needle=_OK, answers=1)


def array(target: Target, number: int) -> Sender:
    item = {"channel": f"intake-{number}", "data": json.loads(PAYLOAD)}
    body = json.dumps([item] * ARRAY, separators=(",", ":")).encode()
    return Sender(b"", post(target, "/api/publish", body), needle=b'"offset":', answers=ARRAY)


def websocket(target: Target, number: int) -> Sender:
    frames = b"".join(publish_frame(n, f"intake-{number}", PAYLOAD) for n in range(WINDOW))
    return Sender(publisher_request(target), frames, needle=b'"offset":', answers=WINDOW)


@dataclass(frozen=True, slots=True)
class Intake:
    """What one way of publishing came to."""

    way: str
    per_second: float
    """Publications, all acknowledged."""
    cpu_microseconds: float
    """Of the node, for each."""
    core_share: float
    """Of the node's core, 0 to 1."""


WAYS: Sequence[tuple[str, Callable[[Target, int], Sender], int]] = (
    ("single POSTs, 16 at a time", single, 16),
    ("single POSTs, 64 at a time", single, 64),
    ("arrays of 100, 4 at a time", array, 4),
    ("WebSockets, 32 at a time", websocket, 32),
)
"""Name, what each connection sends, and how many connections."""


def run(seconds: float) -> list[Intake]:
    """Measure every way for so long, each at a fresh node.

    Raises:
        BenchError: there is no redis-server, a node does not become ready, or it refuses.
    """
    return uvloop.run(_measure_all(seconds))


async def _measure_all(seconds: float) -> list[Intake]:
    cores = Cores.divide()
    beside = Cores(server=cores.load, load=cores.load)
    found: list[Intake] = []
    with cores.as_load(), redis(beside) as url:
        for name, make, count in WAYS:
            with own_server(cores, settings={"HUB_BROKER": url}) as server:
                found.append(await _measure(server, name, make, count, seconds))
    return found


async def _measure(
    server: Server, name: str, make: Callable[[Target, int], Sender], count: int, seconds: float
) -> Intake:
    loop, target, meter = asyncio.get_running_loop(), server.target, server.meter
    if meter is None:
        raise BenchError("the node's process cannot be metered")
    senders = [make(target, number) for number in range(count)]
    for sender in senders:
        await loop.create_connection(partial(_itself, sender), target.host, target.port)
    await asyncio.sleep(SETTLE_SECONDS)
    before, cpu, began = _total(senders), meter.usage(), time.perf_counter()
    await asyncio.sleep(seconds)
    made, elapsed = _total(senders) - before, time.perf_counter() - began
    spent = meter.usage().since(cpu).cpu_seconds
    for sender in senders:
        sender.close()
        if sender.wrong:
            raise BenchError(f"the node refused: {sender.wrong[:200]!r}")
    if not made:
        raise BenchError("the node acknowledged nothing")
    return Intake(name, made / elapsed, spent / made * 1e6, spent / elapsed)


def _itself(made: Value) -> Value:
    return made


def _total(senders: list[Sender]) -> int:
    return sum(sender.answered for sender in senders)
