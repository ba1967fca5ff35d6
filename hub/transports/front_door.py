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
from hub.core.ports import Monotonic
from hub.core.tally import Tally
from hub.errors import HeadersTooLargeError, HubError, RequestTimeoutError
from hub.transports.head import RequestHead, parse_head
from hub.transports.http.problem import problem
from hub.transports.opening import Openings, cross_origin
from hub.wire.codes import http_status, status_phrase

_END_OF_HEAD = b"\r\n\r\n"
_METHOD = b"GET "
# WIRE.md: a URL stays below 4 KB. Its channels are checked against the subscriptions' limit.
MAX_TARGET_BYTES = 4096


@dataclass(frozen=True, slots=True)
class DoorOptions:
    """What all front doors of a node share."""

    openings: Openings
    tally: Tally
    deadlines: Deadlines
    clock: Monotonic
    base_path: bytes
    max_head_bytes: int
    handshake_timeout_seconds: float
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

    __slots__ = ("_deadline", "_hand_on", "_head", "_head_read", "_options", "_transport")

    def __init__(self, options: DoorOptions, hand_on: Callable[[], asyncio.Protocol]) -> None:
        self._options = options
        self._hand_on = hand_on
        self._head = b""
        self._transport: asyncio.Transport
        self._deadline: Deadline | None = None
        self._head_read: RequestHead | None = None

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
        self._head_read = head
        address = _address(self._transport)
        if head.path.endswith(b"/ws"):
            self._options.openings.websocket(head, self._transport, address=address, rest=rest)
        else:
            self._options.openings.sse(head, self._transport, address=address)

    def _refuse(self, error: HubError) -> None:
        self._settle()
        head = self._head_read
        origin = None if head is None else self._options.openings.readable_by(head)
        write_problem(self._transport, error, self._options.tally, origin=origin)


def write_problem(
    transport: asyncio.Transport, error: HubError, tally: Tally, *, origin: str | None = None
) -> None:
    """Answer a request that never became one with a problem document, and close.

    A page of `origin` may read it.
    """
    tally.refused[error.code] += 1
    response = problem(error, headers={"Connection": "close"} | cross_origin(origin))
    phrase = status_phrase(http_status(error.code)).encode()
    head = [b"HTTP/1.1 %d %b" % (response.status_code, phrase)]
    head += [name + b": " + value for name, value in response.raw_headers]
    transport.write(b"\r\n".join([*head, b"", bytes(response.body)]))
    transport.close()


def _address(transport: asyncio.Transport) -> str:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if peer else ""
