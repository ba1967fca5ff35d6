"""A WebSocket session's connection: frames out as the session gives them, commands in."""

import asyncio
from dataclasses import dataclass

from hub.core.engine import Engine
from hub.core.heartbeats import Heartbeats
from hub.core.session import Session
from hub.errors import HubError
from hub.transports.inbound import Inbound, Received
from hub.transports.stream import StreamConnection
from hub.wire import native
from hub.wire.codes import CloseCode
from hub.wire.websocket import close_frame, ping_frame

# A message this many times the payload limit is still read, so that the peer gets a reply
# that says which command was too large; beyond it the connection is closed with 4413.
_READ_TIMES_LIMIT = 4
_ENVELOPE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class WebSocketOptions:
    """What all WebSocket connections of a node share."""

    engine: Engine
    heartbeats: Heartbeats
    max_message_bytes: int

    @property
    def max_frame_bytes(self) -> int:
        return self.max_message_bytes * _READ_TIMES_LIMIT + _ENVELOPE_BYTES


class WebSocketConnection(StreamConnection):
    """Made after the handshake was answered."""

    __slots__ = ("_closing", "_deaf", "_deflate", "_inbound", "_options")

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
        self._inbound: Inbound | None = None
        self._closing = False
        self._deaf = False

    # -- out -------------------------------------------------------------------------------

    def ping(self, payload: bytes) -> bytes:
        # Once in a heartbeat: a parser kept for a peer that sends often is let go when it
        # has nothing unfinished.
        if self._inbound is not None and self._inbound.idle:
            self._inbound = None
        return ping_frame(payload)

    def close(self, code: int, reason: str) -> None:
        """Send a close frame; the transport closes when the peer answers it."""
        self._closing = True
        self._write(close_frame(code, reason))

    def _write(self, frame: bytes) -> None:
        """Write behind everything handed over, however long that takes."""
        taken = self.send(frame)
        if taken != len(frame):
            self.finish(frame[taken:])

    # -- in --------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._deaf or (session := self.session) is None:
            return
        options = self._options
        if (inbound := self._inbound) is None:
            inbound = self._inbound = Inbound(
                deflate=self._deflate, max_bytes=options.max_frame_bytes
            )
        try:
            received = inbound.receive(data)
        except HubError as error:
            session.close_error(error)
            self._stop_listening()
            return
        self._act(session, received)
        if not received.messages and inbound.idle:
            self._inbound = None

    def _act(self, session: Session, received: Received) -> None:
        for _ in range(received.pongs):
            self._options.heartbeats.pong(session)
        for message in received.messages:
            if session.closing:
                break
            self._command(session, message)
        if received.answer and received.close is None:
            session.control(received.answer)
        elif received.close is not None and not self._closing:
            self._write(received.answer)
        if received.binary:
            session.close(CloseCode.UNSUPPORTED_DATA, "binary frames are not supported: send text")
        if received.violation is not None:
            session.close(*received.violation)
            self._stop_listening()
        elif received.close is not None:
            # Not lost yet: a peer that closes and does not read would keep the transport,
            # which waits to write what it holds, for ever.
            session.left(received.close[0], received.close[1] or "closed by the peer")
            self._transport.close()

    def _stop_listening(self) -> None:
        """Say no more and ignore what still comes, until the peer ends or the close times out.

        Closing at once would answer what the peer is still sending with a reset, and that may
        cost it the close frame that says why.
        """
        self._deaf = True
        self.half_close()

    def _command(self, session: Session, message: bytes) -> None:
        try:
            message.decode()
        except UnicodeDecodeError:
            # RFC 6455 section 8.1: a text message that is not UTF-8 fails the connection.
            session.close(CloseCode.INVALID_DATA, "text frame is not UTF-8")
            return
        try:
            limit = self._options.max_message_bytes
            command = native.decode(message, max_message_bytes=limit)
        except HubError as error:
            self._options.engine.refuse(session, error)
        else:
            self._options.engine.submit(session, command)

    def eof_received(self) -> bool | None:
        if self.session is not None:
            self.session.left(CloseCode.ABNORMAL, "connection ended without a close frame")
        return None
