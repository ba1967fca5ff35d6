"""A WebSocket session's connection: frames out as the session gives them, commands in.

Incoming bytes are worked off in pieces that are bounded in time, frames and bytes. The rest waits
for the next turn of the loop (`hub.transports.turns`), in order, while the peer is not read from.
The replies of a piece leave in one write.
"""

import asyncio

from hub.core.commands import Command, Publish
from hub.core.session.session import Session
from hub.core.time.deadlines import Deadline
from hub.errors import RequestTimeoutError, TooLargeError
from hub.transports.inbound import (
    CloseFrame,
    Event,
    FrameError,
    Inbound,
    PingFrame,
    Seen,
    lone_message,
)
from hub.transports.stream import StreamConnection
from hub.transports.turns import PIECE_BYTES, PIECE_FRAMES, PIECE_SECONDS, Lane
from hub.transports.websocket_options import WebSocketOptions
from hub.wire.codes import CloseCode
from hub.wire.websocket import close_frame, echo_frame, ping_frame, pong_frame

# The answer to the hub's ping, whole and alone in a read: a final pong of 8 bytes, masked
# (RFC 6455 section 5.2: two bytes of head, four of key).
_PONG_HEAD = b"\x8a\x88"
_PONG_BYTES = 14
# Bytes that may wait here before the peer is not read from; a read above that is at most 256 KiB.
_MAX_UNREAD_BYTES = 64 * 1024
# Bytes after the hub's close frame that are searched for the peer's: a message of the largest size
# may stand before it.
_MAX_SEARCHED_BYTES = 512 * 1024
# Bytes that are thrown away, so that the end of the connection does not overtake the close frame
# (RFC 9112 section 9.6 has the same trouble). A peer that sends more is not read from. Guess: as
# much as is on its way with the close frame.
_MAX_IGNORED_BYTES = 1024 * 1024


class _Reading:
    """State of a connection while bytes of its peer are unfinished or wait."""

    __slots__ = ("deadline", "ended", "held", "inbound", "message", "paused", "queued")

    def __init__(self, inbound: Inbound) -> None:
        self.inbound = inbound
        self.deadline: Deadline | None = None
        """The deadline of the unfinished message."""
        self.message = 0
        """The number of the message that the deadline is for."""
        self.held = False
        """Whether the session takes no more now."""
        self.paused = False
        """Whether the transport does not read."""
        self.queued = False
        """Whether it has a turn of the loop to come."""
        self.ended = False
        """Whether the peer ended its side behind the unread bytes."""


