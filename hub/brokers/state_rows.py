"""The state of one channel in memory: the newest publication of each key.

Rows are read in the order of their keys, so that a reader that names the last key that it has
goes on behind it, whatever changed meanwhile. They are dropped in the order of their changes,
oldest first: by age, and where there are more keys than may be. No I/O, no clock.

Pages hold as of one position. While a reader is between pages, a row that changes is kept as it was
for a moment longer. Example: rows `a` at offset 3 and `b` at 7 are read as of 7, one to a page.
After the first page `b` becomes 8 and `c` is new at 9. The second page is `b` at 7: 8 and 9 follow
the position, and the reader gets them as messages. A reader that takes too long gets a page without
`b`, which is as right once it has those messages.
"""

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice

from hub.brokers.memory_cost import cost_bytes
from hub.core.options import MIB, ChannelOptions
from hub.core.ports import StatePage
from hub.core.publication import REMOVES, Position, Publication

# Bytes of a row beside its publication: two dictionary entries, a tuple, a time, a list entry.
ROW_BYTES = 200

# To sort all keys again is cheaper than to take so many out of their order one by one. A guess.
_SORT_AGAIN = 100
# Rows that one call of `trim` lets go of: 5 ms (measured). A channel may have 100,000.
SLICE_ROWS = 5000

# How long former rows are kept after a page was read that is not the last. A guess: far more than
# a page takes that does not wait for its peer.
_READING_SECONDS = 5.0
# Bytes of former rows where the rows themselves take less. A guess.
_FORMER_BYTES = MIB

_Row = tuple[Publication, float]


