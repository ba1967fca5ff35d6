"""The history of channels in memory: one log for each, and a bound on what all hold together.

A log numbers a channel's publications and keeps the newest of them. At the bound the oldest
publications go first, over all channels, by age: a session that resumes from before them gets a
gap `expired`. No I/O, no clock; constant work for each publication, taken over many.

A million publications may expire at once, and freeing them takes a second. So they are out of the
history at once, and their memory is freed in slices: at most `SLICE_PUBLICATIONS` between two calls
of `HistoryBudget.begin_turn`. Until then it counts in the budget, and is the first to go at the
bound.
"""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from hub.brokers.history_marks import Marks
from hub.brokers.memory_cost import cost_bytes
from hub.brokers.state_rows import StateRows
from hub.core.options import ChannelOptions
from hub.core.ports import PAGE_BYTES, HistoryPage
from hub.core.publication import ENDS, Position, Publication

# The lists' dead heads are cut off when they are this long and the larger part.
_COMPACT_FROM = 256
_GONE = Publication("", 0, b"", 0)
"""Stands in the place of a publication that is held no longer."""
# Freeing this many takes 3 ms (measured).
SLICE_PUBLICATIONS = 5000
# How many publications that expired by themselves one page passes over: 0.5 ms (measured).
EXPIRED_AT_ONCE = 5000
# At the bound, for a publication that comes.
_FREED_FOR_ROOM = 50
# How many marks of publications that are gone one publication passes over (some 0.5 ms), while the
# bound is exceeded by this share at most.
_PASSED_AT_ONCE = 5000
_OVER = 1 / 64