class WebSocketConnection(StreamConnection):
    """The connection of a WebSocket session, from the answer to its handshake on."""

    __slots__ = ("_after_close_bytes", "_closing", "_deaf", "_deflate", "_options", "_reading")

    transport = "websocket"
    answers_pings = True

    def __init__(
        self,
        transport: asyncio.Transport,
        options: WebSocketOptions,
        *,
        deflate: bool,
        address: str,
        user_agent: str,
    ) -> None:
        super().__init__(transport, address=address, user_agent=user_agent)
        self._options = options
        self._deflate = deflate
        self._reading: _Reading | None = None
        self._closing = False
        self._after_close_bytes = 0
        """Bytes since the close frame of either side."""
        self._deaf = False

    # -- out -------------------------------------------------------------------------------

    def ping(self, payload: bytes) -> bytes:
        return ping_frame(payload)

    def close(self, code: int, reason: str) -> None:
        """Send a close frame; the transport closes when the peer answers it."""
        self._closing = True
        self._write(close_frame(code, reason))
        if self._reading is not None:
            self._reading.inbound.look_only_for_close()

    def _write(self, frame: bytes) -> None:
        """Write behind everything handed over, however long that takes."""
        if self.session is not None:
            self.session.count(len(frame))
        taken = self.send(frame)
        if taken != len(frame):
            self.finish(frame[taken:])

    # -- in --------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._closing or self._deaf:
            if not self._takes_more(len(data)):
                return
        elif self._reading is None and (session := self.session) is not None:
            if len(data) == _PONG_BYTES and data.startswith(_PONG_HEAD):
                # An idle peer sends nothing else: no parser for it.
                self._options.heartbeats.pong(session)
                return
            if self._take_lone(session, data):
                return
        reading = self._begin_reading()
        reading.inbound.feed(data)
        if reading.held or reading.queued:
            self._pace(reading)
            return
        turns = self._options.turns
        began = turns.clock()
        if turns.may_begin(began):
            self._work_off(reading, began)
            turns.spent(turns.clock() - began)
        else:
            self._wait(reading)

    def _take_lone(self, session: Session, data: bytes) -> bool:
        """Carry out a command that is alone in a read; return whether it was."""
        options = self._options
        turns, message = options.turns, lone_message(data, options.max_frame_bytes)
        if message is None or not turns.may_begin(began := turns.clock()):
            return False
        try:
            if (command := options.read(session, message)) is None:
                pass
            elif isinstance(command, Publish):
                # It has one reply: nothing to gather.
                options.registry.commands.submit(session, command)
            else:
                self._submit_gathered(session, command)
        except Exception as error:  # noqa: BLE001 - the border, as in `_work_off`
            options.registry.failed(session, error)
            self._stop_listening()
        turns.spent(turns.clock() - began)
        return True

    def _submit_gathered(self, session: Session, command: Command) -> None:
        self.cork()
        try:
            self._options.registry.commands.submit(session, command)
        finally:
            session.uncork()

    def _begin_reading(self) -> _Reading:
        if (reading := self._reading) is None:
            options = self._options
            inbound = Inbound(deflate=self._deflate, max_bytes=options.max_frame_bytes)
            inbound.only_close = self._closing
            reading = self._reading = _Reading(inbound)
        return reading

    def _wait(self, reading: _Reading) -> None:
        reading.queued = True
        self._options.turns.wait(self._take_turn, self.address)
        self._pace(reading)

    def _take_turn(self) -> None:
        """Work off a piece of the waiting bytes: their turn has come."""
        if (reading := self._reading) is not None:
            reading.queued = False
            if not reading.held:
                self._work_off(reading, self._options.turns.clock())

    def _work_off(self, reading: _Reading, began: float) -> None:
        """Read a piece, and wait for a turn for the rest."""
        if (session := self.session) is None:
            return
        self.cork()
        try:
            more = self._read_piece(session, reading, began + PIECE_SECONDS)
        except TooLargeError as error:
            session.close_error(error)
            self._stop_listening()
        except FrameError as error:
            session.close(error.code, error.reason)
            self._stop_listening()
        except Exception as error:  # noqa: BLE001 - the border: logged with traceback, neutral to the peer
            self._options.registry.failed(session, error)
            self._stop_listening()
        else:
            if self._reading is reading:
                self._rest(reading, more=more)
        finally:
            session.uncork()

    def _read_piece(self, session: Session, reading: _Reading, until: float) -> bool:
        """Read until nothing is whole, or the piece is full; return whether more may be whole."""
        inbound, options = reading.inbound, self._options
        clock, run = options.turns.clock, options.registry.publish_run
        size = 0
        try:
            for _ in range(PIECE_FRAMES):
                event = inbound.read()
                if event is None:
                    return False
                if isinstance(event, bytes):
                    size += len(event)
                    if (command := options.read(session, event)) is not None:
                        run.submit(session, command)
                else:
                    run.end()
                    self._act(session, event)
                if self._reading is not reading or reading.held:
                    return False
                if size >= PIECE_BYTES or clock() >= until:
                    return True
            return True
        finally:
            run.end()

    def _act(self, session: Session, event: Event) -> None:
        match event:
            case Seen.PONG:
                self._options.registry.commands.over_limit(session, 0)
                self._options.heartbeats.pong(session)
            case PingFrame(payload):
                if self._options.registry.commands.over_limit(session, len(payload)) is None:
                    session.control(pong_frame(payload))
            case Seen.BINARY:
                session.close(
                    CloseCode.UNSUPPORTED_DATA, "binary frames are not supported: send text"
                )
            case CloseFrame():
                self._end(session, event)

    def _end(self, session: Session, closed: CloseFrame) -> None:
        """End the connection: the peer closes, or answers a close."""
        if not self._closing:
            self._write(echo_frame(closed.payload))
        # Not lost yet: a peer that closes and does not read would keep the transport for ever,
        # which waits to write the bytes that it holds.
        session.left(closed.code, closed.reason or "closed by the peer")
        self._stop_reading()
        self.uncork()
        self._transport.close()

    # -- how much ----------------------------------------------------------------------------

    def _rest(self, reading: _Reading, *, more: bool) -> None:
        """Wait behind a piece: for a turn, for the peer, or for nothing."""
        if more:
            self._wait(reading)
            return
        if reading.held:
            pass
        elif reading.ended:
            self._leave()
            return
        elif reading.inbound.idle:
            self._settle(reading)
            self._reading = None
        else:
            self._watch(reading)
        self._pace(reading)

    def _pace(self, reading: _Reading) -> None:
        """Read from the peer while there is room for more."""
        waits = reading.held or reading.queued
        pause = reading.held or (waits and reading.inbound.unread_bytes > _MAX_UNREAD_BYTES)
        if pause != reading.paused:
            reading.paused = pause
            if pause:
                super().pause_reading()
            else:
                super().resume_reading()

    @property
    def unread(self) -> bool:
        reading = self._reading
        return reading is not None and (reading.held or reading.queued or reading.paused)

    def pause_reading(self) -> None:
        """Pause: the session takes no more, not even bytes that were read already."""
        if not self._deaf:
            reading = self._begin_reading()
            reading.held = True
            self._pace(reading)

    def resume_reading(self) -> None:
        if (reading := self._reading) is not None and reading.held:
            reading.held = False
            if not reading.queued:
                self._wait(reading)

    def _watch(self, reading: _Reading) -> None:
        """Give an unfinished message a deadline of its own."""
        if reading.inbound.messages != reading.message or reading.deadline is None:
            self._settle(reading)
            reading.message = reading.inbound.messages
            options = self._options
            due = options.turns.clock() + options.message_timeout_seconds
            reading.deadline = options.deadlines.at(due, self._too_late)

    def _settle(self, reading: _Reading) -> None:
        if reading.deadline is not None:
            reading.deadline.cancel()
            reading.deadline = None

    def _too_late(self) -> None:
        reading, session = self._reading, self.session
        if reading is None or session is None:
            return
        reading.deadline = None
        if reading.held or reading.queued:
            # The message may be whole and unread. Its time begins anew.
            self._watch(reading)
            return
        seconds = self._options.message_timeout_seconds
        session.close_error(
            RequestTimeoutError(f"a message was not whole within {seconds:g} seconds")
        )
        self._stop_listening()

    # -- the end -----------------------------------------------------------------------------

    def _stop_listening(self) -> None:
        """Send no more and ignore bytes that come, until the peer ends or the close times out.

        To end the connection at once would answer what the peer is still sending with a
        reset, and that may cost it the close frame that says why.
        """
        self._stop_reading()
        self.half_close()

    def _stop_reading(self) -> None:
        """Look at nothing that the peer sends from now on."""
        if (reading := self._reading) is not None:
            self._settle(reading)
            self._reading = None
            if reading.paused:
                super().resume_reading()
        self._deaf = True

    def _takes_more(self, size: int) -> bool:
        """Return whether bytes after a close frame are still read."""
        before = self._after_close_bytes
        self._after_close_bytes += size
        if not self._deaf and self._after_close_bytes > _MAX_SEARCHED_BYTES:
            self._stop_reading()
        if before <= _MAX_IGNORED_BYTES < self._after_close_bytes:
            # The close's time-out ends the connection.
            super().pause_reading()
        return not self._deaf

    @property
    def _crowd(self) -> Lane:
        return self._options.turns.crowd

    def _leave(self) -> None:
        if self.session is not None:
            self.session.left(CloseCode.ABNORMAL, "connection ended without a close frame")
        self._stop_reading()
        self.uncork()
        self._transport.close()

    def eof_received(self) -> bool | None:
        if (reading := self._reading) is not None and (reading.held or reading.queued):
            # Commands before the end are carried out first; not behind TLS, where asyncio closes
            # the transport, and warns of a protocol that would stay.
            reading.ended = True
            return self._transport.can_write_eof()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if (reading := self._reading) is not None:
            self._settle(reading)
            self._reading = None
        super().connection_lost(exc)
