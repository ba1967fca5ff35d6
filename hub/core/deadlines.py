"""All of a node's coarse timers behind one: close time-outs, token ends, presence leaves.

A timer of the event loop costs a heap entry each; 15,000 sessions need none while idle.
Entries fall due at the first `tick` at or after their time. No clock of its own.
"""

from collections import deque
from collections.abc import Callable

# Fine enough for a 100 ms setting in a test, coarse enough to cost 20 wake-ups a second.
GRANULARITY_SECONDS = 0.05


class Deadline:
    """One callback at one time; `cancel` frees what it holds at once."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Deadlines:
    """Buckets of `GRANULARITY_SECONDS`; one event loop owns them and calls `tick`."""

    def __init__(self, now_seconds: float) -> None:
        self._buckets: dict[int, deque[Deadline]] = {}
        self._next = int(now_seconds / GRANULARITY_SECONDS)

    def at(self, when_seconds: float, callback: Callable[[], None]) -> Deadline:
        """Call back at the first tick at or after this monotonic time."""
        bucket = max(int(when_seconds / GRANULARITY_SECONDS) + 1, self._next)
        deadline = Deadline(callback)
        self._buckets.setdefault(bucket, deque()).append(deadline)
        return deadline

    def tick(self, now_seconds: float) -> None:
        """Run what is due, in order of time."""
        through = int(now_seconds / GRANULARITY_SECONDS)
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

    def _run(self, waiting: deque[Deadline]) -> None:
        # Taken out one by one: what is left of a bucket when a callback fails is due still.
        while waiting:
            deadline = waiting.popleft()
            if (callback := deadline.callback) is not None:
                deadline.callback = None
                callback()

    def __len__(self) -> int:
        """Entries waiting, cancelled ones included."""
        return sum(len(bucket) for bucket in self._buckets.values())
