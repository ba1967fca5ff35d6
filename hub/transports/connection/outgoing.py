"""The answers of a connection on their way to its transport, and the progress of the peer.

A write to a socket whose reader sleeps has to wake it, which costs more than all the rest of an
answer. So the answers to all requests of one turn of the loop are written back to back at its end:
the first write wakes the reader, and the others find it awake.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from hub.core.ports import Defer

# An answer this large, or so many of one connection, are written before the next request is
# looked at. Guesses, not measured.
_WRITE_BYTES = 4 * 1024
_WRITE_ANSWERS = 64
# Connections that are written to together: some 40 wake a reader once, and the first of a thousand
# waits no longer for its answer than the first of 64. Guess, not measured.
_WRITE_CONNECTIONS = 64
# OpenSSL's buffer grows to the most that it holds at a time, and keeps that size: 1.8 MB behind a
# page of history of 1 MiB. So over TLS an answer is written in such pieces, and the next one waits
# until the peer has taken enough. Guess: as large as the buffer of a transport.
_TLS_WRITE_BYTES = 64 * 1024


def bound_buffer(transport: asyncio.Transport) -> None:
    """Have the transport be always empty or paused.

    One of TLS may be paused at once: the end of the handshake is still on its way. It pauses at its
    mark where a plain one pauses above it (`asyncio.sslproto`), so at 0 it would pause when it is
    empty.
    """
    high = 0 if transport.get_extra_info("sslcontext") is None else 1
    transport.set_write_buffer_limits(high=high, low=0)


class WriteTurn:
    """The connections with answers to write at the end of this turn of the loop. One per node.

    Args:
        defer: runs a callback in the loop's next iteration, behind all reads of this one.
    """

    __slots__ = ("_defer", "_scheduled", "_waiting")

    def __init__(self, defer: Defer) -> None:
        self._defer = defer
        self._scheduled = False
        self._waiting: deque[Callable[[], None]] = deque()

    def add(self, write: Callable[[], None]) -> None:
        """Have `write` called, behind those that were added before it."""
        waiting = self._waiting
        waiting.append(write)
        if not self._scheduled:
            self._scheduled = True
            self._defer(self._end)
        elif len(waiting) >= _WRITE_CONNECTIONS:
            self._write()

    def _end(self) -> None:
        self._scheduled = False
        self._write()

    def _write(self) -> None:
        waiting = self._waiting
        try:
            while waiting:
                waiting.popleft()()
        finally:
            if waiting and not self._scheduled:
                # One has failed: the others are written to next.
                self._scheduled = True
                self._defer(self._end)


class AnswerWriter:
    """The answers of one connection; the only place that writes to its transport.

    Args:
        turn: writes the answers that are put off.
        on_blocked: called behind a write that was put off and that the peer does not take.
    """

    __slots__ = (
        "_ends", "_in_pieces", "_on_blocked", "_rest", "_transport", "_turn", "_unsent", "_waits",
        "answers", "blocked",
    )  # fmt: skip

    def __init__(
        self, transport: asyncio.Transport, turn: WriteTurn, on_blocked: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._in_pieces = transport.get_extra_info("sslcontext") is not None
        """Whether the transport is given no more than it can pass on."""
        self._rest: list[memoryview] = []
        """Bytes that it is given once it has passed on those before them."""
        self._ends = False
        """Whether the connection is to end behind the rest."""
        self._turn = turn
        self._on_blocked = on_blocked
        self.answers: list[bytes] = []
        """Answers that are decided and not written yet; read only for other modules."""
        self._waits = False
        """Whether a write is put off to the end of the turn."""
        self._unsent = 0
        """Bytes that the peer had not taken when its time for them began."""
        self.blocked = False
        """Whether the peer does not take the bytes that were written."""

    def add(self, answer: bytes) -> None:
        """Add the next answer; it leaves with the next `flush`, or now where it is large."""
        self.answers.append(answer)
        if len(answer) > _WRITE_BYTES or len(self.answers) > _WRITE_ANSWERS:
            self.flush()

    def put_off(self) -> None:
        """Write at the end of the loop's turn; `flush` and `close` may come before it."""
        if not self._waits:
            self._waits = True
            self._turn.add(self._write)

    def _write(self) -> None:
        self._waits = False
        if self.answers:
            self.flush()
            if self.blocked:
                self._on_blocked()

    def flush(self) -> None:
        """Write all answers; `blocked` is true afterwards where the peer does not take them."""
        answers = self.answers
        if answers:
            data = answers[0] if len(answers) == 1 else b"".join(answers)
            answers.clear()
            self.write(data)

    def write(self, data: bytes) -> None:
        """Write bytes that do not wait behind the answers here."""
        if self.blocked:
            # The hub has added to the unsent bytes: the peer's progress is counted from there.
            self._unsent += len(data)
        if self._transport.is_closing():
            return
        if self._in_pieces and (self._rest or len(data) > _TLS_WRITE_BYTES):
            self._rest.append(memoryview(data))
            self._write_pieces()
        else:
            self._transport.write(data)

    def _write_pieces(self) -> None:
        """Write pieces of the rest until the peer does not take them."""
        rest = self._rest
        # A pause of the writing comes from within a write.
        while rest and not self.blocked:
            piece, left = rest[0][:_TLS_WRITE_BYTES], rest[0][_TLS_WRITE_BYTES:]
            rest[:1] = [left] if left else []
            self._transport.write(piece)

    def resume(self) -> bool:
        """Go on: the peer takes more. Return whether nothing is left to write."""
        self.blocked = False
        if self._rest:
            self._write_pieces()
            if self._ends and not self._rest:
                self._transport.close()
        return not self.blocked

    def close(self) -> None:
        """End the connection behind all answers."""
        self.flush()
        if self._rest:
            self._ends = True
        else:
            self._transport.close()

    def end_sending(self) -> None:
        """Tell the peer that nothing follows, where that can be told: over TLS it cannot."""
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def abort(self) -> None:
        """End the connection now; answers are written where the peer takes them at once."""
        if not self.blocked:
            self.flush()
        self._transport.abort()

    def drop(self) -> None:
        """Forget the answers: the connection is gone."""
        self.answers.clear()
        self._rest.clear()
        self._on_blocked = _nobody

    # -- the peer's progress ---------------------------------------------------------------------

    @property
    def unsent_bytes(self) -> int:
        return self._transport.get_write_buffer_size() + sum(map(len, self._rest))

    def begin_time(self) -> None:
        """Begin the time that the peer has to take something."""
        self._unsent = self.unsent_bytes

    def took(self, enough_bytes: int) -> bool:
        """Return whether the peer took so much since its time began; if so, begin the time anew."""
        unsent = self.unsent_bytes
        if not unsent or self._unsent - unsent < enough_bytes:
            return False
        self._unsent = unsent
        return True


def _nobody() -> None:
    """The callback of a connection that is gone."""
