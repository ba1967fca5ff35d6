"""The first protocol of every connection: keeps `/ws` and `/sse`, hands on all others.

Uvicorn owns the socket and calls this in place of its HTTP protocol. From the first bytes it
is decided who goes on: a stream connection, which writes to the transport itself and needs
no task, or uvicorn's HTTP protocol, which gets the bytes as they came. Nothing of the front
door is left once that is decided.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from hub.core.deadlines import Deadline, Deadlines
from hub.core.engine import Engine
from hub.core.ports import Dialect, Monotonic
from hub.core.tally import Tally
from hub.errors import BadRequestError, HeadersTooLargeError, HubError, RequestTimeoutError
from hub.transports.admission import NOBODY, Admission
from hub.transports.head import RequestHead, parse_head
from hub.transports.http.problem import problem
from hub.transports.sse import SseConnection, response_head
from hub.transports.websocket import WebSocketConnection, WebSocketOptions
from hub.wire.codes import http_status, status_phrase
from hub.wire.handshake import accept
from hub.wire.sse import MAX_CHANNELS

_END_OF_HEAD = b"\r\n\r\n"
_METHOD = b"GET "
# WIRE.md: a URL stays below 4 KB. Its channels are checked against the subscriptions' limit.
MAX_TARGET_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Dialects:
    """What sessions speak, made once by the composition root."""

    websocket: Callable[[int | None], Dialect]
    """By agreed deflate window."""
    sse: Dialect
    sse_several: Dialect


@dataclass(frozen=True, slots=True)
class DoorOptions:
    """What all front doors of a node share."""

    engine: Engine
    admission: Admission
    dialects: Dialects
    websocket: WebSocketOptions
    tally: Tally
    deadlines: Deadlines
    clock: Monotonic
    base_path: bytes
    max_head_bytes: int
    max_subscriptions: int
    handshake_timeout_seconds: float
    deflate: bool
    waiting: "set[FrontDoor]" = field(default_factory=set)
    """Connections whose first request is not known yet: a stop ends them."""

    def may_be_ours(self, data: bytes) -> bool | None:
        """Whether a request that begins with `data` is for `/ws` or `/sse`; None: too early."""
        for name in (b"/ws", b"/sse"):
            start = _METHOD + self.base_path + name
            if len(data) <= len(start):
                if start.startswith(data):
                    return None
            elif data.startswith(start) and data[len(start)] in b" ?":
                return True
        return False


class FrontDoor(asyncio.Protocol):
    """Lives until the first request is known.

    `hand_on` makes the protocol that answers everything else.
    """

    __slots__ = ("_deadline", "_hand_on", "_head", "_options", "_origin", "_transport")

    def __init__(self, options: DoorOptions, hand_on: Callable[[], asyncio.Protocol]) -> None:
        self._options = options
        self._hand_on = hand_on
        self._head = b""
        self._transport: asyncio.Transport
        self._deadline: Deadline | None = None
        self._origin: str | None = None
        """Of the page that asks, once it is known to be allowed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._options.waiting.add(self)
        due = self._options.clock() + self._options.handshake_timeout_seconds
        self._deadline = self._options.deadlines.at(due, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._settle()

    def abort(self) -> None:
        """The listener stops: nothing will come of this connection."""
        self._transport.abort()

    def _settle(self) -> None:
        self._options.waiting.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        seconds = self._options.handshake_timeout_seconds
        self._refuse(RequestTimeoutError(f"no whole request within {seconds:g} seconds"))

    def data_received(self, data: bytes) -> None:
        self._head += data
        ours = self._options.may_be_ours(self._head)
        if ours is False:
            self._hand_over()
        elif ours:
            self._read()

    def _hand_over(self) -> None:
        """Let the HTTP protocol begin as if the connection had just been made."""
        self._settle()
        protocol = self._hand_on()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(self._head)

    def _read(self) -> None:
        end = self._head.find(_END_OF_HEAD)
        limit = self._options.max_head_bytes
        if end > limit or (end < 0 and len(self._head) > limit):
            self._refuse(HeadersTooLargeError(f"request head is over {limit:,} bytes"))
        elif end >= 0:
            self._settle()
            raw, rest = self._head[: end + 4], self._head[end + 4 :]
            try:
                self._open(parse_head(raw), rest)
            except HubError as error:
                self._refuse(error)

    def _open(self, head: RequestHead, rest: bytes) -> None:
        if len(head.target) > MAX_TARGET_BYTES:
            size = len(head.target)
            raise HeadersTooLargeError(f"URL is {size:,} bytes, limit is {MAX_TARGET_BYTES:,}")
        self._options.admission.check_door(head)
        self._origin = head.headers.get("origin")
        if head.path.endswith(b"/ws"):
            self._open_websocket(head, rest)
        else:
            self._open_sse(head)

    def _open_websocket(self, head: RequestHead, rest: bytes) -> None:
        """Answer the handshake. What is wrong with token or query is told by a close code:
        a browser cannot read the status of a refused handshake.
        """
        options = self._options
        response, window_bits = accept(head.headers, deflate=options.deflate)
        connection = WebSocketConnection(
            self._transport,
            options.websocket,
            deflate=window_bits is not None,
            address=_address(self._transport),
            user_agent=head.headers.get("user-agent", ""),
        )
        dialect = options.dialects.websocket(window_bits)
        try:
            admitted = options.admission.admit(head, max_channels=options.max_subscriptions)
        except HubError as error:
            options.tally.refused[error.code] += 1
            connection.session = options.engine.open(
                connection, dialect, NOBODY, head=response, welcome=False
            )
            connection.session.close_error(error)
        else:
            connection.session = options.engine.open(
                connection, dialect, admitted.identity, head=response
            )
            options.admission.subscribe(connection.session, admitted)
        if rest:
            connection.data_received(rest)

    def _open_sse(self, head: RequestHead) -> None:
        options = self._options
        limit = min(MAX_CHANNELS, options.max_subscriptions)
        admitted = options.admission.admit(head, max_channels=limit)
        if not (admitted.query.channels or admitted.query.session):
            raise BadRequestError("channel is missing: GET /sse?channel=<channel>")
        connection = SseConnection(
            self._transport,
            address=_address(self._transport),
            user_agent=head.headers.get("user-agent", ""),
        )
        several = len(admitted.query.channels) > 1
        dialect = options.dialects.sse_several if several else options.dialects.sse
        connection.session = options.engine.open(
            connection, dialect, admitted.identity, head=response_head(head.headers.get("origin"))
        )
        options.admission.subscribe(connection.session, admitted)

    def _refuse(self, error: HubError) -> None:
        self._settle()
        write_problem(self._transport, error, self._options.tally, origin=self._origin)


def write_problem(
    transport: asyncio.Transport, error: HubError, tally: Tally, *, origin: str | None = None
) -> None:
    """Answer a request that never became one with a problem document, and close.

    A page of `origin` may read it.
    """
    tally.refused[error.code] += 1
    headers = {"Connection": "close"}
    if origin is not None:
        headers |= {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
    response = problem(error, headers=headers)
    phrase = status_phrase(http_status(error.code)).encode()
    head = [b"HTTP/1.1 %d %b" % (response.status_code, phrase)]
    head += [name + b": " + value for name, value in response.raw_headers]
    transport.write(b"\r\n".join([*head, b"", bytes(response.body)]))
    transport.close()


def _address(transport: asyncio.Transport) -> str:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if peer else ""
