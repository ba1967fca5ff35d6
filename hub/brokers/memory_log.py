"""One channel's sequence in memory: numbers publications and keeps the newest of them."""

from itertools import islice

from hub.brokers.memory_history import HistoryBudget
from hub.core.options import ChannelOptions
from hub.core.ports import PAGE_BYTES, HistoryPage
from hub.core.publication import Position, Publication

# The lists' dead heads are cut off when they are this long and the larger part.
_COMPACT_FROM = 256
_GONE = Publication("", 0, b"", 0)
"""In the place of what is held no longer."""


class ChannelLog:
    """Offsets are contiguous, so a publication's place follows from its offset."""

    __slots__ = (
        "_at", "_budget", "_first", "_keeps", "_kept", "epoch", "name", "offset", "options",
        "subscribed", "superseded", "used_at_seconds",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        epoch: str,
        options: ChannelOptions,
        now_seconds: float,
        budget: HistoryBudget,
    ) -> None:
        """`budget` is what all logs of a broker share."""
        self.name = name
        self.epoch = epoch
        self.options = options
        self.offset = 0
        self.subscribed = False
        self.used_at_seconds = now_seconds
        self.superseded = 0
        """The budget's: how many of its marks stand for publications that are gone already."""
        self._budget = budget
        self._keeps = options.keeps_history
        self._kept: list[Publication] = []
        self._at: list[float] = []
        """When each of them was taken, monotonic: a wall clock that jumps ages nothing."""
        self._first = 0
        """Index in both of the oldest one still held."""

    @property
    def head(self) -> Position:
        return Position(self.epoch, self.offset)

    def __len__(self) -> int:
        return len(self._kept) - self._first

    @property
    def oldest(self) -> int:
        """The first offset held; `offset + 1` when none is."""
        return self.offset - len(self) + 1

    def append(self, publication: Publication, now_seconds: float) -> None:
        """Take the publication numbered `offset + 1`."""
        self.offset = publication.offset
        if self._keeps:
            self._kept.append(publication)
            self._at.append(now_seconds)
            if len(self._kept) - self._first > self.options.history_size:
                self._budget.give_back(self, self.drop_first())
            self._budget.take(self, publication)

    def trim(self, now_seconds: float) -> None:
        """Let go of what is older than `history_ttl_seconds`."""
        limit = now_seconds - self.options.history_ttl_seconds
        if not len(self) or self._at[self._first] >= limit:
            return
        while len(self) and self._at[self._first] < limit:
            self._budget.give_back(self, self.drop_first())
        if not len(self):
            self._budget.on_empty(self)

    def clear(self) -> None:
        """Let go of all."""
        while len(self):
            self._budget.give_back(self, self.drop_first())

    def drop_first(self) -> Publication:
        """Hold the oldest no longer and return it; whoever calls it settles with the budget."""
        dropped = self._kept[self._first]
        self._kept[self._first] = _GONE
        self._first += 1
        if self._first >= _COMPACT_FROM and self._first * 2 > len(self._kept):
            del self._kept[: self._first]
            del self._at[: self._first]
            self._first = 0
        return dropped

    def page(self, after: int, limit: int, max_bytes: int = PAGE_BYTES) -> HistoryPage:
        """At most `limit` publications with offsets above `after`, oldest first.

        Their data has at most `max_bytes`, or they are one.
        """
        start = self._first + max(after + 1 - self.oldest, 0)
        found: list[Publication] = []
        for item in islice(self._kept, start, start + limit):
            max_bytes -= len(item.data)
            if max_bytes < 0 and found:
                break
            found.append(item)
        return HistoryPage(self.head, self.oldest, tuple(found))
