"""The first bytes of a connection: refused by the door, or handed to the parser.

A look costs little, but thousands of connections may bring their first bytes in one turn of the
loop. So they have their turns, as all reads have (`hub.transports.turns`).
"""

import asyncio
from typing import Protocol

from hub.errors import HubError
from hub.transports.connection.context import ConnectionContext
from hub.transports.connection.door import Refusal
from hub.transports.connection.parting import Parting
from hub.transports.connection.phase import LOOK, Phase
from hub.transports.connection.states import HttpState
from hub.transports.opening import Judged


class Newcomer(Protocol):
    """The connection, as its first read sees it."""

    def connection_lost(self, exc: Exception | None) -> None: ...

    def read_first(self, data: bytes, judged: Judged | None) -> None:
        """Parse the first bytes; `judged` is the door's judgement of their request."""
        ...

    def begin(self) -> None:
        """Make the parts that read requests, unless they are made."""
        ...

    def end(self, *, clean: bool) -> None:
        """Take no request; `clean` where the refused one is read to its end."""
        ...

    def settle(self) -> None: ...


class FirstRead:
    """Takes the bytes of one connection while none of them was parsed.

    Args:
        crowded: the error for all requests but probes; None where there is room.
    """

    __slots__ = ("_address", "_context", "_crowded", "_phase", "_transport", "waiting")

    def __init__(
        self,
        context: ConnectionContext,
        transport: asyncio.Transport,
        phase: Phase,
        address: str,
        crowded: HubError | None,
    ) -> None:
        self._context = context
        self._transport = transport
        self._phase = phase
        self._address = address
        self._crowded = crowded
        self.waiting = b""
        """Bytes that wait for a turn to be looked at."""

    @property
    def place(self) -> str:
        """The name under which reads wait for turns: the address, or one of the connection's own
        where its address stands for many clients and none is known yet."""
        many = self._context.sockets.stands_for_many(self._address)
        return f"{self._address} {id(self)}" if many else self._address

    def take(self, newcomer: Newcomer, data: bytes) -> bool:
        """Look at the bytes now; return False where they have to wait for a turn."""
        if self._transport.is_closing():
            return True
        if self.waiting:
            # A transport of TLS hands over what it had read.
            self.waiting += data
            return True
        if self._context.turns.has_read_enough():
            self.waiting = data
            self._transport.pause_reading()
            return False
        self._look(newcomer, data)
        return True

    def take_turn(self, newcomer: Newcomer) -> None:
        """Look at the bytes that have waited, if any."""
        data, self.waiting = self.waiting, b""
        if data and not self._transport.is_closing():
            self._transport.resume_reading()
            self._look(newcomer, data)

    def give_up_turn(self) -> bytes:
        """Return the bytes that wait, which then are read by others."""
        data, self.waiting = self.waiting, b""
        if data and not self._transport.is_closing():
            self._transport.resume_reading()
        return data

    def _look(self, newcomer: Newcomer, data: bytes) -> None:
        """Refuse the peer where address and first bytes suffice."""
        refused = self._context.door.refusal(self._address, self._crowded, data)
        if not isinstance(refused, Refusal):
            newcomer.read_first(data, refused)
            return
        self._transport.write(refused.answer)
        if refused.is_farewell:
            Parting(self._transport, newcomer.connection_lost)
        if self._phase.incoming is not LOOK or not (refused.whole or refused.is_farewell):
            # The peer does not take the answer, or has not sent all of its request.
            newcomer.begin()
            newcomer.end(clean=refused.whole and not refused.is_farewell)
            newcomer.settle()
        elif not refused.is_farewell:
            # Nearly always the answer is taken at once; else the first deadline bounds the wait.
            self._transport.close()
        else:
            self._phase.state = HttpState.DISCARDING
            if self._transport.can_write_eof():
                self._transport.write_eof()
