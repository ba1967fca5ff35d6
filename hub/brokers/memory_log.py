"""One channel's sequence in memory: numbers publications and keeps the newest of them."""

from itertools import islice

from hub.core.options import ChannelOptions
from hub.core.ports import PAGE_BYTES, HistoryPage
from hub.core.publication import Position, Publication

# The list's dead head is cut off when it is this long and the larger part.
_COMPACT_FROM = 256


class ChannelLog:
    """Offsets are contiguous, so a publication's place follows from its offset."""

    __slots__ = ("_first", "_kept", "epoch", "offset", "options", "subscribed", "used_at_seconds")

    def __init__(self, epoch: str, options: ChannelOptions, now_seconds: float) -> None:
        self.epoch = epoch
        self.options = options
        self.offset = 0
        self.subscribed = False
        self.used_at_seconds = now_seconds
        self._kept: list[Publication | None] = []
        self._first = 0
        """Index in `_kept` of the oldest one still held."""

    @property
    def head(self) -> Position:
        return Position(self.epoch, self.offset)

    def __len__(self) -> int:
        return len(self._kept) - self._first

    @property
    def oldest(self) -> int:
        """The first offset held; `offset + 1` when none is."""
        return self.offset - len(self) + 1

    def append(self, publication: Publication) -> None:
        """Take the publication numbered `offset + 1`."""
        self.offset = publication.offset
        if self.options.keeps_history:
            self._kept.append(publication)
            if len(self) > self.options.history_size:
                self._drop_first()

    def trim(self, now_ms: int) -> None:
        """Let go of what is older than `history_ttl_seconds`."""
        limit = now_ms - self.options.history_ttl_seconds * 1000
        while len(self) and (first := self._kept[self._first]) and first.time_ms < limit:
            self._drop_first()

    def _drop_first(self) -> None:
        self._kept[self._first] = None
        self._first += 1
        if self._first >= _COMPACT_FROM and self._first * 2 > len(self._kept):
            del self._kept[: self._first]
            self._first = 0

    def page(self, after: int, limit: int, max_bytes: int = PAGE_BYTES) -> HistoryPage:
        """At most `limit` publications with offsets above `after`, oldest first.

        Their data has at most `max_bytes`, or they are one.
        """
        start = self._first + max(after + 1 - self.oldest, 0)
        found: list[Publication] = []
        for item in islice(self._kept, start, start + limit):
            if item is not None:
                max_bytes -= len(item.data)
                if max_bytes < 0 and found:
                    break
                found.append(item)
        return HistoryPage(self.head, self.oldest, tuple(found))
