"""All of a node's coarse timers behind one: close time-outs, token ends, presence leaves.

A timer of the event loop costs a heap entry each; 15,000 sessions need none while idle.
Entries fall due at the first `tick` at or after their time. No clock of its own.

Most of them wait for a peer. For these a stall of the node takes no time (`hub.core.time.awake`):
one that is 10 s off when the node is stopped for a minute is 10 s off after it. What ends at a
time of its own, as a token does, is kept apart from that.
"""

from collections.abc import Callable

# Fine enough for a 100 ms setting in a test, coarse enough to cost 20 wake-ups a second.
GRANULARITY_SECONDS = 0.05
# Times come from outside too, and a float may be infinite or too large to count steps to it.
# 100,000 years: nobody sees the difference.
FARTHEST_SECONDS = 3.2e12


class Deadline:
    """One callback at one time; `cancel` frees what it holds, and its place at the next tick."""

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
    """One event loop owns them and calls `tick`.

    Args:
        behind_seconds: for how long the node was held up so far.
    """

    def __init__(
        self, now_seconds: float, *, behind_seconds: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._behind_seconds = behind_seconds
        self._patient = _Wheel(now_seconds - behind_seconds())
        self._punctual = _Wheel(now_seconds)

    def at(self, when_seconds: float, callback: Callable[[], None]) -> Deadline:
        """Call back at the first tick at or after this monotonic time, and as much later as the
        node is held up until then.

        Any float is a time: one that is too far off is `FARTHEST_SECONDS`, and what is no
        number is due at once.
        """
        return self._patient.at(when_seconds - self._behind_seconds(), callback)

    def punctually_at(self, when_seconds: float, callback: Callable[[], None]) -> Deadline:
        """As `at`, but at that time and no later, whatever holds the node up."""
        return self._punctual.at(when_seconds, callback)

    def tick(self, now_seconds: float) -> None:
        """Run what is due, in order of time."""
        self._punctual.tick(now_seconds)
        self._patient.tick(now_seconds - self._behind_seconds())

    def __len__(self) -> int:
        """Entries waiting, those included that were cancelled since the last tick."""
        return len(self._patient) + len(self._punctual)


class _Wheel:
    """Buckets of `GRANULARITY_SECONDS`."""

    def __init__(self, now_seconds: float) -> None:
        self._buckets: dict[int, dict[Deadline, None]] = {}
        self._next = _step(now_seconds)
        self._cancelled: list[Deadline] = []
        """Those that still stand in their buckets: their time may be years away."""

    def at(self, when_seconds: float, callback: Callable[[], None]) -> Deadline:
        # As `_step`, without a call for what is nearly always so.
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

    def tick(self, now_seconds: float) -> None:
        self._forget_cancelled()
        through = _step(now_seconds)
        if through - self._next > len(self._buckets):
            due = sorted(bucket for bucket in self._buckets if bucket <= through)
        else:
            due = [b for b in range(self._next, through + 1) if b in self._buckets]
        # First: what a callback adds must not get into a bucket that is through already.
        self._next = through + 1
        for bucket in due:
            try:
                self._run(self._buckets[bucket])
            except BaseException:
                self._next = bucket
                raise
            del self._buckets[bucket]

    def _run(self, waiting: dict[Deadline, None]) -> None:
        # Taken out one by one: what is left of a bucket when a callback fails is due still.
        for deadline in tuple(waiting):
            del waiting[deadline]
            if (callback := deadline.callback) is not None:
                deadline.callback = None
                callback()

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