class ChannelLog:
    """Offsets are contiguous, so a publication's place follows from its offset."""

    __slots__ = (
        "_at", "_budget", "_first", "_freed", "_kept", "ends", "epoch", "keeps", "kept_in", "name",
        "offset", "options", "pinned", "rows", "stored", "subscribed", "superseded",
        "used_at_seconds",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        epoch: str,
        options: ChannelOptions,
        now_seconds: float,
        budget: "HistoryBudget",
    ) -> None:
        """All logs of a broker share `budget`."""
        self.name = name
        self.epoch = epoch
        self.options = options
        self.offset = 0
        self.ends = True
        """Whether the newest publication is the last one, as far as is known: one of an old run,
        or of those that came together, may be."""
        self.subscribed = False
        self.pinned = False
        """Whether a commit of it is under way, so that it may not be forgotten."""
        self.stored = False
        """Whether publications of it are held elsewhere too (`hub.brokers.sqlite`)."""
        self.used_at_seconds = now_seconds
        self.superseded = 0
        """The number of its marks in the budget that stand for publications that are gone already.
        """
        self.kept_in = 0
        """As `hub.brokers.history_marks.Marked` says."""
        self._budget = budget
        self.keeps = options.keeps_history
        self._kept: list[Publication] = []
        self._at: list[float] = []
        """When each of them was taken, monotonic: a wall clock that jumps ages nothing."""
        self._first = 0
        """Index in both lists of the oldest publication still held."""
        self._freed = 0
        """Index in both of the oldest one that is not freed. From there up to `_first` they are no
        longer held."""
        self.rows = StateRows(options) if options.keyed else None
        """The newest of each key, where the namespace is keyed."""

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
        self.ends = publication.marks >= ENDS
        if self.keeps:
            if publication.keep_ms == 0:
                publication = _place_of(publication)
            kept = self._kept
            kept.append(publication)
            self._at.append(now_seconds)
            if len(kept) - self._first > self.options.history_size:
                self._first += 1
                self._budget.exchange(self, self._free_first(), publication)
            else:
                self._budget.take(self, publication)
        if self.rows is not None:
            self._put(self.rows, (publication,), now_seconds)

    def _put(
        self, rows: StateRows, publications: Iterable[Publication], now_seconds: float
    ) -> None:
        before = rows.bytes
        for publication in publications:
            rows.put(publication, now_seconds)
        self._budget.rows_changed(self, rows, rows.bytes - before)

    def restore_row(self, publication: Publication, at_seconds: float) -> None:
        """Restore a row of an earlier run; rows that changed first come first."""
        if self.rows is not None:
            self._put(self.rows, (publication,), at_seconds)

    def extend(self, publications: Sequence[Publication], now_seconds: float) -> None:
        """Take several, of which the first is numbered `offset + 1`."""
        self.offset = publications[-1].offset
        self.ends = any(each.marks >= ENDS for each in publications)
        if self.rows is not None:
            self._put(self.rows, publications, now_seconds)
        if not self.keeps:
            return
        publications = [p if p.keep_ms != 0 else _place_of(p) for p in publications]
        self._kept += publications
        self._at += [now_seconds] * len(publications)
        self._budget.hold(self, publications)
        if (over := len(self) - self.options.history_size) > 0:
            self._first += over
            self.free(over)
        self._budget.make_room()

    def rows_held(self) -> tuple[int, int] | None:
        """Return how many rows there are, and their bytes; None where the channel is not keyed."""
        return None if self.rows is None else (len(self.rows), self.rows.bytes)

    def trim(self, now_seconds: float) -> None:
        """Drop publications older than `history_ttl_seconds`, and rows that are too old."""
        if (rows := self.rows) is not None:
            before = rows.bytes
            rows.trim(now_seconds)
            self._budget.rows_changed(self, rows, rows.bytes - before)
        limit = now_seconds - self.options.history_ttl_seconds
        if not len(self) or self._at[self._first] >= limit:
            return
        self._first = bisect_left(self._at, limit, self._first)
        self._budget.free_later(self)
        if not len(self):
            self._budget.on_empty(self)

    def clear(self) -> None:
        """Drop all publications and rows."""
        if (rows := self.rows) is not None:
            before = rows.bytes
            rows.clear()
            self._budget.rows_changed(self, rows, -before)
        self._first = len(self._kept)
        self._budget.free_later(self)

    def let_go(self, through: int) -> None:
        """Drop all publications up to this offset."""
        if (count := min(through + 1 - self.oldest, len(self))) > 0:
            self._first += count
            self._budget.free_later(self)

    @property
    def unfreed(self) -> int:
        """The number of publications that are not held any more and not freed yet."""
        return self._first - self._freed

    def free(self, most: int) -> None:
        """Free at most `most` of those that are not held any more, the oldest first."""
        begin, end = self._freed, min(self._freed + most, self._first)
        dropped = self._kept[begin:end]
        self._kept[begin:end] = [_GONE] * (end - begin)
        self._at[begin:end] = [0.0] * (end - begin)
        self._freed = end
        self._compact()
        self._budget.give_back_many(self, dropped)

    def drop_first(self) -> Publication:
        """Free the oldest that is not freed and return it; the caller settles with the budget."""
        if self._freed == self._first:
            self._first += 1
        return self._free_first()

    def _free_first(self) -> Publication:
        kept, first = self._kept, self._freed
        dropped = kept[first]
        kept[first] = _GONE
        self._freed = first + 1
        if first >= _COMPACT_FROM:
            self._compact()
        return dropped

    def _compact(self) -> None:
        """Cut off the lists' dead heads where they are long."""
        freed = self._freed
        if freed >= _COMPACT_FROM and freed * 2 > len(self._kept):
            del self._kept[:freed]
            del self._at[:freed]
            self._first -= freed
            self._freed = 0

    def page(
        self, after: int, limit: int, max_bytes: int = PAGE_BYTES, *, now_seconds: float
    ) -> tuple[HistoryPage, int]:
        """Return at most `limit` publications with offsets above `after`, oldest first.

        Their data and tags have at most `max_bytes`, or they are one. Also return the offset up to
        which it looked: behind many that have expired by themselves it looks no further, so an
        empty page is only the end where that is the newest offset.
        """
        start = self._first + max(after + 1 - self.oldest, 0)
        found: list[Publication] = []
        seen, passed = self.offset, 0
        for place, item in enumerate(islice(self._kept, start, None), start):
            keep_ms = item.keep_ms
            if keep_ms is not None and self._at[place] + keep_ms / 1000 <= now_seconds:
                passed += 1
                if passed == EXPIRED_AT_ONCE:
                    seen = item.offset
                    break
                continue
            max_bytes -= item.size_bytes
            if len(found) == limit or (max_bytes < 0 and found):
                seen = found[-1].offset
                break
            found.append(item)
        return HistoryPage(self.head, self.oldest, tuple(found)), seen


def _place_of(publication: Publication) -> Publication:
    """Return a stand-in for a publication that is not to be kept: offsets are contiguous."""
    return Publication("", publication.offset, b"", publication.time_ms, keep_ms=0)


