"""The times at which a channel's publications were sent to live subscribers, to 0.25 s."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from math import inf

RESOLUTION_SECONDS = 0.25
"""At most one mark in this time, so that a busy channel costs no more than any other."""
MAX_LOSSES = 1000
MARK_BYTES = 32
"""Bytes of one mark: three numbers here, one place in the journal's order."""
# Both measured with `tracemalloc`: 700 for a timeline with its texts and its place in the
# journal, 150 for a loss.
TIMELINE_BYTES = 700
LOSS_BYTES = 160
MAX_BRIEF = 1000
# A guess: two integers and a place in a dictionary.
BRIEF_BYTES = 160
_AWAY = ""
"""The reason of a range that came while nobody subscribed here: neither lost nor sent."""


class Timeline:
    """The marks of one channel and epoch, oldest first.

    A mark is a time by which everything up to an offset was sent.
    """

    __slots__ = (
        "_brief", "_grows_until", "_offsets", "_since", "_times", "began_offset", "kept_offset",
        "last", "losses", "name",
    )  # fmt: skip

    def __init__(self, name: tuple[str, str], began_offset: int) -> None:
        self.name = name
        """Channel and epoch."""
        self.began_offset = began_offset
        """Offsets up to this one were sent before the first kept mark, if at all."""
        self.last = began_offset
        """The last offset of which it is known whether it was sent: that of the newest mark, or
        `began_offset` without any."""
        self.kept_offset = 0
        """The offset up to which it was handed to an archive."""
        self.losses: list[tuple[int, int, str]] = []
        """First and last offset of ranges that were not sent, and the reason."""
        self._brief: dict[int, int] | None = None
        """Milliseconds in history of offsets with less than the channel's time; None for none."""
        self._since = array("d")
        """Arrival of the first offset of each mark. It was not sent to any member before."""
        self._times = array("d")
        self._offsets = array("q")
        self._grows_until = -inf
        """Until when the newest mark may move on, so that it is not too long after the one before.
        """

    def __len__(self) -> int:
        return len(self._times)

    @property
    def awaits_batch(self) -> bool:
        """Whether it has notes on a batch that is not sent yet, so that it must stay without marks.

        A loss must not count as sent, and bytes of notes must stay counted.
        """
        return bool(self.losses or self._brief)

    def reaches(self, offset: int) -> bool:
        """Return whether it is still known if `offset` was sent or lost."""
        return self.began_offset < offset <= self.last

    def passed(self, offset: int, *, since_seconds: float, now_seconds: float) -> bool:
        """Mark everything up to `offset` as sent; return whether that made a new mark.

        The new part came after `since_seconds`: a long broadcast takes time.
        """
        if self.goes_on(self.last, offset, since_seconds, now_seconds):
            return False
        self.last = offset
        self._since.append(since_seconds)
        if times := self._times:
            self._grows_until = times[-1] + RESOLUTION_SECONDS
        times.append(now_seconds)
        self._offsets.append(offset)
        return True

    def goes_on(self, base: int, last: int, since_seconds: float, now_seconds: float) -> bool:
        """Move the newest mark on to `last`; return False where that takes a new mark.

        It also returns False, and changes nothing, where the offsets after `base` do not follow
        those of the newest mark.
        """
        if base != self.last or now_seconds >= self._grows_until:
            return False
        self.last = self._offsets[-1] = last
        self._times[-1] = now_seconds
        # Called for each publication. `min` would cost three times as much.
        if since_seconds < self._since[-1]:  # noqa: PLR1730
            self._since[-1] = since_seconds
        return True

    def when(self, offset: int) -> tuple[float, float] | None:
        """Return the two monotonic times between which `offset` was sent, or announced as lost.

        None where it is out of reach, or came while nobody subscribed here.
        """
        if not self.reaches(offset) or self._loss(offset) == _AWAY:
            return None
        index = bisect_left(self._offsets, offset)
        return self._since[index], self._times[index]

    def between(self, from_seconds: float, to_seconds: float) -> tuple[int, int] | None:
        """Return the first and the last offset that may have been sent in that time."""
        first = bisect_left(self._times, from_seconds)
        end = bisect_right(self._since, to_seconds)
        if first >= end:
            return None
        before = self._offsets[first - 1] if first else self.began_offset
        return before + 1, self._offsets[end - 1]

    def lost(self, first: int, last: int, reason: str = _AWAY) -> int:
        """Record that these offsets never came to this node; return the bytes that it adds."""
        self.losses.append((first, last, reason))
        if len(self.losses) <= MAX_LOSSES:
            return LOSS_BYTES
        # A loss that is forgotten must not count as sent.
        self._begin_after(self.losses.pop(0)[1])
        return 0

    def _begin_after(self, offset: int) -> None:
        """Forget whether offsets up to this one were sent."""
        self.began_offset = max(self.began_offset, offset)
        if not self._offsets:
            self.last = self.began_offset

    def brief_one(self, offset: int, keep_ms: int) -> int:
        """Record how long history keeps a publication; return the bytes that it adds."""
        if self._brief is None:
            self._brief = {}
        self._brief[offset] = keep_ms
        if len(self._brief) <= MAX_BRIEF:
            return BRIEF_BYTES
        del self._brief[next(iter(self._brief))]
        return 0

    def kept_ms(self, offset: int) -> int | None:
        """Return how long history keeps `offset`, where that is less than the channel's time."""
        return None if self._brief is None else self._brief.get(offset)

    def why_lost(self, offset: int) -> str | None:
        return self._loss(offset) or None

    def _loss(self, offset: int) -> str | None:
        return next((why for first, last, why in self.losses if first <= offset <= last), None)

    # -- for an archive ------------------------------------------------------------------------

    def is_growing(self, now_seconds: float) -> bool:
        """Return whether its newest mark may still be extended."""
        return bool(self._times) and now_seconds - self._times[-1] < 2 * RESOLUTION_SECONDS

    def marks(self, after: int) -> list[tuple[float, float, int]]:
        """Return the marks that end after the offset `after`: since when, by when, up to which."""
        begin = bisect_right(self._offsets, after)
        return list(
            zip(self._since[begin:], self._times[begin:], self._offsets[begin:], strict=True)
        )

    def add(self, base: int, marks: Iterable[tuple[float, float, int]]) -> None:
        """Add archived marks of the time after `base`. Nothing is known of a range in between."""
        if base > self.last:
            self.losses.append((self.last + 1, base, _AWAY))
        for since, at, offset in marks:
            if offset > self.last:
                self._since.append(since)
                self._times.append(at)
                self._offsets.append(offset)
                self.last = offset

    def before(self, newer: "Timeline | None") -> "Timeline":
        """Extend this timeline from its end on by a newer one, and return it."""
        if newer is not None:
            end = self.last
            self.add(newer.began_offset, newer.marks(end))
            self.losses += [loss for loss in newer.losses if loss[1] > end]
        return self

    # -- hub.core.forensics.journal.Keeps ----------------------------------------------------

    @property
    def oldest_at(self) -> float:
        return self._times[0]

    def forget_oldest(self) -> int:
        self._times.pop(0)
        self._since.pop(0)
        if len(self._times) < 2:
            self._grows_until = -inf
        self._begin_after(self._offsets.pop(0))
        kept = [loss for loss in self.losses if loss[1] > self.began_offset]
        freed = MARK_BYTES + LOSS_BYTES * (len(self.losses) - len(kept))
        self.losses = kept
        return freed + self._forget_brief()

    def _forget_brief(self) -> int:
        if not self._brief:
            return 0
        gone = [offset for offset in self._brief if offset <= self.began_offset]
        for offset in gone:
            del self._brief[offset]
        return BRIEF_BYTES * len(gone)
