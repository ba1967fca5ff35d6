"""Shares the event loop among connections that have more to do than one turn may take.

A small read is worked off as it comes. Bytes above a connection's piece, and reads that come while
others wait or after much was read, are queued here, and the queue gets a bounded time in each turn
of the loop. So broadcasts, heartbeats and other connections go on meanwhile, however much is sent,
and by however many peers.

Addresses take turns in a queue, and the connections of each in theirs. So a peer with one
connection waits for one piece of each address that is busy. Example: beside an address with 200
busy connections it waits for one of them, and not for 200.

There are two queues. Reads of open connections stand in one. Connections that begin or end stand in
the other: when a proxy or a network fails, all do so at once. 10,000 that come back take 3 s of the
loop; a publication beside them waits for some ms.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from hub.core.limits import party
from hub.core.ports import Monotonic

# The time of one connection before the next has its turn: some ten publications.
PIECE_SECONDS = 0.00015
PIECE_FRAMES = 256
# Payload after inflating: one message of the largest size that a default hub reads.
PIECE_BYTES = 256 * 1024
# The time of all connections in one turn of the loop, which is entered again for some 10 us. A
# publication takes three turns to its subscribers, and waits for these beside a flood.
TURN_SECONDS = 0.0003
# Where the loop's other work takes long, a turn takes this share of it, up to a bound. Example: a
# publication to 1,000 subscribers takes 7 ms. With turns of 0.3 ms behind each the hub took in 500
# publications a second, and could write what 2,600 come to (measured). The share is a guess.
_OF_OTHER_WORK = 0.25
_MAX_TURN_SECONDS = 0.005
# The time of a request that a task answers, until it waits: that of a poll. Measured.
TASK_SECONDS = 0.0002
# Reads that are worked off as they come may take this share of the time; others wait for a turn.
_SHARE = 0.5


class Lane:
    """One queue; owned by the event loop.

    Args:
        worked: returns the seconds for which the loop's thread has worked; `clock` where that is
            None. A thread that waits for a core does no other work meanwhile, and a turn that took
            a share of that wait too made the wait of others longer.
    """

    def __init__(self, clock: Monotonic, worked: Monotonic | None = None) -> None:
        self.clock = clock
        self._worked = worked or clock
        self._queues: dict[str, deque[Callable[[], None]]] = {}
        """Callbacks that wait, by address."""
        self._addresses: deque[str] = deque()
        """These addresses; the first has the next turn. The first entry of a dictionary is not
        asked for: that takes a look at each that was before it."""
        self._waiting = 0
        self._scheduled = False
        self._scheduled_at = 0.0
        """When the next turn was asked for, by `worked`. The loop has done other work since."""
        self._until = 0.0
        """The end of the turn that runs now."""
        self._spent_seconds = 0.0
        """The time of work that was done as it came; goes down with time."""
        self._at_seconds = clock()

    def __len__(self) -> int:
        """Return the number of callbacks that wait."""
        return self._waiting

    def may_begin(self, now_seconds: float) -> bool:
        """Return whether work may be done as it comes: none waits, and little was done."""
        left = self._spent_seconds - (now_seconds - self._at_seconds) * _SHARE
        self._at_seconds = now_seconds
        # Called for each read. `max` would cost three times as much.
        self._spent_seconds = spent = left if left > 0.0 else 0.0  # noqa: FURB136
        return spent < TURN_SECONDS and not self._waiting

    def spent(self, seconds: float) -> None:
        """Count time for which work was done as it came."""
        self._spent_seconds += seconds

    def wait(self, turn: Callable[[], None], address: str = "") -> None:
        """Have `turn` called, which does one piece, behind the callbacks of `address` that wait."""
        one = party(address)
        if (queue := self._queues.get(one)) is None:
            queue = self._queues[one] = deque()
            self._addresses.append(one)
        queue.append(turn)
        self._waiting += 1
        self._schedule()

    def do(self, work: Callable[[], None], address: str = "") -> None:
        """Do `work` now where little was done, else in its turn."""
        if not self.try_now(work):
            self.wait(work, address)

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

    def cancel(self, task: "asyncio.Task[None]", address: str = "") -> None:
        """Cancel a task as `do` does its work: what the task then does counts too."""

        def end() -> None:
            if not task.done():
                self._until -= TASK_SECONDS
                self._spent_seconds += TASK_SECONDS
                task.cancel()

        self.do(end, address)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._scheduled_at = self._worked()
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        began, left = self.clock(), self._waiting
        other = self._worked() - self._scheduled_at
        share = min(other * _OF_OTHER_WORK, _MAX_TURN_SECONDS)
        self._until = began + max(share, TURN_SECONDS)
        try:
            while self._waiting:
                self._next()()
                left -= 1
                if self.clock() >= self._until:
                    break
                if left <= 0 and share <= TURN_SECONDS:
                    # Callbacks that wait again come after the loop's other work, which is short.
                    break
        finally:
            if self._waiting:
                self._schedule()

    def _next(self) -> Callable[[], None]:
        """Return the next callback of the first address, which then is behind all others."""
        one = self._addresses.popleft()
        queue = self._queues[one]
        turn = queue.popleft()
        if queue:
            self._addresses.append(one)
        else:
            del self._queues[one]
        self._waiting -= 1
        return turn


class Turns(Lane):
    """The queue of reads of open connections; one per node."""

    def __init__(self, clock: Monotonic, worked: Monotonic | None = None) -> None:
        super().__init__(clock, worked)
        self.crowd = Lane(clock, worked)
        """The queue of connections that begin or end."""
        self._read_until = 0.0
        self._reads = False
        """Whether something was read in this turn of the loop."""

    def has_read_enough(self) -> bool:
        """Return whether this turn of the loop has read for its time, so that other reads wait.

        For reads that take little each: it asks the clock once.
        """
        now = self.clock()
        if now < self._read_until:
            return False
        if self._reads:
            return True
        self._reads = True
        self._read_until = now + TURN_SECONDS
        asyncio.get_running_loop().call_soon(self.end_reads)
        return False

    def charge(self, seconds: float) -> None:
        """Count the time of work that this turn of the loop has begun and a task goes on with."""
        self._read_until -= seconds
        self._until -= seconds

    def end_reads(self) -> None:
        """Begin the next turn of the loop."""
        self._reads = False
        self._read_until = 0.0
