"""A TCP peer whose every read is the test's decision: none at all, a few bytes, or all.

    peer = await RawPeer.connect(hub.port, receive_buffer_bytes=4096)
    await peer.send(get("/sse?channel=news"))

Libraries read ahead, answer pings and close politely; the peers that hurt a hub do not. This
one knows sockets, nothing of the hub.
"""

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from typing import Self

from tests.support.frames import UPGRADE

_READ_BYTES = 64 * 1024
END_OF_HEAD = b"\r\n\r\n"


def get(target: str, *, upgrade: bool = False) -> bytes:
    """The bytes of a GET request, or of a WebSocket handshake without extensions."""
    fields = UPGRADE if upgrade else ""
    return f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n".encode()


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
