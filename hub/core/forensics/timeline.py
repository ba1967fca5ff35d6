"""When a channel's publications were written to its live subscribers, within a quarter second."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

RESOLUTION_SECONDS = 0.25
"""At most one mark in this time, so that a busy channel costs no more than any other."""
MAX_LOSSES = 1000
MARK_BYTES = 32
"""Of one mark: three numbers here, one place in the journal's order."""
# Both measured with `tracemalloc`: 700 for a timeline with its texts and its place in the
# journal, 150 for a loss.
TIMELINE_BYTES = 700
LOSS_BYTES = 160
MAX_BRIEF = 1000
# A guess: two integers and a place in a dictionary.
BRIEF_BYTES = 160
_AWAY = ""
"""Why nothing was sent while nobody subscribed here: no loss, but no sending either."""


class Timeline:
    """Marks of one channel and epoch, oldest first: by then everything up to an offset was sent."""

    __slots__ = (
        "_brief", "_offsets", "_since", "_times", "began_offset", "kept_offset", "losses", "name",
    )  # fmt: skip

    def __init__(self, name: tuple[str, str], began_offset: int) -> None:
        self.name = name
        """Channel and epoch."""
        self.began_offset = began_offset
        """Offsets up to here were sent before the first mark that is still kept, if at all."""
        self.kept_offset = 0
        """Up to here it was handed to an archive, where there is one."""
        self.losses: list[tuple[int, int, str]] = []
        """First and last offset that were not sent, and why; `_AWAY` while nobody was here."""
        self._brief: dict[int, int] | None = None
        """Those that history was to keep for so many milliseconds only; None without any."""
        self._since = array("d")
        """When the first that a mark stands for came, here or from history: nobody was sent it
        earlier."""
        self._times = array("d")
        self._offsets = array("q")

    def __len__(self) -> int:
        return len(self._times)

    @property
    def last(self) -> int:
        """Up to here it is known what was sent and what was not."""
        return self._offsets[-1] if self._offsets else self.began_offset

    @property
    def awaits_batch(self) -> bool:
        """Whether something is noted of a batch that is still to be sent, where no mark is kept.

        A loss must not be taken for sent, and what history does not keep must not go uncounted.
        """
        return bool(self.losses or self._brief)

    def reaches(self, offset: int) -> bool:
        """Whether it is still known if that was sent or lost."""
        return self.began_offset < offset <= self.last

    def passed(self, offset: int, *, since_seconds: float, now_seconds: float) -> bool:
        """Everything up to `offset` has been sent; return whether that made a new mark.

        What is new of it came after `since_seconds`: a long broadcast takes its time.
        """
        times = self._times
        if len(times) > 1 and now_seconds - times[-2] < RESOLUTION_SECONDS:
            times[-1], self._offsets[-1] = now_seconds, offset
            self._since[-1] = min(self._since[-1], since_seconds)
            return False
        self._since.append(since_seconds)
        times.append(now_seconds)
        self._offsets.append(offset)
        return True

    def when(self, offset: int) -> tuple[float, float] | None:
        """Between which two monotonic times it was sent, or its loss announced.

        None for what is out of reach, and for what came while nobody was here.
        """
        if not self.reaches(offset) or self._loss(offset) == _AWAY:
            return None
        index = bisect_left(self._offsets, offset)
        return self._since[index], self._times[index]

    def between(self, from_seconds: float, to_seconds: float) -> tuple[int, int] | None:
        """The first and the last offset that may have been sent in that time."""
        first = bisect_left(self._times, from_seconds)
        end = bisect_right(self._since, to_seconds)
        if first >= end:
            return None
        before = self._offsets[first - 1] if first else self.began_offset
        return before + 1, self._offsets[end - 1]

    def lost(self, first: int, last: int, reason: str = _AWAY) -> int:
        """These offsets never came to this node; return how many bytes more that takes."""
        self.losses.append((first, last, reason))
        if len(self.losses) <= MAX_LOSSES:
            return LOSS_BYTES
        # What is not known to be lost must not be taken for sent.
        self.began_offset = max(self.began_offset, self.losses.pop(0)[1])
        return 0

    def brief_one(self, offset: int, keep_ms: int) -> int:
        """History keeps it for so long only; return how many bytes more that takes."""
        if self._brief is None:
            self._brief = {}
        self._brief[offset] = keep_ms
        if len(self._brief) <= MAX_BRIEF:
            return BRIEF_BYTES
        del self._brief[next(iter(self._brief))]
        return 0

    def kept_ms(self, offset: int) -> int | None:
        """How long history was to keep it, where that is less than its channel's time."""
        return None if self._brief is None else self._brief.get(offset)

    def why_lost(self, offset: int) -> str | None:
        return self._loss(offset) or None

    def _loss(self, offset: int) -> str | None:
        return next((why for first, last, why in self.losses if first <= offset <= last), None)

    # -- kept longer than here -----------------------------------------------------------------

    def is_growing(self, now_seconds: float) -> bool:
        """Whether its newest mark may still come to stand for more."""
        return bool(self._times) and now_seconds - self._times[-1] < 2 * RESOLUTION_SECONDS

    def marks(self, after: int) -> list[tuple[float, float, int]]:
        """Those that end beyond `after`: since when, by when, up to which offset."""
        begin = bisect_right(self._offsets, after)
        return list(
            zip(self._since[begin:], self._times[begin:], self._offsets[begin:], strict=True)
        )

    def add(self, base: int, marks: Iterable[tuple[float, float, int]]) -> None:
        """Take in what was read of the time after: nothing is known of what lies between."""
        if base > self.last:
            self.losses.append((self.last + 1, base, _AWAY))
        for since, at, offset in marks:
            if offset > self.last:
                self._since.append(since)
                self._times.append(at)
                self._offsets.append(offset)

    def before(self, newer: "Timeline | None") -> "Timeline":
        """This one, and from its end on the newer one."""
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
        self.began_offset = max(self.began_offset, self._offsets.pop(0))
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
