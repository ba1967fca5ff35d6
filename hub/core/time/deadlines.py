"""A node's time: a clock that leaves out stalls, and one timer wheel for all coarse deadlines.

On a busy host, in a suspended machine or after SIGSTOP the clock goes on, and nothing is read.
Bytes from peers wait in the kernel meanwhile, so that time is not a peer's silence. `AwakeClock`
advances by little during a stall. A part that waits for a peer counts by it, and judges the peer
only after something has been read since.

    true time      0.00  0.05  (stopped)  30.05  30.10
    awake clock    0.00  0.05             0.30   0.35
    may judge      yes   yes              no     yes

`Deadlines` holds close time-outs, token ends and presence leaves. A timer of the event loop costs
a heap entry each; 15,000 idle sessions need none. An entry falls due at the first `tick` at or
after its time. Most deadlines wait for a peer and count by the awake clock: one that is 10 s away
when the node is stopped for a minute is 10 s away after it. A deadline with a time of its own, such
as the end of a token, counts by the true clock.
"""

from collections.abc import Callable

from hub.core.ports import Defer, Monotonic

# Fine enough for a 100 ms setting in a test, coarse enough to cost 20 wake-ups a second
# at most (`hub.observe.background`).
GRANULARITY_SECONDS = 0.05
# Some times come from peers, and a float may be infinite or too large to count steps to it. This is
# 100,000 years.
FARTHEST_SECONDS = 3.2e12
# The time of the callbacks of one tick; the next turn of the loop goes on with the others.
# Thousands of tokens may end in one second, and each end of a session takes 0.1 ms or more. Guess.
TICK_SECONDS = 0.001
# A tick is due every 0.05 s, or 0.1 s where little is to do. A tick that comes later than this is a
# stall. Less is the noise of any machine, and small beside a time-out of seconds. Guess, not
# measured.
MAX_STEP_SECONDS = 0.25


