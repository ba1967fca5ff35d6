"""The parameters of a connection's parts: the state that all connections share, and the owner."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from hub.core.counters import Counters
from hub.core.ports import Monotonic
from hub.core.time.deadlines import Deadlines
from hub.transports.connection.application import Application, ApplicationTransport
from hub.transports.connection.arrivals import Arrivals
from hub.transports.connection.door import Door
from hub.transports.connection.outgoing import WriteTurn
from hub.transports.connection.reader import RequestReader, RequestSink
from hub.transports.connection.sockets import Sockets
from hub.transports.connection.states import ConnectionLimits
from hub.transports.connection.streams import Streams
from hub.transports.http.bodies import BodyBudget
from hub.transports.http.dispatch import Call, Dispatcher
from hub.transports.http.routes import StreamKind
from hub.transports.turns import Turns

Run = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]
"""Runs a coroutine in a task, until the listener stops."""


@dataclass(frozen=True, slots=True)
class ConnectionContext:
    """State shared by all connections of one node."""

    dispatcher: Dispatcher
    streams: Streams
    door: Door
    budget: BodyBudget
    sockets: Sockets
    limits: ConnectionLimits
    arrivals: Arrivals
    deadlines: Deadlines
    clock: Monotonic
    counters: Counters
    turns: Turns
    """Pipelined requests share them with WebSockets."""
    turn: WriteTurn
    spawn: Run
    application: Application | None = None
    """Answers requests for which the table has no route."""

    def new_reader(self, sink: RequestSink, address: str) -> RequestReader:
        """Return the reader of a connection from `address`."""
        return RequestReader(
            sink,
            max_head_bytes=self.limits.max_head_bytes,
            address=address,
            keep_raw=self.application is not None,
            heads=self.dispatcher.heads,
        )


class Owner(ApplicationTransport, Protocol):
    """The connection, as its requests see it: it owns the transport."""

    def open_stream(self, call: Call, stream: StreamKind) -> None:
        """Have a stream take the connection over; the request waits where that cannot be yet."""
        ...

    def go_on(self) -> None:
        """Begin the next request, and parse the bytes that are held: nothing is in the way now."""
        ...

    def settle(self) -> None:
        """Write the answers that are decided, and choose the state that holds now."""
        ...

    def end(self, *, clean: bool) -> None:
        """Take no request behind the last answer; `clean` where its request is read to the end."""
        ...
