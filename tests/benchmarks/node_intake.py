"""How many publications a second one node takes in on a Redis: prints a table, asserts nothing.

    uv run python -m tests.benchmarks.node_intake

The node has the first core to itself; Redis and the load share the others. Every publication is
acknowledged, and each connection waits for its answers before it sends more; a WebSocket has 16
publications under way. No subscriber anywhere, payloads of 200 bytes, a channel per connection.
"""

import asyncio
import json
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar, cast

import uvloop

from hub.bench.cores import Cores
from hub.bench.greetings import payload, publish_frame, publisher_request
from hub.bench.plan import Target
from hub.bench.server import Server, own_server
from hub.bench.several_nodes import redis

SECONDS = 5.0
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


async def measure(server: Server, make: Callable[[Target, int], Sender], count: int) -> str:
    """One row: publications a second, and the node's CPU for each."""
    loop, target, meter = asyncio.get_running_loop(), server.target, server.meter
    assert meter is not None
    senders = [make(target, number) for number in range(count)]
    for sender in senders:
        await loop.create_connection(partial(_itself, sender), target.host, target.port)
    await asyncio.sleep(0.5)
    before, cpu, began = _total(senders), meter.usage(), time.perf_counter()
    await asyncio.sleep(SECONDS)
    made, elapsed = _total(senders) - before, time.perf_counter() - began
    spent = meter.usage().since(cpu).cpu_seconds
    for sender in senders:
        sender.close()
        assert not sender.wrong, sender.wrong
    return f"{made / elapsed:>14,.0f}{spent / made * 1e6:>14.1f}{spent / elapsed * 100:>10.0f} %"


def _itself(made: Value) -> Value:
    return made


def _total(senders: list[Sender]) -> int:
    return sum(sender.answered for sender in senders)


async def main() -> None:
    cores = Cores.divide()
    beside = Cores(server=cores.load, load=cores.load)
    with cores.as_load(), redis(beside) as url:
        print(f"{'':<28}{'per second':>14}{'us CPU each':>14}{'of core':>12}")
        for name, make, count in (
            ("single POSTs, 16 at a time", single, 16),
            ("single POSTs, 64 at a time", single, 64),
            ("arrays of 100, 4 at a time", array, 4),
            ("WebSockets, 32 at a time", websocket, 32),
        ):
            with own_server(cores, settings={"HUB_BROKER": url}) as server:
                print(f"{name:<28}{await measure(server, make, count)}")


if __name__ == "__main__":
    uvloop.run(main())