class AwakeClock:
    """Seconds from an arbitrary start, never backwards; one per node.

    The event loop calls `tick` at a steady pace, and reads from peers between two of them.
    """

    __slots__ = ("_at_seconds", "_clock", "_seconds", "_was_late", "stall_seconds")

    def __init__(self, clock: Monotonic) -> None:
        self._clock = clock
        self._at_seconds = clock()
        """Time of the last tick by the true clock."""
        self._seconds = self._at_seconds
        """Time of the last tick by this clock."""
        self._was_late = False
        self.stall_seconds = 0.0
        """Seconds that the last tick left out; 0 where it came in time."""

    def __call__(self) -> float:
        passed = self._clock() - self._at_seconds
        # Called for every publication. `min` would cost three times as much.
        return self._seconds + (passed if passed < MAX_STEP_SECONDS else MAX_STEP_SECONDS)  # noqa: FURB136

    def behind_seconds(self) -> float:
        """Return how far this clock is behind the true one: all stalls so far, with the present."""
        now = self._clock()
        return now - self._seconds - min(now - self._at_seconds, MAX_STEP_SECONDS)

    def tick(self) -> bool:
        """Advance the clock; return whether peers may be judged now.

        They may not in the first tick after a stall, because bytes that came meanwhile are still to
        be read. They always may in the second, or a node that is always late would never judge.
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


class Deadline:
    """A callback at a time; `cancel` frees the callback, and the entry at the next tick."""

    __slots__ = ("_cancelled", "bucket", "callback")

    def __init__(
        self, bucket: int, callback: Callable[[], None], cancelled: "list[Deadline]"
    ) -> None:
        self.bucket = bucket
        self.callback: Callable[[], None] | None = callback
        self._cancelled = cancelled

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self._cancelled.append(self)


class Deadlines:
    """All deadlines of one event loop, which calls `tick`.

    Args:
        behind_seconds: returns how long the node was held up so far.
        clock: measures the time of callbacks.
        defer: runs a callback in the loop's next turn; None leaves it all to the next tick.
    """

    def __init__(
        self,
        now_seconds: float,
        *,
        behind_seconds: Callable[[], float] = lambda: 0.0,
        clock: Monotonic = lambda: 0.0,
        defer: Defer | None = None,
    ) -> None:
        self._behind_seconds = behind_seconds
        self._clock = clock
        self._defer = defer
        self._deferred = False
        self._ticked_at = now_seconds
        self._patient = _Wheel(now_seconds - behind_seconds())
        self._punctual = _Wheel(now_seconds)

    def at(self, when_seconds: float, callback: Callable[[], None]) -> Deadline:
        """Call back at the first tick at or after this monotonic time, delayed by later stalls.

        Any float is allowed. A time too far away counts as `FARTHEST_SECONDS`, and NaN is due at
        once.
        """
        return self._patient.at(when_seconds - self._behind_seconds(), callback)

    def punctually_at(self, when_seconds: float, callback: Callable[[], None]) -> Deadline:
        """Call back as `at` does, but without a delay for stalls."""
        return self._punctual.at(when_seconds, callback)

    def tick(self, now_seconds: float) -> bool:
        """Run the callbacks that are due, in order of time, for `TICK_SECONDS` and one callback.

        Returns whether none is left. The others run in the loop's next turn.
        """
        self._ticked_at = now_seconds
        clock, until = self._clock, self._clock() + TICK_SECONDS
        done = self._punctual.tick(now_seconds, clock, until) and self._patient.tick(
            now_seconds - self._behind_seconds(), clock, until
        )
        if not done and self._defer is not None and not self._deferred:
            self._deferred = True
            self._defer(self._go_on)
        return done

    def _go_on(self) -> None:
        self._deferred = False
        self.tick(self._ticked_at)

    def due_within(self, seconds: float) -> bool:
        """Return whether a deadline is due within so long after the last tick."""
        steps = int(seconds / GRANULARITY_SECONDS)
        return self._punctual.due_within(steps) or self._patient.due_within(steps)

    def __len__(self) -> int:
        """Return how many entries wait, with those that were cancelled since the last tick."""
        return len(self._patient) + len(self._punctual)


class _Wheel:
    """A timer wheel with buckets of `GRANULARITY_SECONDS`."""

    def __init__(self, now_seconds: float) -> None:
        self._buckets: dict[int, dict[Deadline, None]] = {}
        self._next = _step(now_seconds)
        self._cancelled: list[Deadline] = []
        """Cancelled deadlines that are still in their buckets. Their time may be years away."""

    def at(self, when_seconds: float, callback: Callable[[], None]) -> Deadline:
        # `_step` inlined for the common case.
        if 0.0 <= when_seconds <= FARTHEST_SECONDS:
            bucket = int(when_seconds / GRANULARITY_SECONDS) + 1
        else:
            bucket = _step(when_seconds) + 1
        bucket = max(bucket, self._next)
        deadline = Deadline(bucket, callback, self._cancelled)
        if (waiting := self._buckets.get(bucket)) is None:
            waiting = self._buckets[bucket] = {}
        waiting[deadline] = None
        return deadline

    def due_within(self, steps: int) -> bool:
        return any(self._next + step in self._buckets for step in range(steps))

    def tick(self, now_seconds: float, clock: Monotonic, until: float) -> bool:
        """Run what is due until `until` of `clock`; return whether none is left."""
        self._forget_cancelled()
        through = _step(now_seconds)
        if through - self._next > len(self._buckets):
            due = sorted(bucket for bucket in self._buckets if bucket <= through)
        else:
            due = [b for b in range(self._next, through + 1) if b in self._buckets]
        # Before the callbacks: a deadline that they add must not go into a bucket that is done.
        self._next = through + 1
        for bucket in due:
            if bucket != due[0] and clock() >= until:
                self._next = bucket
                return False
            try:
                done = self._run(self._buckets[bucket], clock, until)
            except BaseException:
                self._next = bucket
                raise
            if not done:
                self._next = bucket
                return False
            del self._buckets[bucket]
        return True

    def _run(self, waiting: dict[Deadline, None], clock: Monotonic, until: float) -> bool:
        # Removed one by one: when a callback fails, the rest of the bucket is still due.
        for deadline in tuple(waiting):
            del waiting[deadline]
            if (callback := deadline.callback) is not None:
                deadline.callback = None
                callback()
                if waiting and clock() >= until:
                    return False
        return True

    def _forget_cancelled(self) -> None:
        for deadline in self._cancelled:
            if (waiting := self._buckets.get(deadline.bucket)) is not None:
                waiting.pop(deadline, None)
                if not waiting:
                    del self._buckets[deadline.bucket]
        self._cancelled.clear()

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self._buckets.values())


def _step(seconds: float) -> int:
    # In this order: Python's `max` and `min` keep their first argument beside a NaN.
    return int(min(FARTHEST_SECONDS, max(0.0, seconds)) / GRANULARITY_SECONDS)
