"""The queue of frames that one subscription is owed while its peer takes no writes.

When a ring is too full, the oldest publication is dropped, and a gap announces the hole at its
place: a subscriber to live data wants the newest value. Frames are shared with all other sessions,
and a ring holds references. `hub.core.session.outbox` decides when a ring is too full.

No I/O, no clock. One event loop owns each ring.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from hub.core.options import Overflow
from hub.core.publication import Position, Publication
from hub.core.pushes import GapReason
from hub.core.values import Struct, replace

# Replaced entries stay in the deque until they are this many and the majority.
COMPACT_HOLES = 64


class EntryKind(IntEnum):
    """The kind of an entry, which decides whether it may be dropped."""

    PUBLICATION = 0
    RAW = 1
    """A publication without an offset."""
    PRESENCE = 2
    """A join or leave. One `presence_reset` replaces dropped ones."""
    KEEP = 3
    """A reply or gap, which is never dropped."""


class Entry(Struct, eq=False, gc=False):
    """One owed frame, which all sessions share."""

    kind: EntryKind
    offset: int
    """The offset to which the frame moves the position; 0 where it does not move it."""
    frame: bytes
    at_seconds: float
    """Monotonic time at which the fan-out got it."""
    key: str | None = None
    first: int = 0
    """The first offset that it stands for; 0 where holes before it are not tracked."""
    resumes: Position | None = None
    """For a `reset`: where a peer resumes that is cut before it got this entry."""
    unkept: Publication | None = None
    """Its publication, where history does not hold it."""


@dataclass(frozen=True, slots=True)
class Hole:
    """Offsets `first` to `last`, or `unsequenced` publications, that will not arrive."""

    first: int
    last: int
    reason: GapReason
    unsequenced: int = 0


Announce = Callable[[Hole], bytes]
"""Encodes the gap of a hole in one channel."""
Taken = tuple[bytes, bool]
"""A frame, and whether it is a publication."""


class Ring:
    """The entries that one subscription is owed, offsets rising, with holes between them."""

    __slots__ = (
        "_by_key", "_conflated", "_entries", "_keeps", "_kept", "_slow_through", "_unsequenced",
        "bytes", "cursor", "epoch", "kept_bytes", "last", "overflow", "presence_lost", "untold",
    )  # fmt: skip

    def __init__(self, cursor: int, overflow: Overflow, epoch: str) -> None:
        self.overflow = overflow
        self.epoch = epoch
        """The epoch of all its offsets. A ring outlives its channel's epoch when its session has
        left the channel."""
        self.cursor = cursor
        """The last offset handed to the transport, or announced as missing."""
        self.last = cursor
        """The last offset that this ring covers."""
        self.bytes = 0
        self.kept_bytes = 0
        """The part of `bytes` that must not be dropped."""
        self.presence_lost = False
        self._entries: deque[Entry] = deque()
        self._conflated: set[int] = set()
        """Offsets of entries that are still in the deque although a newer one replaced them."""
        self._kept: list[tuple[int, Entry]] = []
        """Entries that must not be dropped, each with the dropped offset before it."""
        self._keeps = 0
        """The number of entries that must not be dropped."""
        self._slow_through = cursor
        self._unsequenced = 0
        self._by_key: dict[str, Entry] = {}
        self.untold: list[Entry] = []
        """The owed resets, oldest first."""

    def __len__(self) -> int:
        return len(self._entries) - len(self._conflated)

    @property
    def droppable(self) -> int:
        """The number of owed messages, joins and leaves. Replies and gaps have a bound in bytes."""
        return len(self) - self._keeps

    @property
    def empty(self) -> bool:
        """Whether nothing is owed: no entry, no `presence_reset`, no hole to announce."""
        owed = len(self) or self._kept or self._unsequenced or self.presence_lost
        return not owed and self.cursor >= self.last

    @property
    def oldest_at(self) -> float | None:
        """Monotonic time of the oldest entry that may be dropped; None without one."""
        self._skip_conflated()
        for entry in self._entries:
            if entry.kind is not EntryKind.KEEP and entry.offset not in self._conflated:
                return entry.at_seconds
        return None

    def append(self, entry: Entry) -> Entry | None:
        """Owe one more frame; return the older one of the same key that it replaced."""
        conflated = None
        if not entry.frame and entry.first and self._pass_over(entry):
            return None
        if entry.key and entry.offset and self.overflow is Overflow.LATEST_PER_KEY:
            conflated = self._conflate(entry.key)
            self._by_key[entry.key] = entry
        self._entries.append(entry)
        self.bytes += len(entry.frame)
        if entry.kind is EntryKind.KEEP:
            self._keeps += 1
            self.kept_bytes += len(entry.frame)
        if entry.resumes is not None:
            self.untold.append(entry)
        self.last = max(self.last, entry.offset)
        return conflated

    def _pass_over(self, entry: Entry) -> bool:
        """Merge this entry into the newest one, where both only move the position."""
        newest = self._entries[-1] if self._entries else None
        if newest is None or newest.frame or not newest.first or newest.offset + 1 != entry.first:
            return False
        # Entries are shared with other rings.
        self._entries[-1] = replace(newest, offset=entry.offset)
        self.last = max(self.last, entry.offset)
        return True

    def _conflate(self, key: str) -> Entry | None:
        older = self._by_key.pop(key, None)
        if older is None:
            return None
        self._conflated.add(older.offset)
        self.bytes -= len(older.frame)
        many = len(self._conflated)
        if many >= COMPACT_HOLES and many * 2 > len(self._entries):
            gone = self._conflated
            self._entries = deque(entry for entry in self._entries if entry.offset not in gone)
            self._conflated = set()
        return older

    def drop_oldest(self) -> Entry | None:
        """Drop and return the oldest entry that may be dropped; None without one."""
        while self._skip_conflated():
            entry = self._pop()
            if entry.kind is EntryKind.KEEP:
                self._kept.append((self._slow_through, entry))
                continue
            self.bytes -= len(entry.frame)
            if entry.kind is EntryKind.PUBLICATION:
                self._slow_through = entry.offset
            elif entry.kind is EntryKind.RAW:
                self._unsequenced += 1
            else:
                self.presence_lost = True
            return entry
        return None

    def _skip_conflated(self) -> bool:
        """Bring the oldest owed entry to the front; return False without entries."""
        entries = self._entries
        while entries and entries[0].offset in self._conflated:
            self._conflated.remove(entries.popleft().offset)
        return bool(entries)

    def _pop(self) -> Entry:
        entry = self._entries.popleft()
        self._keeps -= entry.kind is EntryKind.KEEP
        if entry.key is not None and self._by_key.get(entry.key) is entry:
            del self._by_key[entry.key]
        return entry

    def replies(self) -> list[Entry]:
        """Return the entries that stay owed in another epoch too: replies and resets.

        A reset that another one follows is still sent; it moves no position then.
        """
        entries = [entry for _, entry in self._kept] + list(self._entries)
        kept = [entry for entry in entries if entry.kind is EntryKind.KEEP]
        return [replace(entry, offset=0) for entry in kept if not entry.offset or entry.resumes]

    def take(self, announce: Announce, presence_reset: Callable[[], bytes]) -> Iterator[Taken]:
        """Yield the owed frames, oldest first, with a gap at the place of each hole.

        A yielded entry is no longer owed. A caller that stops iterating loses no other entry.
        """
        while self._kept:
            slow, entry = self._kept[0]
            yield from self._announce_to(max(slow, entry.first - 1), announce)
            yield self._taken(self._kept.pop(0)[1])
        yield from self._announce_to(self._slow_through, announce)
        if self._unsequenced:
            count, self._unsequenced = self._unsequenced, 0
            yield announce(Hole(0, 0, GapReason.SLOW, count)), False
        if self.presence_lost:
            self.presence_lost = False
            yield presence_reset(), False
        while self._skip_conflated():
            yield from self._announce_to(self._entries[0].first - 1, announce)
            yield self._taken(self._pop())
        yield from self._announce_to(self.last, announce)

    def _taken(self, entry: Entry) -> Taken:
        self.bytes -= len(entry.frame)
        if entry.kind is EntryKind.KEEP:
            self.kept_bytes -= len(entry.frame)
        if entry.resumes is not None:
            self.untold.remove(entry)
        self.cursor = max(self.cursor, entry.offset)
        return entry.frame, entry.kind <= EntryKind.RAW

    def _announce_to(self, through: int, announce: Announce) -> Iterator[Taken]:
        """Announce the offsets that are missing between the cursor and `through`, by reason."""
        slow = min(through, self._slow_through)
        for last, reason in ((slow, GapReason.SLOW), (through, GapReason.CONFLATED)):
            if last > self.cursor:
                first, self.cursor = self.cursor + 1, last
                yield announce(Hole(first, last, reason)), False
