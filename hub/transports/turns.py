"""Shares the event loop among connections that have more to do than one turn may take.

A read is worked off as it comes while that is little. What is over a connection's piece, or
comes while others wait or much was read already, is queued here, and the queue gets a bounded
time in each turn of the loop. So broadcasts, heartbeats and other connections go on
meanwhile, whatever is sent and by how many.

There are two queues. What open connections send stands in one. Connections that begin or end stand
in the other: when a proxy or a network fails, all do so at once. 10,000 that come back take 3 s of
the loop; a publication beside them waits for some ms.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from hub.core.ports import Monotonic

# Of one connection before the next has its turn: some hundred publications.
PIECE_SECONDS = 0.0005
PIECE_FRAMES = 256
# Payload after inflating: one message of the largest size that a default hub reads.
PIECE_BYTES = 256 * 1024
# Of all connections in one turn of the loop. A publication takes three turns to who is subscribed:
# beside four peers that send commands without end it takes 1.6 ms in the middle, 10.6 with turns of
# 5 ms, and 200,000 pings are answered in the same time (measured). The other three are guesses.
TURN_SECONDS = 0.001
# What is read as it comes may take this share of the time; the rest waits for its turn.
_SHARE = 0.5


class Lane:
    """One queue; owned by the event loop."""

    def __init__(self, clock: Monotonic) -> None:
        self.clock = clock
        self._queue: deque[Callable[[], None]] = deque()
        self._scheduled = False
        self._spent_seconds = 0.0
        """What was done as it came; goes down with time."""
        self._at_seconds = clock()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    def may_begin(self, now_seconds: float) -> bool:
        """Whether work may be done as it comes: nobody waits, and little was done."""
        passed = now_seconds - self._at_seconds
        self._at_seconds = now_seconds
        self._spent_seconds = max(0.0, self._spent_seconds - passed * _SHARE)
        return not self._queue and self._spent_seconds < TURN_SECONDS

    def spent(self, seconds: float) -> None:
        """What came was worked off for so long."""
        self._spent_seconds += seconds

    def wait(self, turn: Callable[[], None]) -> None:
        """Have `turn` called, behind those that wait already; it does one piece of work."""
        self._queue.append(turn)
        self._schedule()

    def do(self, work: Callable[[], None]) -> None:
        """Do `work` now where little was done, else in its turn."""
        if not self.try_now(work):
            self.wait(work)

    def try_now(self, work: Callable[[], None]) -> bool:
        """Do `work` where little was done; return False, and do nothing, where it has to wait."""
        began = self.clock()
        if not self.may_begin(began):
            return False
        try:
            work()
        finally:
            self.spent(self.clock() - began)
        return True

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
                self._queue.popleft()()
                if self.clock() >= until:
                    break
        finally:
            if self._queue:
                self._schedule()


class Turns(Lane):
    """One per node: the queue of what open connections send."""

    def __init__(self, clock: Monotonic) -> None:
        super().__init__(clock)
        self.crowd = Lane(clock)
        """The queue of connections that begin or end."""
