"""Shares the event loop among connections that have sent more than one turn may take.

A read is worked off as it comes while that is little. What is over a connection's piece, or
comes while others wait or much was read already, is queued here, and the queue gets a bounded
time in each turn of the loop. So broadcasts, heartbeats and other connections go on
meanwhile, whatever is sent and by how many.
"""

import asyncio
from collections import deque
from typing import Protocol

from hub.core.ports import Monotonic

# Of one connection before the next has its turn: some hundred publications.
PIECE_SECONDS = 0.002
PIECE_FRAMES = 256
# Payload after inflating: one message of the largest size that a default hub reads.
PIECE_BYTES = 256 * 1024
# Of all connections in one turn of the loop: a broadcast's slice takes about as long. All four
# are guesses, not measured.
TURN_SECONDS = 0.005
# What is read as it comes may take this share of the time; the rest waits for its turn.
_SHARE = 0.5


class Waits(Protocol):
    """A connection with something to work off."""

    def take_turn(self) -> None:
        """Work off one piece; `Turns.wait` again where more is left."""
        ...


class Turns:
    """One per node; owned by the event loop."""

    def __init__(self, clock: Monotonic) -> None:
        self.clock = clock
        self._queue: deque[Waits] = deque()
        self._scheduled = False
        self._spent_seconds = 0.0
        """What was read as it came; goes down with time."""
        self._at_seconds = clock()

    def __len__(self) -> int:
        """How many connections wait."""
        return len(self._queue)

    def may_begin(self, now_seconds: float) -> bool:
        """Whether a read may be worked off as it comes: nobody waits, and little was read."""
        passed = now_seconds - self._at_seconds
        self._at_seconds = now_seconds
        self._spent_seconds = max(0.0, self._spent_seconds - passed * _SHARE)
        return not self._queue and self._spent_seconds < TURN_SECONDS

    def spent(self, seconds: float) -> None:
        """A read that came was worked off for so long."""
        self._spent_seconds += seconds

    def wait(self, connection: Waits) -> None:
        """Give the connection a turn, behind those that wait already."""
        self._queue.append(connection)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        until = self.clock() + TURN_SECONDS
        try:
            # Each once: who waits again comes after the loop's other work.
            for _ in range(len(self._queue)):
                self._queue.popleft().take_turn()
                if self.clock() >= until:
                    break
        finally:
            if self._queue:
                self._schedule()
