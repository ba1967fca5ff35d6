"""Measures what a connection, a command and a POST cost a node, without the kernel.

    uv run python -m tests.benchmarks.entry_cost

A node runs as it does in a hub; its connections are on a transport that takes everything and
keeps nothing. So the figures are the hub's own code alone: accept, read and write are not in
them. Beside each stands its floor: as little as answers the same bytes. The least of many short
rounds counts, because whatever else a machine does only adds to it.
"""

import asyncio
import contextlib
import gc
import struct
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import httptools
import orjson
import uvloop

from hub import Hub, Settings
from hub.node.transports import connection_context
from hub.transports.connection.connection import Connection
from hub.transports.connection.context import ConnectionContext
from hub.transports.turns import Turns
from hub.wire.websocket import accept_handshake, frame
from tests.benchmarks.http_floor import Floor

ROUNDS = 60
CONNECTIONS = 100
COMMANDS = 64
UPGRADE = (
    b"GET /ws?channel=news HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
STREAM = b"GET /sse?channel=news HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
MISSED = 20
_DEFLATE = b"\r\nSec-WebSocket-Extensions: permessage-deflate"
POSTERS = 16
_POST = b"POST /api/publish/intake-%d HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 200\r\n\r\n%b"
_COMMAND = b'{"op":"publish","id":%d,"channel":"intake","data":"%b"}'
_WELCOME = b'{"op":"welcome","connection":"%b","node":"n","heartbeat_seconds":25,"secret":"%b"}'
_SUBSCRIBED = b'{"op":"subscribed","channel":"%b","position":"e:0","recovered":true,"replayed":0}'


class TakingTransport:
    """Takes all it is given."""

    def __init__(self) -> None:
        self.protocol: asyncio.Protocol

    def get_extra_info(self, name: str) -> object:
        # As behind TLS, so that nothing is written to a descriptor.
        return {"peername": ("127.0.0.1", 1), "sslcontext": True}.get(name)

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.Protocol:
        return self.protocol

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int, low: int = 0) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    resume_reading = close = abort = pause_reading


