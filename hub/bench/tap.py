"""One bare socket, read in big chunks into a buffer that all taps of a process share."""

import socket

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
    """A socket, what was counted on it, and the few bytes that may be half a needle."""

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
        """Count what `fill` brought, keep what is unfinished, answer a ping."""
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
