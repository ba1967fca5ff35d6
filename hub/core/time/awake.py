"""Time in which this node could have read what its peers sent.

A busy host, a suspended machine, SIGSTOP: the clock goes on, and nothing is read. What peers
said meanwhile waits in the kernel, so none of that time is their silence. A part that waits for a
peer therefore counts by this clock, which goes on by little during a stall, and is asked to
look only when something has been read since.

    true time      0.00  0.05  (stopped)  30.05  30.10
    this clock     0.00  0.05             0.30   0.35
    look?          yes   yes              no     yes
"""

from hub.core.ports import Monotonic

# A tick is due every 0.05 s. One that comes later than this is a stall; less is the noise of any
# machine, and the difference to a time-out of seconds. Guess, not measured.
MAX_STEP_SECONDS = 0.25


class AwakeClock:
    """Seconds from an arbitrary start, never backwards; one per node.

    The event loop calls `tick` at a steady pace, and reads from peers between two of them.
    """

    __slots__ = ("_at_seconds", "_clock", "_seconds", "_was_late", "stall_seconds")

    def __init__(self, clock: Monotonic) -> None:
        self._clock = clock
        self._at_seconds = clock()
        """Of the last tick, by the true clock ..."""
        self._seconds = self._at_seconds
        """... and by this one."""
        self._was_late = False
        self.stall_seconds = 0.0
        """What the last tick left out; 0 where it came in time."""

    def __call__(self) -> float:
        passed = self._clock() - self._at_seconds
        # Asked for every publication: a third of what `min` costs.
        return self._seconds + (passed if passed < MAX_STEP_SECONDS else MAX_STEP_SECONDS)  # noqa: FURB136

    def behind_seconds(self) -> float:
        """By how much it is behind the true clock: all stalls so far, also the present one."""
        now = self._clock()
        return now - self._seconds - min(now - self._at_seconds, MAX_STEP_SECONDS)

    def tick(self) -> bool:
        """Go on; return whether peers may be judged now.

        Not in the first tick after a stall: what came meanwhile is still to be read. In the one
        after it always, or a node that is late all the time would never judge anybody.
        """
        now = self._clock()
        passed = now - self._at_seconds
        self.stall_seconds = max(0.0, passed - MAX_STEP_SECONDS)
        self._seconds += passed - self.stall_seconds
        self._at_seconds = now
        late = self.stall_seconds > 0
        may_judge = self._was_late or not late
        self._was_late = late
        return may_judge
