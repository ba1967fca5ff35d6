"""The one deadline of a connection: that of the state it is in."""

from collections.abc import Callable

from hub.core.ports import Monotonic
from hub.core.time.deadlines import Deadline, Deadlines


class StateTimer:
    """Calls back when a state has taken too long.

    Requests that follow each other move the deadline many thousand times a second, nearly always
    away. The entry that waits is therefore left where it is, and looks when it fires whether its
    time has come; only a deadline that is nearer than the entry needs a new one.
    """

    __slots__ = ("_clock", "_deadlines", "_due", "_entry", "_entry_due", "_late")

    def __init__(self, deadlines: Deadlines, clock: Monotonic, late: Callable[[], None]) -> None:
        self._deadlines = deadlines
        self._clock = clock
        self._late = late
        self._due = 0.0
        self._entry: Deadline | None = None
        self._entry_due = 0.0

    def begin(self, seconds: float | None) -> None:
        """Call back in `seconds`; None never does."""
        if seconds is None:
            self.cancel()
            return
        self._due = self._clock() + seconds
        if self._entry is None or self._entry_due > self._due:
            self._arm()

    def close(self) -> None:
        """Cancel, and let go of who was to be called."""
        self.cancel()
        self._late = _nobody

    def cancel(self) -> None:
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None

    def _arm(self) -> None:
        self.cancel()
        self._entry_due = self._due
        self._entry = self._deadlines.at(self._due, self._fire)

    def _fire(self) -> None:
        self._entry = None
        if self._clock() < self._due:
            self._arm()
        else:
            self._late()


def _nobody() -> None:
    """Stands for the owner of a timer that was closed."""
