"""What all connections of a node share."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from hub.core.counters import Counters
from hub.core.ports import Monotonic
from hub.core.time.deadlines import Deadlines
from hub.transports.connection.application import Application
from hub.transports.connection.arrivals import Arrivals
from hub.transports.connection.door import Door
from hub.transports.connection.outgoing import WriteTurn
from hub.transports.connection.sockets import Sockets
from hub.transports.connection.states import ConnectionLimits
from hub.transports.connection.streams import Streams
from hub.transports.http.bodies import BodyBudget
from hub.transports.http.dispatch import Dispatcher
from hub.transports.turns import Turns

Run = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]
"""Runs what waits, until the listener stops."""


@dataclass(frozen=True, slots=True)
class ConnectionContext:
    """One per node."""

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
    """Answers what the table of routes does not have."""
