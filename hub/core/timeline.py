"""When a channel's publications were written to its live subscribers, within a quarter second."""

from array import array
from bisect import bisect_left

RESOLUTION_SECONDS = 0.25
"""At most one mark in this time, so that a busy channel costs no more than any other."""
MAX_LOSSES = 1000
MARK_BYTES = 24
"""Of one mark: two numbers here, one place in the journal's order."""


class Timeline:
    """Marks of one channel and epoch, oldest first: by then everything up to an offset was sent."""

    __slots__ = ("_offsets", "_times", "began_offset", "losses", "name")

    def __init__(self, name: tuple[str, str], began_offset: int) -> None:
        self.name = name
        """Channel and epoch."""
        self.began_offset = began_offset
        """Offsets up to here were sent before the first mark that is still kept, if at all."""
        self.losses: list[tuple[int, int, str]] = []
        """First and last offset that never came to this node, and why."""
        self._times = array("d")
        self._offsets = array("q")

    def __len__(self) -> int:
        return len(self._times)

    def passed(self, offset: int, now_seconds: float) -> bool:
        """Everything up to `offset` has been sent; return whether that made a new mark."""
        times = self._times
        if len(times) > 1 and now_seconds - times[-2] < RESOLUTION_SECONDS:
            times[-1], self._offsets[-1] = now_seconds, offset
            return False
        times.append(now_seconds)
        self._offsets.append(offset)
        return True

    def when(self, offset: int) -> tuple[float, float] | None:
        """Between which two monotonic times it was sent; None for what is out of reach."""
        if offset <= self.began_offset or not self._offsets or offset > self._offsets[-1]:
            return None
        index = bisect_left(self._offsets, offset)
        until = self._times[index]
        after = self._times[index - 1] if index else until - RESOLUTION_SECONDS
        return max(after, until - RESOLUTION_SECONDS), until

    def lost(self, first: int, last: int, reason: str) -> None:
        """These offsets never came to this node."""
        self.losses.append((first, last, reason))
        if len(self.losses) > MAX_LOSSES:
            # What is not known to be lost must not be taken for sent.
            self.began_offset = max(self.began_offset, self.losses.pop(0)[1])

    def why_lost(self, offset: int) -> str | None:
        return next((why for first, last, why in self.losses if first <= offset <= last), None)

    # -- hub.core.journal.Keeps --------------------------------------------------------------

    @property
    def oldest_at(self) -> float:
        return self._times[0]

    def forget_oldest(self) -> int:
        self._times.pop(0)
        self.began_offset = self._offsets.pop(0)
        if self.losses:
            self.losses = [loss for loss in self.losses if loss[1] > self.began_offset]
        return MARK_BYTES
