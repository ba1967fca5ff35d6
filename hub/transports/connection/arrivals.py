"""The deadline of connections that have sent nothing yet: one for all of them.

Each has the same time, so they fall due in the order in which they came. A deadline for each, made
and cancelled within a millisecond, was a twentieth of the cost of a connect.
"""

from collections.abc import Callable
from itertools import islice, takewhile

from hub.core.ports import Monotonic
from hub.core.time.deadlines import Deadlines

# So many are told in one tick that they are late: each takes 2 us, and has a turn for the rest.
_TOLD_AT_ONCE = 512


class Arrivals:
    """Connections that have sent nothing yet; one per node.

    Args:
        seconds: the time of each until its first request begins.
    """

    __slots__ = ("_armed", "_clock", "_deadlines", "_seconds", "_waiting")

    def __init__(self, deadlines: Deadlines, clock: Monotonic, seconds: float) -> None:
        self._deadlines = deadlines
        self._clock = clock
        self._seconds = seconds
        self._armed = False
        self._waiting: dict[Callable[[], None], float] = {}
        """Callbacks of the connections with their deadlines, in the order of these."""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, late: Callable[[], None]) -> None:
        """Call `late` when the time is over, unless it is discarded before."""
        self._waiting[late] = due = self._clock() + self._seconds
        if not self._armed:
            self._arm(due)

    def discard(self, late: Callable[[], None]) -> None:
        """Call `late` no more. Harmless when repeated."""
        self._waiting.pop(late, None)

    def _arm(self, due: float) -> None:
        # Never cancelled: when it fires, the connection that is first by then may have time left.
        self._armed = True
        self._deadlines.at(due, self._fire)

    def _fire(self) -> None:
        self._armed = False
        now = self._clock()
        # One look at those that are due: to ask for the first of a dictionary takes a look at each
        # that was before it.
        over = takewhile(lambda each: each[1] <= now, self._waiting.items())
        try:
            for late, _ in tuple(islice(over, _TOLD_AT_ONCE)):
                if self._waiting.pop(late, None) is not None:
                    late()
        finally:
            # Also where a callback has failed: the others keep their deadline.
            if self._waiting and not self._armed:
                self._arm(next(iter(self._waiting.values())))
