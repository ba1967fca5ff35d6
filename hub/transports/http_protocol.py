"""Uvicorn's HTTP protocol with the two things it lacks: limits on the head, and a way back.

A kept-alive connection may ask for `/sse` or an upgrade next. Between two requests the
transport goes back to the front door, which decides anew.
"""

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hub.core.deadlines import Deadline
from hub.errors import BadRequestError, HeadersTooLargeError, HubError, RequestTimeoutError
from hub.transports.front_door import DoorOptions, FrontDoor, write_problem


class HttpProtocol(HttpToolsProtocol):
    """Answers requests through the ASGI application, until one is not for it."""

    hub_options: DoorOptions
    """Set by `http_protocol_factory`, as uvicorn fixes the constructor's arguments."""

    _head_deadline: Deadline | None = None
    _head_bytes = 0
    _refused = False

    # -- the way back ----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._is_between_requests() and self.hub_options.may_be_ours(data) is not False:
            self._give_back(data)
            return
        if self._refused:
            return
        super().data_received(data)
        if self._head_deadline is not None:
            # The parser keeps an unfinished header to itself: count what it was fed.
            self._count(len(data))

    def _is_between_requests(self) -> bool:
        return self.cycle is not None and self.cycle.response_complete and not self._head_deadline

    def _give_back(self, data: bytes) -> None:
        """Leave uvicorn's books, so that neither its keep-alive timer nor its shutdown ends
        what is a session from now on.
        """
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        door = FrontDoor(self.hub_options, self._take_again)
        self.transport.set_protocol(door)
        door.connection_made(self.transport)
        door.data_received(data)

    def _take_again(self) -> asyncio.Protocol:
        return self

    # -- limits on the head ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # uvicorn's own signature; called again when the front door hands the transport back.
        super().connection_made(transport)
        self._begin_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begin_head()

    def _begin_head(self) -> None:
        self._end_head()
        options = self.hub_options
        due = options.clock() + options.handshake_timeout_seconds
        self._head_deadline = options.deadlines.at(due, self._too_slow)

    def _end_head(self) -> None:
        self._head_bytes = 0
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _too_slow(self) -> None:
        seconds = self.hub_options.handshake_timeout_seconds
        self._refuse(RequestTimeoutError(f"no whole request head within {seconds:g} seconds"))

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value) + 4)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.hub_options.max_head_bytes and not self._refused:
            limit = self.hub_options.max_head_bytes
            self._refuse(HeadersTooLargeError(f"request head is over {limit:,} bytes"))

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for what its parser does not take; its own answer is plain text."""
        self._refuse(BadRequestError(msg))

    def _refuse(self, error: HubError) -> None:
        self._refused = True
        self._end_head()
        if not self.transport.is_closing():
            write_problem(self.transport, error, self.hub_options.tally)

    def on_headers_complete(self) -> None:
        self._end_head()
        if not self._refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._refused:
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)


def http_protocol_factory(options: DoorOptions) -> Callable[..., asyncio.Protocol]:
    """What uvicorn calls, with its own arguments, for every connection it accepts."""
    protocol = type("HubHttpProtocol", (HttpProtocol,), {"hub_options": options})

    def accept(**uvicorn_arguments: object) -> asyncio.Protocol:
        return FrontDoor(options, lambda: protocol(**uvicorn_arguments))

    return accept
