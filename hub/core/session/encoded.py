"""Encodes items of one channel in one dialect: as single frames, and joined for one write.

Every session that speaks the dialect shares these bytes. This module knows no sessions.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from hub.core.ports import Dialect
from hub.core.publication import REMOVES, Filter, Publication
from hub.core.pushes import Change, Gap, PresenceReset
from hub.core.session.ring import Entry, EntryKind
from hub.core.values import replace

Item = Publication | Change | PresenceReset | Gap
"""An item in a channel's order."""
# Looking up a member of an enumeration costs 0.06 us each time.
_PUBLICATION = EntryKind.PUBLICATION
_RAW = _LAST_PUBLISHED = EntryKind.RAW


def entry(item: Item, dialect: Dialect, epoch: str, at_seconds: float) -> Entry:
    """Encode `item` as one frame of `dialect`."""
    frame = dialect.encode(item, epoch)
    if isinstance(item, Publication):
        kind = _PUBLICATION if item.offset else _RAW
        unkept = item if item.keep_ms == 0 else None
        return Entry(kind, item.offset, frame, at_seconds, item.key, item.offset, unkept=unkept)
    if isinstance(item, Gap) and item.unsequenced:
        # It stands for publications without an offset, and may be dropped as they may.
        return Entry(EntryKind.RAW, 0, frame, at_seconds)
    if isinstance(item, Gap):
        return Entry(EntryKind.KEEP, item.last, frame, at_seconds, first=item.first)
    return Entry(EntryKind.PRESENCE, 0, frame, at_seconds)


def skipped(offset: int, at_seconds: float, unkept: Publication | None = None) -> Entry:
    """Return the entry of a publication that the peer does not want. It only moves the position.

    The peer has a filter, or it published the publication itself and asked not to get it back.
    """
    return Entry(EntryKind.KEEP, offset, b"", at_seconds, first=offset, unkept=unkept)


def as_wanted(item: Item, wanted: Filter | None) -> Item | None:
    """Return `item` as a filter lets it through; None where the filter leaves it out.

    A publication without an offset has no tags. A peer that keeps rows may have the row of a
    publication that does not match, so it gets a removal in its place. Example with the filter
    `{"league":"nba"}`: row A changes to `nfl`, and the peer gets the removal of A.
    """
    if wanted is None or not isinstance(item, Publication) or item.offset == 0:
        return item
    if wanted.matches(item.tags):
        return item
    if not wanted.of_rows or item.key is None:
        return None
    return replace(item, data=b"null", tags=None, sender=None, marks=item.marks | REMOVES)


class Encoded:
    """A batch in one dialect: single frames, and the same joined for one write."""

    __slots__ = ("data", "entries", "publications", "size")

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        if len(entries) == 1:
            # The usual case with many channels, at a third of the cost of the general one.
            (only,) = entries
            self.data = only.frame
            self.publications = int(only.kind <= _LAST_PUBLISHED)
        else:
            self.data = b"".join([entry.frame for entry in entries])
            self.publications = sum([entry.kind <= _LAST_PUBLISHED for entry in entries])
        self.size = len(self.data)

    def split(self, taken: int) -> tuple[int, bytes]:
        """Return where a write of only `taken` bytes stopped.

        The result is the index of the first frame that is not whole at the peer, and the rest of
        that frame. The rest is always sent, because a frame is never cut in two, and the transport
        then reports when it takes writes again.
        """
        ends = list(accumulate(len(entry.frame) for entry in self.entries))
        index = bisect_right(ends, taken)
        return index, self.data[taken : ends[index]]

    def unsequenced(self) -> "Encoded":
        """Return only the publications without an offset, which no history will bring."""
        return Encoded([entry for entry in self.entries if entry.kind is EntryKind.RAW])