class _Head:
    """The floor's reader of a request."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.target = b""

    def on_url(self, url: bytes) -> None:
        self.target = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()


def bare_connect() -> None:
    """Read the head, answer the handshake, a welcome and a subscribed in one write."""
    head = _Head()
    parser = httptools.HttpRequestParser(head)
    with contextlib.suppress(httptools.HttpParserUpgrade):
        parser.feed_data(UPGRADE)
    answer, _ = accept_handshake(head.headers, deflate=True)
    channel = head.target.partition(b"channel=")[2]
    TakingTransport().write(
        answer + frame(_WELCOME % (b"0" * 24, b"0" * 32)) + frame(_SUBSCRIBED % channel)
    )


def bare_commands(data: bytes) -> None:
    """Read each frame, parse the command, keep its data, and answer all in one write."""
    at, answers, kept = 0, [], []
    while at < len(data):
        (length,) = struct.unpack_from("!H", data, at + 2)
        command = orjson.loads(data[at + 8 : at + 8 + length])
        at += 8 + length
        kept.append(command["data"])
        ok = {"channel": command["channel"], "epoch": "e", "offset": len(kept)}
        answers.append(frame(orjson.dumps({"op": "reply", "id": command["id"], "ok": ok})))
    TakingTransport().write(b"".join(answers))


def commands() -> bytes:
    """As many publications as one read brings, masked with zeros."""
    raw = [_COMMAND % (number, b"x" * 200) for number in range(COMMANDS)]
    return b"".join(struct.pack("!BBH4x", 0x81, 0xFE, len(text)) + text for text in raw)


def bare_connects() -> None:
    for _ in range(CONNECTIONS):
        bare_connect()


def connect(context: ConnectionContext, request: bytes) -> asyncio.Protocol:
    transport = TakingTransport()
    connection = Connection(context)
    connection.connection_made(cast("asyncio.Transport", transport))
    connection.data_received(request)
    return transport.protocol


def _connects(context: ConnectionContext, request: bytes) -> list[asyncio.Protocol]:
    return [connect(context, request) for _ in range(CONNECTIONS)]


def least(work: Callable[[], object], count: int) -> float:
    """Microseconds for each of `count` pieces of work that `work` does."""
    found = []
    for _ in range(ROUNDS):
        gc.collect()
        gc.disable()
        began = time.process_time()
        kept = work()
        found.append((time.process_time() - began) / count * 1e6)
        gc.enable()
        for connection in kept if isinstance(kept, list) else []:
            connection.connection_lost(None)
    return min(found)


def row(name: str, microseconds: float, floor: float) -> None:
    print(f"{name:44} {microseconds:7.1f} us {microseconds / floor:6.1f} x the floor")


async def main() -> None:
    settings = Settings(port=0, drain_seconds=0, stats_seconds=0, log_level="critical")
    async with Hub(settings) as hub:
        gc.freeze()
        context = connection_context(hub.node, asyncio.ensure_future, app=None, beside=None)
        # A round has one turn of the loop: nobody in it is to wait for the next.
        vars(context.turns).update(vars(Turns(lambda: 0.0)))
        floor = least(bare_connects, CONNECTIONS)
        row("bare handshake and two frames", floor, floor)
        for name, request in (("WebSocket", UPGRADE), ("SSE", STREAM)):
            made = least(partial(_connects, context, request), CONNECTIONS)
            row(f"{name} with one subscription", made, floor)
        for name, request in (
            ("WebSocket", await _resume(hub)),
            ("deflated", await _resume(hub, _DEFLATE)),
        ):
            row(
                f"{name} that resumes {MISSED}",
                least(partial(_connects, context, request), CONNECTIONS),
                floor,
            )
        data = commands()
        floor = least(lambda: bare_commands(data), COMMANDS)
        row("bare frame, JSON and reply, each", floor, floor)
        peer = connect(context, UPGRADE)
        best = []
        for _ in range(10 * ROUNDS):
            began = time.process_time()
            peer.data_received(data)
            while getattr(peer, "_reading", None) is not None:
                await asyncio.sleep(0)
            best.append((time.process_time() - began) / COMMANDS * 1e6)
        row("publish command, each", min(best), floor)
        await _posts(context)


async def _resume(hub: Hub, more: bytes = b"") -> bytes:
    """The request of a WebSocket that has missed the last publications of a channel."""
    made = [await hub.publish("news", {"text": "x" * 190}) for _ in range(MISSED + 1)]
    since = str(made[0].position).encode()
    return UPGRADE.replace(b"?", b"?since=news=%b&" % since).replace(
        b"\r\n\r\n", more + b"\r\n\r\n"
    )


async def _posts(context: ConnectionContext) -> None:
    """Single publications over HTTP, on as many connections as `hub bench --intake` has."""
    floors, connections = [Floor() for _ in range(POSTERS)], []
    for floor in floors:
        floor.connection_made(cast("asyncio.Transport", TakingTransport()))
    for _ in range(POSTERS):
        connections.append(connection := Connection(context))
        connection.connection_made(cast("asyncio.Transport", TakingTransport()))
    bare = await _least_post(floors)
    row("bare httptools loop, a POST", bare, bare)
    row("POST of a publication", await _least_post(connections), bare)


async def _least_post(connections: Sequence[asyncio.Protocol]) -> float:
    requests = [_POST % (number, b"1" * 200) for number in range(len(connections))]
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for connection, request in zip(connections, requests, strict=True):
            connection.data_received(request)
        # The answers leave at the end of the loop's turn.
        await asyncio.sleep(0)
        found.append((time.process_time() - began) / len(connections) * 1e6)
    return min(found)


if __name__ == "__main__":
    uvloop.run(main())
