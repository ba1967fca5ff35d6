"""The bytes of a TLS connection on their way to OpenSSL: few records at a time, and in turns.

A record costs OpenSSL some 20 us, also where nothing is in it for the hub: one that changes the key
(RFC 8446 section 4.6.3) has 27 bytes, and its peer may send them without end. An event loop reads
256 KiB at once and hands over all of it, which held the loop for 0.2 s. So the hub stands before
the library's protocol. A read goes to it in slices of few records; behind a slice that took its
time the rest waits for a turn (`hub.transports.turns`). A handshake takes a millisecond, and each
step of it has a turn among the connections that begin.

OpenSSL's buffers grow to the largest piece that they were handed, and stay so. With whole reads a
connection kept 390 KB from its first burst to its end; with slices it keeps a tenth of that.

The library's protocol pauses and resumes the same transport. Only public parts of asyncio are used,
which uvloop has too.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Protocol, cast

from hub.errors import BadRequestError
from hub.transports.http.answer import encode, problem
from hub.transports.turns import PIECE_SECONDS, Lane, Turns

# Bytes of one read. Guess, not measured.
READ_BYTES = 32 * 1024
# A slice of records of the largest size (RFC 8446 section 5.2) is one record and a bit.
SLICE_BYTES = 16 * 1024
# 16 changes of the key take 0.3 ms.
SLICE_RECORDS = 16
_HEAD_BYTES = 5
# A method of HTTP; no record begins so.
_METHODS = range(ord("A"), ord("Z") + 1)


class _ReadLimits(Protocol):
    """The part of a transport over TLS that bounds the bytes which its protocol does not take."""

    def set_read_buffer_limits(self, *, high: int, low: int) -> None: ...


class TlsAcceptor:
    """Begins connections with TLS; one per listener.

    Args:
        turns: has the turns of bytes that wait.
        close_timeout_seconds: a peer has so long for its own close_notify (RFC 8446 section 6.1);
            then its socket is closed. The libraries' default is 30 s.
    """

    def __init__(
        self, context: ssl.SSLContext, turns: Turns, *, close_timeout_seconds: float
    ) -> None:
        self._context = context
        self._close_timeout_seconds = close_timeout_seconds
        self._turns = turns
        # Shared: bytes stay in it no longer than the call that brings them.
        self._buffer = memoryview(bytearray(READ_BYTES))

    async def begin(
        self,
        accepted: socket.socket,
        make: Callable[[], asyncio.Protocol],
        *,
        place: str,
        timeout_seconds: float,
    ) -> None:
        """Make a connection's protocol once the handshake has ended.

        Args:
            place: the name under which its bytes wait for turns.

        Raises what `loop.start_tls` raises: `ssl.SSLError` where the handshake fails,
        `ConnectionAbortedError` or `TimeoutError` where it takes too long.
        """
        loop, shaking = asyncio.get_running_loop(), _Shaking()
        reading = TlsReading(self._turns, self._buffer, place)
        transport, _ = await loop.connect_accepted_socket(lambda: reading, accepted)
        if transport.is_closing():
            reading.check_peer()
            return
        # Runs when `start_tls` has given the transport the library's protocol, and before that
        # has its first byte.
        loop.call_soon(reading.stand_before)
        try:
            over_tls = await loop.start_tls(
                transport,
                shaking,
                self._context,
                server_side=True,
                ssl_handshake_timeout=timeout_seconds,
                ssl_shutdown_timeout=self._close_timeout_seconds,
            )
        except BaseException:
            transport.abort()
            reading.check_peer()
            raise
        if over_tls is None or over_tls.is_closing():
            reading.check_peer()
            return
        # While the protocol takes no more, the library holds so much and no more.
        cast("_ReadLimits", over_tls).set_read_buffer_limits(high=SLICE_BYTES, low=0)
        protocol = make()
        over_tls.set_protocol(protocol)
        protocol.connection_made(over_tls)
        reading.opened()


class _Shaking(asyncio.Protocol):
    """Stands for the connection's protocol until the handshake has ended, and ignores all.

    The library tells it that the connection is lost where the handshake has failed, and before
    `connection_made`.
    """


class Records:
    """The borders of the records in a stream of bytes (RFC 8446 section 5.1)."""

    __slots__ = ("_head", "_left")

    def __init__(self) -> None:
        self._head = b""
        """The part of the next record's head that has come."""
        self._left = 0
        """Bytes of the present record that are still to come."""

    def cut(self, data: memoryview, begin: int, most_records: int = SLICE_RECORDS) -> int:
        """Return the end of the slice that begins at `begin`."""
        at, most, whole, left = begin, min(len(data), begin + SLICE_BYTES), 0, self._left
        while at < most and whole < most_records:
            if not left:
                if self._head or most - at < _HEAD_BYTES:
                    part = bytes(data[at : min(most, at + _HEAD_BYTES - len(self._head))])
                    at += len(part)
                    self._head += part
                    if len(self._head) < _HEAD_BYTES:
                        break
                    left = int.from_bytes(self._head[3:])
                    self._head = b""
                else:
                    left = data[at + 3] << 8 | data[at + 4]
                    at += _HEAD_BYTES
            if left > most - at:
                left -= most - at
                at = most
            else:
                at += left
                left = 0
                whole += 1
        self._left = left
        return at


