"""The connection of a peer that takes a stream of frames: the part that WebSocket and SSE share.

Frames go to the kernel with one `os.write`, which costs a seventh less than the transport's
write (hub/docs/inside.md, "Choices and what they cost"). That is right only while the transport
itself owes nothing and there is no TLS, so the transport's high-water mark is 0: it is either empty
or paused. A batch for many members goes to their descriptors without a look at any connection
(`write_each`).
"""

import asyncio
import os
import socket
import struct
import sys
from array import array
from functools import lru_cache
from typing import cast

from hub.core.ports import MAX_AGENT_CHARACTERS, NO_DESCRIPTOR
from hub.core.session.session import Session
from hub.transports.turns import Lane

_Field = tuple[int, struct.Struct]
# struct tcp_info, linux/tcp.h: tcpi_bytes_acked is a u64 at byte 120, tcpi_notsent_bytes a u32
# at byte 144.
_TCP_INFO_BYTES = 148
_ACKED: _Field = (120, struct.Struct("=Q"))
_UNSENT: _Field = (144, struct.Struct("=I"))
# Bytes that are gathered for one write: the greeting and the first page of a history of small
# messages, or the replies to the commands of one read. Guess, not measured.
_MAX_CORKED_BYTES = 64 * 1024


# A proxy's address and a browser's name are those of many connections: one text for all.
_one_of = lru_cache(maxsize=1024)(str)


def write_each(descriptors: "array[int]", start: int, data: bytes) -> tuple[int, int] | None:
    """Write the same bytes to many sockets; implements `hub.core.ports.WriteEach`.

    Only for sockets whose transports hold nothing back and that have no TLS
    (`hub.core.session.link.Link.descriptor`).
    """
    write, size = os.write, len(data)
    # Behind an error the same iterator goes on: entering `try` for each write costs more.
    pending = iter(descriptors[start:] if start else descriptors)
    descriptor = -1
    while True:
        try:
            for descriptor in pending:
                if (taken := write(descriptor, data)) != size:
                    return descriptor, taken
        except BlockingIOError:
            return descriptor, 0
        except OSError:
            # The peer is gone, and its transport finds that out by itself; or it left meanwhile.
            continue
        return None


