"""A TCP peer whose every read is the test's decision: none at all, a few bytes, or all.

    peer = await RawPeer.connect(hub.port, receive_buffer_bytes=4096)
    await peer.send(get("/sse?channel=news"))

Libraries read ahead, answer pings and close politely; the peers that hurt a hub do not. This
one knows sockets and the shape of frames, nothing of the hub.
"""

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import termios
from dataclasses import dataclass
from typing import Self

_READ_BYTES = 64 * 1024
# Any 16 bytes in base64: a test does not need to tell handshakes apart (RFC 6455 4.1).
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
END_OF_HEAD = b"\r\n\r\n"

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
_SERVER_OPCODES = frozenset({TEXT, CLOSE, PING, PONG})


def get(target: str, *, upgrade: bool = False) -> bytes:
    """The bytes of a GET request, or of a WebSocket handshake without extensions."""
    lines = [f"GET {target} HTTP/1.1", "Host: 127.0.0.1"]
    if upgrade:
        lines += ["Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Key: {_KEY}", "Sec-WebSocket-Version: 13"]
    return "\r\n".join([*lines, "", ""]).encode()


def client_frame(opcode: int, payload: bytes = b"") -> bytes:
    """One final frame, masked as a client must (RFC 6455 section 5.3); up to 65,535 bytes."""
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
    else:
        head = struct.pack("!BBH", 0x80 | opcode, 0xFE, length)
    return head + mask + masked


@dataclass(frozen=True, slots=True)
class Frame:
    opcode: int
    payload: bytes


class FrameParser:
    """Bytes of a server to whole frames; anything but plain final frames is an error."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def between_frames(self) -> bool:
        """Whether nothing is left over: the stream stands where a frame ends."""
        return not self._rest

    def feed(self, data: bytes) -> list[Frame]:
        self._rest += data
        frames: list[Frame] = []
        at = 0
        while (found := self._frame(at)) is not None:
            frame, at = found
            frames.append(frame)
        self._rest = self._rest[at:]
        return frames

    def _frame(self, at: int) -> tuple[Frame, int] | None:
        data = self._rest
        if len(data) < at + 2:
            return None
        first, length, start = data[at], data[at + 1], at + 2
        opcode = first & 0x0F
        assert first & 0xF0 == 0x80, f"first byte of a frame is {first:#x}"
        assert opcode in _SERVER_OPCODES, f"first byte of a frame is {first:#x}"
        assert length < 0x80, "a server's frame is masked"
        if length >= 126:
            size = 2 if length == 126 else 8
            if len(data) < start + size:
                return None
            length = int.from_bytes(data[start : start + size])
            start += size
        if len(data) < start + length:
            return None
        return Frame(opcode, data[start : start + length]), start + length


class RawPeer:
    """One connection to 127.0.0.1; close or reset it at the end of the test."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self.received_bytes = 0
        self.was_reset = False
        """Whether the other side ended with a reset instead of an end of stream."""

    @classmethod
    async def connect(cls, port: int, *, receive_buffer_bytes: int | None = None) -> Self:
        """Connect; a receive buffer set before connecting bounds the window (tcp(7))."""
        connection = socket.socket()
        if receive_buffer_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        connection.setblocking(False)
        peer = cls(connection)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        return peer

    @property
    def open(self) -> bool:
        return self._socket.fileno() >= 0

    @property
    def unread_bytes(self) -> int:
        """What the kernel holds for us to read (FIONREAD)."""
        answer = fcntl.ioctl(self._socket, termios.FIONREAD, struct.pack("i", 0))
        return int(struct.unpack("i", answer)[0])

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    def send_some(self, data: bytes) -> int:
        """Send what the kernel takes at once; 0 when it is full or the peer is gone."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self.was_reset = True
            return 0

    async def receive(self, max_bytes: int = _READ_BYTES) -> bytes:
        """Some bytes; b"" at the end of the stream, however it came."""
        try:
            data = await asyncio.get_running_loop().sock_recv(self._socket, max_bytes)
        except OSError:
            self.was_reset = True
            return b""
        self.received_bytes += len(data)
        return data

    async def receive_head(self, *, seconds: float = 10.0) -> tuple[bytes, bytes]:
        """A response's head, and what of its body came along."""
        data = b""
        async with asyncio.timeout(seconds):
            while END_OF_HEAD not in data:
                part = await self.receive(1024)
                assert part, f"the connection ended after {data!r}"
                data += part
        head, _, rest = data.partition(END_OF_HEAD)
        return head, rest

    def end_sending(self) -> None:
        """Say that nothing more comes, and keep the connection open (shutdown(2))."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """End with a reset at once, whatever is unread or unsent (SO_LINGER with 0 seconds)."""
        if self.open:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.close()
