"""Bytes that a peer has sent and that are not parsed yet: fed in pieces, held, or thrown away.

A request that waits for its answer stops the parsing, and bytes behind it are held. The transport
is not read while more than `HELD_BYTES` are held, or while the peer does not take its answers.
"""

import asyncio
from typing import cast

from hub.transports.connection.application import ApplicationCall
from hub.transports.connection.context import ConnectionContext
from hub.transports.connection.outgoing import AnswerWriter
from hub.transports.connection.phase import STREAMING, Phase
from hub.transports.connection.reader import RequestReader
from hub.transports.connection.requests import Requests
from hub.transports.connection.states import (
    DISCARD_BYTES,
    HELD_BYTES,
    PIECE_BYTES,
    HttpState,
    Incoming,
)
from hub.transports.turns import PIECE_SECONDS


class ReceiveBuffer:
    """The received bytes of one connection; pauses and resumes the reading of its transport."""

    __slots__ = (
        "_context", "_discarded_bytes", "_outgoing", "_phase", "_reader", "_requests",
        "_transport", "awaits_turn", "held", "paused",
    )  # fmt: skip

    def __init__(
        self,
        context: ConnectionContext,
        transport: asyncio.Transport,
        reader: RequestReader,
        requests: Requests,
        outgoing: AnswerWriter,
        phase: Phase,
    ) -> None:
        self._context = context
        self._transport = transport
        self._reader = reader
        self._requests = requests
        self._outgoing = outgoing
        self._phase = phase
        self._discarded_bytes = 0
        self.held = b""
        """Bytes behind a request that waits, or behind a piece that took its time."""
        self.awaits_turn = False
        """Whether the held bytes have a turn of the loop to come."""
        self.paused = False
        """Whether the transport does not read."""

    def may_parse(self) -> bool:
        """Return whether the reader may be fed now."""
        requests = self._requests
        if self.awaits_turn or self._outgoing.blocked or requests.queue or requests.closing:
            return False
        if self._reader.rest is not None:
            return False
        call = requests.answering
        if call is None:
            return True
        # An application gets its body as it comes, as far as it takes it.
        return isinstance(call, ApplicationCall) and call is requests.reading and not call.is_full

    def parse(self, data: bytes) -> None:
        """Parse `data` in pieces until a request waits or the time is over; hold the rest."""
        at, clock = 0, self._context.turns.clock
        until = clock() + PIECE_SECONDS
        while at < len(data) and self.may_parse():
            self._reader.feed(data[at : at + PIECE_BYTES])
            at += PIECE_BYTES
            if clock() >= until:
                break
        rest = data[at:]
        if self._phase.state is STREAMING:
            # The stream has the transport, and bytes behind its request are the stream's own.
            if rest:
                cast("asyncio.Protocol", self._transport.get_protocol()).data_received(rest)
        elif not self._requests.closing:
            self.hold(rest)
            self.awaits_turn = bool(rest) and self.may_parse()

    def hold(self, data: bytes) -> None:
        """Keep `data` until the requests before it are answered; b"" lets go of all."""
        if data or self.held:
            self._context.budget.hold_unparsed(self, len(data))
        self.held = data

    def take(self) -> bytes:
        """Return the held bytes, and hold none."""
        held = self.held
        self.hold(b"")
        return held

    def discard(self, data: bytes) -> None:
        """Throw away bytes behind the last request; read no more above `DISCARD_BYTES`."""
        self._discarded_bytes += len(data)
        if self._discarded_bytes > DISCARD_BYTES and not self.paused:
            # Not a reset: it would take the answer from a peer that has not read it yet.
            self.paused = True
            self._transport.pause_reading()

    def choose_reading(self) -> None:
        """Read, unless bytes that come could only be held and enough are held already."""
        state, reading = self._phase.state, self._requests.reading
        holds = self._phase.incoming is Incoming.HOLD or not self.may_parse()
        pause = holds and (state is HttpState.WRITING or len(self.held) > HELD_BYTES)
        if state is HttpState.APPLICATION and isinstance(reading, ApplicationCall):
            pause = pause or reading.is_full
        if pause and state is HttpState.ANSWERING:
            # While nothing is read, the end of the peer would not be seen either.
            self._requests.hurry()
        if pause is not self.paused:
            self.paused = pause
            if pause:
                self._transport.pause_reading()
            elif not self._transport.is_closing():
                self._transport.resume_reading()

    def resume(self) -> None:
        """Read again, however much is held."""
        if self.paused:
            self.paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """End the connection: all hold too much together, and this one has held it longest."""
        self._outgoing.abort()