class TlsReading(asyncio.BufferedProtocol):
    """Hands the bytes of one connection over to the library's protocol.

    Args:
        buffer: takes the bytes of a read; shared with other connections.
        place: see `TlsAcceptor.begin`.
    """

    __slots__ = (
        "_began", "_buffer", "_ended", "_held", "_inner", "_lane", "_lost", "_paused", "_place",
        "_queued", "_records", "_spoke_http", "_transport", "_turns",
    )  # fmt: skip

    def __init__(self, turns: Turns, buffer: memoryview, place: str) -> None:
        self._turns = turns
        self._lane: Lane = turns.crowd
        """The queue for turns; that of connections that begin until the handshake has ended."""
        self._buffer = buffer
        self._place = place
        self._transport = cast("asyncio.Transport", None)
        self._began = self._spoke_http = False
        """Whether the peer's first byte was looked at, and whether HTTP begins so."""
        self._inner: asyncio.BufferedProtocol | None = None
        """The library's protocol; None before `stand_before`."""
        self._records = Records()
        self._held = bytearray()
        """Bytes that wait for a turn: those of a read, or of two."""
        self._queued = False
        self._paused = False
        """Whether the transport was paused here; the library pauses it for reasons of its own."""
        self._ended = False
        """Whether the peer ended its side behind the held bytes."""
        self._lost = False

    def stand_before(self) -> None:
        """Take the place of the library's protocol, which was just given the transport."""
        self._inner = cast("asyncio.BufferedProtocol", self._transport.get_protocol())
        self._transport.set_protocol(self)
        if self._lost:
            self._inner.connection_lost(None)
        elif self._held:
            self._wait()

    def check_peer(self) -> None:
        """Raise `ssl.SSLError`, with OpenSSL's reason, where the peer spoke HTTP without TLS."""
        if self._spoke_http:
            error = ssl.SSLError("the peer speaks HTTP without TLS")
            error.reason = "HTTP_REQUEST"
            raise error

    def opened(self) -> None:
        """Note that the handshake has ended, and that the connection's protocol knows it."""
        self._lane = self._turns

    # -- asyncio.BufferedProtocol ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - as large as there is one
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        data, turns = self._buffer[:nbytes], self._turns
        if not self._began:
            self._began = True
            if data[0] in _METHODS:
                self._answer_http()
                return
        if self._lane is turns and not self._held and turns.may_begin(began := turns.clock()):
            self._hand_over(data, began)
            if (took := turns.clock() - began) >= PIECE_SECONDS:
                # Of less the receiver of the bytes tells.
                turns.spent(took)
        else:
            self._held += data
            self._wait()

    def eof_received(self) -> bool | None:
        if self._held:
            self._ended = True
            return True
        return None if self._inner is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._held.clear()
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def _answer_http(self) -> None:
        """Tell a peer that speaks HTTP without TLS what to do. Its handshake has failed."""
        self._spoke_http = True
        error = BadRequestError("this port speaks TLS: use https:// or wss://")
        self._transport.write(encode(problem(error), close=True))
        self._transport.close()

    # -- slices and turns ------------------------------------------------------------------------

    def _hand_over(self, data: memoryview, began: float) -> None:
        """Hand over slices for the time of a piece; hold the rest, and wait for a turn.

        In a handshake that is one record. Its last record must not bring others with it: asyncio
        would hand them to a protocol that does not know of its connection yet.
        """
        inner, at, opened = self._inner, 0, self._lane is self._turns
        assert inner is not None  # noqa: S101 - both callers have looked
        while at < len(data) and not self._lost:
            end = self._records.cut(data, at, SLICE_RECORDS if opened else 1)
            room = memoryview(inner.get_buffer(end - at))
            room[: end - at] = data[at:end]
            inner.buffer_updated(end - at)
            at = end
            if at < len(data) and not (opened and self._turns.clock() - began < PIECE_SECONDS):
                self._held += data[at:]
                self._wait()
                return

    def _wait(self) -> None:
        if self._transport.is_reading():
            self._transport.pause_reading()
            self._paused = True
        if self._queued or self._inner is None:
            return
        self._queued = True
        if self._lane is self._turns:
            self._queue()
        else:
            # The record before may have ended the handshake: the callback that tells the protocol
            # of its connection is under way, and the next turn must not overtake it.
            asyncio.get_running_loop().call_soon(self._queue)

    def _queue(self) -> None:
        self._lane.wait(self._take_turn, self._place)

    def _take_turn(self) -> None:
        self._queued = False
        if self._lost or self._inner is None:
            return
        if self._paused:
            # Before the library has the bytes: where it pauses for them, that stays.
            self._paused = False
            self._transport.resume_reading()
        data, self._held = memoryview(self._held), bytearray()
        self._hand_over(data, self._turns.clock())
        if self._ended and not self._held and not self._inner.eof_received():
            self._transport.close()