class HistoryBudget:
    """Bounds what the logs of a broker hold together; one per broker."""

    def __init__(
        self,
        max_bytes: int,
        on_empty: Callable[[ChannelLog], None],
        rows_max_bytes: int | None = None,
    ) -> None:
        """`on_empty` gets a log that the budget has emptied.

        `rows_max_bytes` bounds rows apart from history; None where they share `max_bytes`.
        """
        self.max_bytes = max_bytes
        self._rows_max_bytes = rows_max_bytes
        self._rows_bytes = 0
        """Bytes of rows that are bounded apart."""
        self.row_count = self.row_bytes = 0
        """Number and bytes of all rows, wherever they are bounded."""
        self._row_counts: dict[ChannelLog, int] = {}
        """Number of counted rows by channel."""
        self.on_empty = on_empty
        self.bytes = 0
        self.marks: Marks[ChannelLog] = Marks()
        """A mark for each publication taken, oldest first."""
        self._with_rows: OrderedDict[ChannelLog, StateRows] = OrderedDict()
        """Channels with rows, or with former rows that are still read; the one published in longest
        ago first."""
        self._unfreed: dict[ChannelLog, None] = {}
        """Logs with publications that are not held any more and not freed yet."""
        self._may_free = SLICE_PUBLICATIONS
        """The number of publications that may still be freed in this turn."""

    def begin_turn(self) -> None:
        """Free a slice of the publications that are not held any more; call it regularly."""
        self._may_free = SLICE_PUBLICATIONS
        while self._unfreed and self._may_free:
            log, _ = self._unfreed.popitem()
            self.free_later(log)
        self.make_room()

    def free_later(self, log: ChannelLog) -> None:
        """Free what `log` does not hold any more: as much as this turn still may, and then more."""
        if now := min(log.unfreed, self._may_free):
            self._may_free -= now
            log.free(now)
        if log.unfreed:
            self._unfreed[log] = None

    def take(self, log: ChannelLog, publication: Publication) -> None:
        """Count a publication that `log` holds from now on, and make room for it."""
        self.bytes += cost_bytes(publication)
        self.marks.add(log, 1)
        if self.bytes > self.max_bytes:
            self.make_room()

    def exchange(self, log: ChannelLog, dropped: Publication, publication: Publication) -> None:
        """Count `publication` in place of the oldest of `log`, as at most times."""
        self.bytes += cost_bytes(publication) - cost_bytes(dropped)
        self.marks.add(log, 1)
        self.marks.drop(log, 1)
        if self.bytes > self.max_bytes:
            self.make_room()

    def hold(self, log: ChannelLog, publications: Sequence[Publication]) -> None:
        """Count publications that `log` holds from now on; `make_room` has to follow."""
        self.bytes += sum(map(cost_bytes, publications))
        self.marks.add(log, len(publications))

    def make_room(self) -> None:
        """Drop the oldest publications until the rest fits.

        Marks of publications that are gone make no room. Where very many of them come first, the
        rest may be a little too much until the next publication, or the next turn.
        """
        passed = 0
        while self.bytes > self.max_bytes:
            if not self._drop_oldest():
                passed += 1
                if passed >= _PASSED_AT_ONCE and self.bytes <= self.max_bytes * (1 + _OVER):
                    return

    def give_back_many(self, log: ChannelLog, publications: Sequence[Publication]) -> None:
        """Count the oldest publications of `log` no longer."""
        self.bytes -= sum(map(cost_bytes, publications))
        self.marks.drop(log, len(publications))

    def rows_changed(self, log: ChannelLog, rows: StateRows, more_bytes: int) -> None:
        """Count so many bytes more, or fewer, for the rows of `log`, and make room."""
        self._with_rows.pop(log, None)
        if rows.bytes:
            self._with_rows[log] = rows
        self._count_rows(log, rows, more_bytes)
        if self._rows_max_bytes is None:
            self.bytes += more_bytes
            if more_bytes > 0:
                self.make_room()
            return
        self._rows_bytes += more_bytes
        while self._rows_bytes > self._rows_max_bytes and self._with_rows:
            self._rows_bytes += self._drop_row()

    def _drop_row(self) -> int:
        """Drop a row that changed long ago, or former rows that are still read; return how many
        bytes more that is, below 0."""
        log, rows = next(iter(self._with_rows.items()))
        before = rows.bytes
        rows.make_room()
        if not rows.bytes:
            del self._with_rows[log]
        more_bytes = rows.bytes - before
        self._count_rows(log, rows, more_bytes)
        return more_bytes

    def _count_rows(self, log: ChannelLog, rows: StateRows, more_bytes: int) -> None:
        self.row_bytes += more_bytes
        now = len(rows)
        self.row_count += now - self._row_counts.pop(log, 0)
        if now:
            self._row_counts[log] = now

    def _drop_oldest(self) -> bool:
        """Drop what is the next to go; return whether that makes room."""
        if self._unfreed:
            log, _ = self._unfreed.popitem()
            log.free(_FREED_FOR_ROOM)
            if log.unfreed:
                self._unfreed[log] = None
            return True
        if not self.marks:
            # All history has gone, and it was not enough.
            self.bytes += self._drop_row()
            return True
        if (oldest := self.marks.oldest()) is None:
            return False
        held = len(oldest)
        self.bytes -= cost_bytes(oldest.drop_first())
        if held and not len(oldest):
            self.on_empty(oldest)
        return True