class StateRows:
    """The rows of a channel whose namespace is `keyed`."""

    __slots__ = (
        "_former", "_former_bytes", "_keys", "_read_upto", "_reading_until", "_rows",
        "bytes", "dropped", "max_keys", "on_gone", "ttl_seconds",
    )  # fmt: skip

    def __init__(self, options: ChannelOptions) -> None:
        self.max_keys = options.state_max_keys
        self.ttl_seconds = options.state_ttl_seconds
        self._rows: OrderedDict[str, _Row] = OrderedDict()
        """Rows by key, in the order of their last change. A plain dictionary looks for its oldest
        entry among all that were before it."""
        self._keys: list[str] | None = None
        """All keys in order; None until a page is read."""
        self._former: dict[str, list[tuple[Publication, int]]] = {}
        """Rows before they changed, with the offset of the change, while a reader needs them."""
        self._former_bytes = 0
        self._read_upto = 0
        """The newest position as of which pages are read: later rows are not kept as former
        ones."""
        self._reading_until = 0.0
        self.bytes = 0
        self.dropped = 0
        """The number of rows that were dropped for want of room, or that the file has damaged."""
        self.on_gone: Callable[[str], None] | None = None
        """Gets the key of each dropped row, where a file keeps the rows too."""

    def __len__(self) -> int:
        return len(self._rows)

    def has(self, key: str) -> bool:
        return key in self._rows

    def put(self, publication: Publication, now_seconds: float) -> None:
        """Take a publication: it is the row of its key from now on, or removes that row."""
        if (key := publication.key) is None:
            return
        former = self._rows.pop(key, None)
        if former is not None:
            if self._reading_until:
                self._keep(key, former[0], publication.offset, now_seconds)
            self.bytes -= cost_bytes(former[0]) + ROW_BYTES
        if publication.marks & REMOVES:
            if former is not None:
                self._forget_key(key)
            return
        self._rows[key] = publication, now_seconds
        self.bytes += cost_bytes(publication) + ROW_BYTES
        if former is None:
            if self._keys is not None and key not in self._former:
                insort(self._keys, key)
            if len(self._rows) > self.max_keys:
                self.drop_oldest()

    def _keep(self, key: str, row: Publication, changed: int, now_seconds: float) -> None:
        """Keep a row that changes, for readers."""
        former = self._former_bytes
        is_much = former > _FORMER_BYTES and former > self.bytes - former
        if now_seconds > self._reading_until or len(self._former) >= self.max_keys or is_much:
            self._forget_former()
        elif row.offset <= self._read_upto:
            self._former.setdefault(key, []).append((row, changed))
            size = cost_bytes(row) + ROW_BYTES
            self.bytes += size
            self._former_bytes += size

    def _forget_former(self) -> None:
        if former := self._former:
            self.bytes -= self._former_bytes
            self._former_bytes = 0
            self._former = {}
            if any(key not in self._rows for key in former):
                self._keys = None
        self._reading_until = 0.0

    def make_room(self) -> None:
        """Drop the former rows, or, without any, the row changed longest ago."""
        if self._former:
            self._forget_former()
        else:
            self.drop_oldest()

    def drop_oldest(self) -> None:
        """Drop the row that was changed longest ago, for want of room."""
        self._let_go(next(iter(self._rows)))
        self.dropped += 1

    def leave_out(self, keys: Sequence[str]) -> None:
        """Count rows that the file has damaged as dropped, and have them deleted there."""
        self.dropped += len(keys)
        if self.on_gone is not None:
            for key in keys:
                self.on_gone(key)

    def trim(self, now_seconds: float) -> None:
        """Let go of rows older than `state_ttl_seconds`, at most `SLICE_ROWS`; call it regularly.

        Readers get no row that is too old.
        """
        if self._reading_until and now_seconds > self._reading_until:
            self._forget_former()
        if not self.ttl_seconds:
            return
        limit = self._oldest_at(now_seconds)
        expired = 0
        for _, at_seconds in islice(self._rows.values(), SLICE_ROWS):
            if at_seconds >= limit:
                break
            expired += 1
        if expired > _SORT_AGAIN:
            self._keys = None
        for key in list(islice(self._rows, expired)):
            self._let_go(key)

    def _oldest_at(self, now_seconds: float) -> float:
        """Return the time before which rows are too old."""
        return now_seconds - self.ttl_seconds if self.ttl_seconds else float("-inf")

    def clear(self) -> None:
        """Drop all rows."""
        self._rows.clear()
        self._former = {}
        self._keys = None
        self.bytes = self._former_bytes = 0

    def _let_go(self, key: str) -> None:
        publication, _ = self._rows.pop(key)
        if self.on_gone is not None:
            self.on_gone(key)
        self.bytes -= cost_bytes(publication) + ROW_BYTES
        self._forget_key(key)

    def _forget_key(self, key: str) -> None:
        if self._keys is not None and key not in self._former:
            del self._keys[bisect_left(self._keys, key)]

    def page(
        self,
        head: Position,
        after: str,
        limit: int,
        *,
        upto: int | None,
        max_bytes: int,
        now_seconds: float,
    ) -> StatePage:
        """Return at most `limit` rows with keys above `after` and offsets up to `upto`.

        Their data and tags have at most `max_bytes`, or they are one.
        """
        if (keys := self._keys) is None:
            keys = self._keys = sorted({*self._rows, *self._former})
        found: list[Publication] = []
        place, oldest_at = bisect_right(keys, after), self._oldest_at(now_seconds)
        while place < len(keys):
            row = self._as_of(keys[place], upto, oldest_at)
            if row is not None:
                max_bytes -= row.size_bytes
                if len(found) == limit or (max_bytes < 0 and found):
                    self._reading_until = now_seconds + _READING_SECONDS
                    self._read_upto = max(self._read_upto, head.offset if upto is None else upto)
                    return StatePage(head, tuple(found), keys[place - 1], self.dropped)
                found.append(row)
            place += 1
        return StatePage(head, tuple(found), None, self.dropped)

    def _as_of(self, key: str, upto: int | None, oldest_at: float) -> Publication | None:
        """Return a key's row as of `upto`; None where there was none, or it is not known now."""
        row = self._rows.get(key)
        if row is not None and (upto is None or row[0].offset <= upto):
            return row[0] if row[1] >= oldest_at else None
        if upto is None or not self._former:
            return None
        former = self._former.get(key, ())
        return next((was for was, changed in former if was.offset <= upto < changed), None)