class StreamConnection(asyncio.Protocol):
    """Implements `hub.core.session.link.Link` on an asyncio transport that was just taken over.

    The caller that gives the transport has set its high-water mark to 0.
    """

    __slots__ = (
        "_corked", "_fd", "_lost", "_open_fd", "_paused", "_transport", "address", "session",
        "user_agent",
    )  # fmt: skip

    transport = "stream"
    answers_pings = False
    session: Session | None

    def __init__(self, transport: asyncio.Transport, *, address: str, user_agent: str) -> None:
        self._transport = transport
        self.address = _one_of(address)
        self.user_agent = _one_of(user_agent[:MAX_AGENT_CHARACTERS])
        self._lost = False
        self._corked: bytearray | None = None
        """Bytes that are to leave in one write; None while writes leave at once."""
        self.session = None
        end = None if transport.get_extra_info("sslcontext") else _socket(transport)
        self._fd = NO_DESCRIPTOR if end is None else end.fileno()
        """The socket's descriptor; `NO_DESCRIPTOR` where only the transport may write to it."""
        transport.set_protocol(self)
        # A response of an earlier request on this connection may still be on its way.
        self._paused = transport.get_write_buffer_size() > 0
        self._open_fd = NO_DESCRIPTOR if self._paused else self._fd
        """`_fd` while the transport owes nothing, so that a write asks for one thing only."""

    # -- Link ------------------------------------------------------------------------------

    def send(self, data: bytes) -> int:
        if (fd := self._open_fd) == NO_DESCRIPTOR:
            return self._send_apart(data)
        try:
            return os.write(fd, data)
        except BlockingIOError:
            return 0
        except OSError:
            # The peer is gone; the transport finds out by itself and reports it.
            return len(data)

    def _send_apart(self, data: bytes) -> int:
        """Write where the kernel must not be written to: at the end, paused, corked, behind TLS."""
        corked = self._corked
        if corked is not None and not self._paused and len(corked) + len(data) <= _MAX_CORKED_BYTES:
            # A transport that closes meanwhile fails the write.
            corked += data
            return len(data)
        if self._lost or self._transport.is_closing():
            return len(data)
        if self._paused:
            return 0
        if corked is not None:
            # More than one write is worth: in order, and stopping where the kernel is full.
            if not self.uncork():
                return 0
            return self.send(data)
        self._transport.write(data)
        return len(data)

    def cork(self, head: bytes = b"") -> None:
        self._corked = bytearray(head)
        self._open_fd = NO_DESCRIPTOR

    def uncork(self) -> bool:
        gathered, self._corked = self._corked, None
        if gathered is None:
            return True
        if not self._paused:
            self._open_fd = self._fd
        if not gathered:
            return True
        data = bytes(gathered)
        if complete := (taken := self.send(data)) == len(data):
            return complete
        self.finish(data[taken:])
        return False

    def finish(self, rest: bytes) -> None:
        if self._lost or self._transport.is_closing():
            return
        if (gathered := self._corked) is not None:
            # Where the transport was paused from the first, the gathered bytes wait before it.
            self._corked = None
            rest = bytes(gathered) + rest
        self._transport.write(rest)
        if not self._paused:
            asyncio.get_running_loop().call_soon(self._on_writable)

    def ping(self, payload: bytes) -> bytes:  # noqa: ARG002 - the port's shape
        return b""

    def acknowledged_bytes(self) -> int:
        return self._tcp_info(_ACKED)

    def unsent_bytes(self) -> int:
        return self._tcp_info(_UNSENT)

    def _tcp_info(self, field: "_Field") -> int:
        """Return one number of the kernel's about this connection; 0 where it has none."""
        if sys.platform != "linux" or self._lost:
            return 0
        # Behind TLS the library lets go of the socket a turn before it calls `connection_lost`.
        if (end := _socket(self._transport)) is None:
            return 0
        try:
            info = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        except OSError:
            return 0
        at, number = field
        return int(number.unpack_from(info, at)[0]) if len(info) >= at + number.size else 0

    @property
    def unread(self) -> bool:
        """Return False: bytes of an SSE peer are ignored."""
        return False

    def pause_reading(self) -> None:
        if not self._lost:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._lost and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self, code: int, reason: str) -> None:  # noqa: ARG002 - the port's shape
        """End the stream behind everything handed over."""
        self.uncork()
        self._forget_fd()
        self._transport.close()

    @property
    def descriptor(self) -> int | None:
        return None if self._fd == NO_DESCRIPTOR else self._open_fd

    def half_close(self) -> None:
        """End this side's stream, behind everything handed over; the peer may still send."""
        self.uncork()
        self._forget_fd()
        if not self._lost and not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()

    def _forget_fd(self) -> None:
        """Write no more to the kernel.

        A descriptor's number may be another connection's as soon as the transport has closed it.
        """
        if self._fd != NO_DESCRIPTOR:
            self._fd = self._open_fd = NO_DESCRIPTOR
            if self.session is not None:
                self.session.stand_apart()

    def abort(self) -> None:
        self._forget_fd()
        if not self._lost:
            self._transport.abort()

    # -- asyncio.Protocol ------------------------------------------------------------------

    def pause_writing(self) -> None:
        self._paused = True
        self._open_fd = NO_DESCRIPTOR
        if self.session is not None:
            self.session.stand_apart()

    def resume_writing(self) -> None:
        self._paused = False
        if self._corked is None:
            self._open_fd = self._fd
        self._on_writable()

    @property
    def _crowd(self) -> Lane:
        """The lane in which its end has a turn: many may end at once."""
        raise NotImplementedError

    def eof_received(self) -> bool | None:
        """End the stream: the peer sends no more."""
        # Behind TLS the transport closes by itself, whatever is returned.
        stays = self._fd != NO_DESCRIPTOR
        self._crowd.do(self._leave, self.address)
        return stays

    def _leave(self) -> None:
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._forget_fd()
        self._lost = True
        if self.session is not None:
            self._crowd.do(self._tell_lost, self.address)

    def _tell_lost(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            # Session and connection no longer refer to each other: nothing is left to a collector.
            session.lost(1006, "connection lost")

    def _on_writable(self) -> None:
        if self.session is not None and not self._lost and not self._paused:
            self.session.on_writable()


def _socket(transport: asyncio.Transport) -> socket.socket | None:
    return cast("socket.socket | None", transport.get_extra_info("socket"))
