"""One bare socket, read in big chunks into a buffer that all taps of a process share."""

import socket
import zlib
from functools import lru_cache

from hub.bench.greetings import pong_frame
from hub.bench.stream_check import StreamCheck

CHUNK_BYTES = 256 * 1024


class Basin:
    """The shared buffer: a tap's bytes are in it only while that tap is being read."""

    __slots__ = ("buffer", "view")

    def __init__(self) -> None:
        self.buffer = bytearray(CHUNK_BYTES)
        self.view = memoryview(self.buffer)


class Tap:
    """A socket, its counts, and the few bytes that may be half a needle."""

    __slots__ = ("check", "rest", "sock")

    def __init__(self, sock: socket.socket, check: StreamCheck | None = None) -> None:
        self.sock = sock
        self.check = check or StreamCheck()
        self.rest = b""

    def fill(self, basin: Basin) -> int:
        """Read once; return how many bytes of the basin count now, the kept ones included.

        Raises:
            BlockingIOError: Nothing is there.
            EOFError: The peer has closed.
            OSError: The connection is lost.
        """
        kept = len(self.rest)
        if kept:
            basin.buffer[:kept] = self.rest
            got = self.sock.recv_into(basin.view[kept:])
        else:
            got = self.sock.recv_into(basin.view)
        if not got:
            raise EOFError("closed by the server")
        return kept + got

    def account(self, basin: Basin, end: int) -> None:
        """Count the messages in the bytes of `fill`, keep an unfinished one, and answer a ping."""
        cut = self.check.take(basin.buffer, end)
        self.rest = bytes(basin.view[cut:end]) if cut < end else b""
        if self.check.ping is not None:
            self._pong(self.check.ping)
            self.check.ping = None

    def _pong(self, payload: bytes) -> None:
        # A socket that has no room for 20 bytes has a server that does not read: the pong is
        # lost, the server closes for want of it, and the report says so.
        try:
            self.sock.send(pong_frame(payload))
        except BlockingIOError:
            return


class InflatingTap(Tap):
    """A WebSocket with permessage-deflate: its frames are read, and their text is counted."""

    __slots__ = ("_greeted",)

    def __init__(self, sock: socket.socket, check: StreamCheck | None = None) -> None:
        super().__init__(sock, check)
        self._greeted = False

    def account(self, basin: Basin, end: int) -> None:
        data, at = bytes(basin.view[:end]), 0
        if not self._greeted:
            # The answer to the upgrade; the caller has seen its end.
            self._greeted = True
            at = data.index(_HEAD_END) + len(_HEAD_END)
        texts: list[bytes] = []
        while (frame := _frame_at(data, at)) is not None:
            opcode, payload, at = frame
            if opcode == _PING:
                self._pong(payload)
            elif opcode & _COMPRESSED:
                texts.append(_inflated(payload))
            else:
                texts.append(payload)
        self.rest = data[at:]
        text = bytearray(b"\n".join([*texts, b""]))
        self.check.take(text, len(text))


_HEAD_END = b"\r\n\r\n"
# RFC 6455 section 5.2 and RFC 7692 section 7.2.3.1: the first byte of a final frame.
_PING = 0x89
_COMPRESSED = 0x40


def _frame_at(data: bytes, at: int) -> tuple[int, bytes, int] | None:
    """Return first byte, payload and end of a server's frame of up to 64 KiB; None where it is
    cut."""
    if len(data) < at + 4:
        return None
    size, start = data[at + 1], at + 2
    if size == 126:
        size, start = int.from_bytes(data[start : start + 2]), start + 2
    if len(data) < start + size:
        return None
    return data[at], data[start : start + size], start + size


@lru_cache(maxsize=64)
def _inflated(payload: bytes) -> bytes:
    """Return the text of a message without context: it is the same for every connection, so most
    are known."""
    return zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")
