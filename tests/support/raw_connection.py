"""A TCP connection whose every byte is the test's decision.

    async with raw_connection(hub.url) as peer:
        peer.request("GET", "/healthz")
        answer = await peer.answer()

Libraries read ahead, answer pings and close politely; the peers that hurt a hub do not. This
one reads nothing until a method is awaited, and then no more than that method needs.
"""

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

import orjson

from tests.support.frames import CLOSE, FIN, PING, PONG, UPGRADE, masked

TIMEOUT_SECONDS = 20.0
END_OF_HEAD = b"\r\n\r\n"
_READ_BYTES = 64 * 1024
_HEAD_STEP_BYTES = 1024


def get(target: str, *, upgrade: bool = False) -> bytes:
    """Returns the bytes of a GET request, or of a WebSocket handshake without extensions."""
    fields = UPGRADE if upgrade else ""
    return f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n".encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response's head, and its body where that has a length."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> object:
        """Returns the code of the problem document."""
        assert self.headers["content-type"] == "application/problem+json", self
        return orjson.loads(self.body)["code"]


class RawConnection:
    """One connection; close or reset it at the end of the test.

    What is sent waits here while the kernel's buffer is full. A failed send is noted and not
    raised: what the hub said before it hung up can still be read.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self._unsent = bytearray()
        self._sending: asyncio.Future[None] | None = None
        """Done when nothing is unsent, or nothing more can be sent."""
        self._ends_sending = False
        self._ahead = b""
        """Read behind the end of what was looked for."""
        self.received_bytes = 0
        self.was_reset = False
        """Whether the other side ended with a reset instead of an end of stream."""

    @classmethod
    async def connect(
        cls,
        port: int,
        *,
        host: str = "127.0.0.1",
        from_host: str | None = None,
        receive_buffer_bytes: int | None = None,
    ) -> Self:
        """Connect; a receive buffer set before connecting bounds the window (tcp(7))."""
        connection = socket.socket()
        if receive_buffer_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        if from_host is not None:
            connection.bind((from_host, 0))
        peer = cls(connection)
        try:
            await peer._loop.sock_connect(connection, (host, port))
        except BaseException:
            connection.close()
            raise
        return peer

    @property
    def open(self) -> bool:
        """Whether this side has not closed it."""
        return self._socket.fileno() >= 0

    @property
    def unread_bytes(self) -> int:
        """Returns the number of bytes that have come and were not taken (FIONREAD)."""
        answer = fcntl.ioctl(self._socket, termios.FIONREAD, struct.pack("i", 0))
        return len(self._ahead) + int(struct.unpack("i", answer)[0])

    # -- sending ---------------------------------------------------------------------------

    def send(self, data: bytes | str) -> None:
        """Send at once what the kernel takes, and the rest as soon as it takes that."""
        if not self.open:
            return
        self._unsent += data.encode() if isinstance(data, str) else data
        if self._sending is None:
            self._send_on()

    def _send_on(self) -> None:
        while self._unsent:
            taken = self.send_some(self._unsent[:_READ_BYTES])
            del self._unsent[:taken]
            if self.was_reset:
                self._unsent.clear()
            elif not taken:
                if self._sending is None:
                    self._sending = self._loop.create_future()
                    self._loop.add_writer(self._socket, self._send_on)
                return
        self._stop_sending()
        if self._ends_sending:
            self.end_sending()

    def _stop_sending(self) -> None:
        if self._sending is not None:
            self._loop.remove_writer(self._socket)
            self._sending.set_result(None)
            self._sending = None

    def send_some(self, data: bytes | bytearray) -> int:
        """Send what the kernel takes at once; 0 when it is full or the peer is gone."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self.was_reset = True
            return 0

    async def sent(self) -> None:
        """Wait until the kernel has taken everything.

        Raises:
            ConnectionError: the hub has hung up.
        """
        async with asyncio.timeout(TIMEOUT_SECONDS):
            if self._sending is not None:
                await asyncio.shield(self._sending)
        if self.was_reset:
            raise ConnectionResetError("the hub has hung up")

    async def send_slowly(self, data: bytes | str) -> None:
        """Send byte by byte, with a turn of the event loop after each."""
        for byte in data.encode() if isinstance(data, str) else data:
            self.send(bytes((byte,)))
            await self.sent()
            await asyncio.sleep(0)

    def request(self, method: str, target: str, headers: str = "", body: bytes = b"") -> None:
        """Send a request; `headers` are whole lines."""
        self.send(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode() + body)

    def end_sending(self) -> None:
        """Say behind what is unsent that nothing more comes, and read on (shutdown(2))."""
        self._ends_sending = True
        if not self._unsent:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    # -- reading ---------------------------------------------------------------------------

    async def receive(self, max_bytes: int = _READ_BYTES) -> bytes:
        """Returns some bytes, without a deadline; b"" at the end of the stream, however it came."""
        if self._ahead:
            data, self._ahead = self._ahead[:max_bytes], self._ahead[max_bytes:]
            return data
        try:
            data = await self._loop.sock_recv(self._socket, max_bytes)
        except OSError:
            self.was_reset = True
            return b""
        self.received_bytes += len(data)
        return data

    async def until(self, end: bytes) -> bytes:
        """Returns all bytes up to and including the next `end`."""
        data = bytearray()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while (found := data.find(end)) < 0:
                data += await self._some_of(data, _HEAD_STEP_BYTES)
        at = found + len(end)
        self._ahead = bytes(data[at:]) + self._ahead
        return bytes(data[:at])

    async def exactly(self, count: int) -> bytes:
        data = bytearray()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while len(data) < count:
                data += await self._some_of(data, min(count - len(data), _READ_BYTES))
        return bytes(data)

    async def _some_of(self, before: bytearray, max_bytes: int) -> bytes:
        part = await self.receive(max_bytes)
        assert part, f"the connection ended after {bytes(before[-1000:])!r}"
        return part

    async def rest(self) -> bytes:
        """Returns all bytes until the hub ends the connection; a reset counts as an end."""
        parts = []
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while part := await self.receive():
                parts.append(part)
        return b"".join(parts)

    # -- what the hub says -------------------------------------------------------------------

    async def answer(self) -> Answer:
        head = (await self.until(END_OF_HEAD)).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        return Answer(int(first.split(" ", 2)[1]), headers, await self.exactly(length))

    async def upgrade(self, target: str, headers: str = "") -> Answer:
        self.request("GET", target, UPGRADE + headers)
        return await self.answer()

    async def frame(self) -> tuple[int, bytes]:
        """Returns the hub's next frame: its first byte without FIN, and its payload."""
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

    # -- its end -----------------------------------------------------------------------------

    def close(self) -> None:
        """Ends the connection; bytes that are unsent here stay unsent."""
        if self.open:
            self._unsent.clear()
            self._stop_sending()
            self._socket.close()

    def reset(self) -> None:
        """End with a reset at once, whatever is unread or unsent (SO_LINGER with 0 seconds)."""
        if self.open:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()


@asynccontextmanager
async def raw_connection(url: str) -> AsyncIterator[RawConnection]:
    """Connect to the host and port of `url`."""
    place = urlsplit(url)
    assert place.hostname is not None, url
    assert place.port is not None, url
    async with asyncio.timeout(TIMEOUT_SECONDS):
        peer = await RawConnection.connect(place.port, host=place.hostname)
    try:
        yield peer
    finally:
        peer.close()
