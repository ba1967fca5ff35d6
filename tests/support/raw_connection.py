"""Bytes on a socket: for what no client library would send, or would hide."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson

from tests.support.frames import CLOSE, FIN, PING, PONG, UPGRADE, masked

TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response's head, and its body where that has a length."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> object:
        """Of the problem document."""
        assert self.headers["content-type"] == "application/problem+json", self
        return orjson.loads(self.body)["code"]


class RawConnection:
    """One TCP connection; every wait has a deadline."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def send(self, data: bytes | str) -> None:
        self.writer.write(data.encode() if isinstance(data, str) else data)

    async def send_slowly(self, data: bytes | str) -> None:
        """Send byte by byte, with a turn of the event loop after each."""
        for byte in data.encode() if isinstance(data, str) else data:
            self.send(bytes((byte,)))
            await self.writer.drain()
            await asyncio.sleep(0)

    def request(self, method: str, target: str, headers: str = "", body: bytes = b"") -> None:
        """Send a request; `headers` are whole lines."""
        self.send(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode() + body)

    async def until(self, end: bytes) -> bytes:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await self._reader.readuntil(end)

    async def exactly(self, count: int) -> bytes:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await self._reader.readexactly(count)

    async def rest(self) -> bytes:
        """All until the hub ends the connection; a reset counts as an end."""
        parts = []
        async with asyncio.timeout(TIMEOUT_SECONDS):
            try:
                while part := await self._reader.read(1 << 16):
                    parts.append(part)
            except ConnectionError:
                pass
        return b"".join(parts)

    async def answer(self) -> Answer:
        head = (await self.until(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        return Answer(int(first.split(" ", 2)[1]), headers, await self.exactly(length))

    async def upgrade(self, target: str, headers: str = "") -> Answer:
        self.request("GET", target, UPGRADE + headers)
        return await self.answer()

    async def frame(self) -> tuple[int, bytes]:
        """The hub's next frame: its first byte without FIN, and its payload."""
        first, second = await self.exactly(2)
        assert not second & 0x80, "a server's frame is not masked"
        length = second
        if length == 126:
            length = int.from_bytes(await self.exactly(2))
        elif length == 127:
            length = int.from_bytes(await self.exactly(8))
        return first & ~FIN, await self.exactly(length)

    async def push(self, op: str) -> dict[str, object]:
        """The next push named `op`; others are passed over."""
        while True:
            opcode, payload = await self.frame()
            if opcode == PING:
                self.send(masked(payload, PONG))
            elif opcode == PONG:
                continue
            elif opcode == CLOSE:
                raise AssertionError(f"closed while waiting for {op}: {payload!r}")
            else:
                push: dict[str, object] = orjson.loads(payload)
                if push["op"] == op:
                    return push

    async def close_code(self) -> int:
        """The code of the hub's close frame, after whatever comes before it."""
        while True:
            opcode, payload = await self.frame()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2])


@asynccontextmanager
async def raw_connection(url: str) -> AsyncIterator[RawConnection]:
    """Connect to the host and port of `url`."""
    place = urlsplit(url)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.transport.abort()
