"""A hub played by a script: WebSocket, SSE and HTTP on one port, without any of the hub's code.

A test says what the fake answers and looks at what it was asked.
"""

import asyncio
import contextlib
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from hub_client import ClientOptions, Gap, HubClient, Message, ReconnectTiming, Subscription

Json = dict[str, Any]
DEADLINE_SECONDS = 10.0


def welcome(heartbeat_seconds: float = 25) -> Json:
    return {
        "op": "welcome",
        "connection": "c1",
        "node": "n1",
        "heartbeat_seconds": heartbeat_seconds,
        "version": "0",
        "secret": "s3cret",
    }


def message(channel: str, offset: int, data: object = None, **more: object) -> Json:
    fields = {"op": "message", "channel": channel, "offset": offset, **more}
    return {**fields, "data": {"n": offset} if data is None else data}


def started(command: Json, position: str, *, recovered: bool = True) -> Json:
    ok = {"channel": command["channel"], "position": position, "recovered": recovered}
    return {"op": "reply", "id": command["id"], "ok": {**ok, "replayed": 0}}


def subscribed(channel: str, position: str) -> Json:
    return {"op": "subscribed", "channel": channel, "position": position, "recovered": True}


def reset(channel: str, position: str) -> Json:
    epoch = position.rpartition(":")[0]
    fields = {"op": "gap", "channel": channel, "epoch": epoch, "position": position}
    return {**fields, "reason": "reset"}


def is_probe(command: Json) -> bool:
    """The ping by which a connection proves itself; commands of the client count from 1."""
    return bool(command["op"] == "ping" and command["id"] == 0)


PROVED: Json = {"op": "reply", "id": 0, "ok": {}}
"""The answer to a probe."""


class Peer:
    """The fake's end of one WebSocket."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self._commands: asyncio.Queue[Json] = asyncio.Queue()

    async def read(self) -> None:
        """Until the socket ends; probes are answered at once, as by a hub."""
        with contextlib.suppress(ConnectionClosed):
            async for text in self.socket:
                command: Json = json.loads(text)
                if is_probe(command):
                    await self.push(PROVED)
                else:
                    self._commands.put_nowait(command)

    async def push(self, *pushes: Json) -> None:
        for push in pushes:
            await self.socket.send(json.dumps(push))

    @property
    def unread(self) -> int:
        """How many commands came that no script has looked at."""
        return self._commands.qsize()

    async def any_command(self) -> Json:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self._commands.get()

    async def command(self, op: str = "subscribe") -> Json:
        """The next command, which must be `op`."""
        command = await self.any_command()
        assert command["op"] == op, command
        return command

    async def start(self, position: str) -> Json:
        """Answer the next subscribe; return it."""
        command = await self.command()
        await self.push(started(command, position))
        return command


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class FakeHub:
    """The requests that a fake hub got, and its address."""

    url: str = ""
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: int = 0


@asynccontextmanager
async def websocket_hub(*scripts: Script, port: int = 0) -> AsyncIterator[FakeHub]:
    """Play the scripts, one for each connection; afterwards connections stay silent."""
    fake = FakeHub()

    async def play(socket: ServerConnection) -> None:
        assert socket.request is not None
        fake.headers.append(dict(socket.request.headers.raw_items()))
        fake.connections += 1
        script = scripts[fake.connections - 1] if fake.connections <= len(scripts) else stay
        peer = Peer(socket)
        reading = asyncio.create_task(peer.read())
        try:
            await script(peer)
        except ConnectionClosed:
            return
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async with serve(play, "127.0.0.1", port, close_timeout=0.1) as server:
        fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield fake


async def stay(peer: Peer) -> None:
    await peer.push(welcome())
    await peer.socket.wait_closed()


@dataclass(frozen=True)
class HttpRequest:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class HttpAnswer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    stream: "asyncio.Queue[bytes | None] | None" = None
    """An event stream that stays open until None comes."""
    drop: bool = False
    """End the connection instead of answering."""
    bare: bool = False
    """Without a length of its own: `headers` says what it likes."""


Answer = Callable[[HttpRequest], HttpAnswer | Awaitable[HttpAnswer]]


@asynccontextmanager
async def http_hub(answer: Answer, port: int = 0) -> AsyncIterator[tuple[str, list[HttpRequest]]]:
    """An HTTP server that answers by a function; yields its address and what it was asked."""
    requests: list[HttpRequest] = []
    jobs: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read_request(reader)) is not None:
                requests.append(request)
                given = answer(request)
                answered = await given if inspect.isawaitable(given) else given
                if not await _write_answer(writer, answered):
                    break
        except ConnectionError:
            pass
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        job = asyncio.create_task(talk(reader, writer))
        jobs.add(job)
        job.add_done_callback(jobs.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests
    finally:
        server.close()
        for job in list(jobs):
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)


async def _read_request(reader: asyncio.StreamReader) -> HttpRequest | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    return HttpRequest(method, parts.path, parse_qs(parts.query), headers, body)


async def _write_answer(writer: asyncio.StreamWriter, answer: HttpAnswer) -> bool:
    """Whether the connection may carry another request."""
    if answer.drop:
        return False
    phrase = HTTPStatus(answer.status).phrase
    headers = dict(answer.headers)
    if answer.stream is None and not answer.bare:
        headers["Content-Length"] = str(len(answer.body))
    elif answer.stream is not None:
        headers |= {"Content-Type": "text/event-stream", "Connection": "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {answer.status} {phrase}\r\n{lines}\r\n".encode() + answer.body)
    if answer.stream is None:
        await writer.drain()
        return True
    while (chunk := await answer.stream.get()) is not None:
        writer.write(chunk)
        await writer.drain()
    return False


def event(push: Json) -> bytes:
    """A push as a server-sent event."""
    return f"event: {push['op']}\ndata: {json.dumps(push)}\n\n".encode()


def json_answer(body: object, status: int = 200) -> HttpAnswer:
    return HttpAnswer(status, json.dumps(body).encode(), {"Content-Type": "application/json"})


def proved(stream: "asyncio.Queue[bytes | None]") -> HttpAnswer:
    """A hub's answer to a probe over SSE: at once, and at its place in the stream."""
    stream.put_nowait(event(PROVED))
    return json_answer(PROVED)


def problem(status: int, code: str, *, retryable: bool = False) -> HttpAnswer:
    fields = {"status": status, "code": code, "detail": f"{code} it is", "retryable": retryable}
    headers = {"Content-Type": "application/problem+json", "Retry-After": "0"}
    return HttpAnswer(status, json.dumps(fields).encode(), headers)


def answers_all(request: HttpRequest) -> HttpAnswer:
    """Answers as a hub that takes every publication: the offset is the number in the data."""
    fields = {"channel": "a", "epoch": "e1"}
    return json_answer([fields | {"offset": item["data"]} for item in request.json])


QUICK = ReconnectTiming(base_seconds=0.01, cap_seconds=0.05, open_timeout_seconds=5)
ONLY_WEBSOCKET = ("websocket",)
ItemT = TypeVar("ItemT", Message, Message | Gap)


def websocket_client(url: str, **more: object) -> HubClient:
    """A client that comes back quickly; `more` are fields of its options."""
    options = ClientOptions(timing=QUICK, **more)  # type: ignore[arg-type]  # fields by name
    return HubClient(url, transports=ONLY_WEBSOCKET, options=options)


async def take(items: "Subscription[ItemT]", count: int) -> "list[ItemT]":
    """The next so many of a subscription, within the deadline."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        return [await anext(items) for _ in range(count)]
