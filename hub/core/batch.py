"""What travels from the exchange to sessions: a stretch of one channel, encoded once.

A batch is sealed: its items and its members never change. Each dialect in use encodes it
once, and all sessions of that dialect share the bytes.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

from hub.core.publication import Publication
from hub.core.pushes import Gap, Join, Leave, PresenceReset
from hub.core.ring import Entry, Kind

if TYPE_CHECKING:
    from hub.core.ports import Dialect
    from hub.core.subscription import Subscription

Item = Publication | Join | Leave | PresenceReset | Gap
"""What belongs to a channel's order."""


def entry(item: Item, dialect: "Dialect", epoch: str, at_seconds: float) -> Entry:
    """`item` as one frame of `dialect`."""
    frame = dialect.encode(item, epoch)
    if isinstance(item, Publication):
        kind = Kind.PUBLICATION if item.offset else Kind.RAW
        return Entry(kind, item.offset, frame, at_seconds, item.key, item.offset)
    if isinstance(item, Gap) and item.unsequenced:
        # It stands for what has no offset, and gives way like that.
        return Entry(Kind.RAW, 0, frame, at_seconds)
    if isinstance(item, Gap):
        return Entry(Kind.KEEP, item.last, frame, at_seconds, first=item.first)
    return Entry(Kind.PRESENCE, 0, frame, at_seconds)


def skipped(offset: int, at_seconds: float) -> Entry:
    """A publication as its publisher gets it who asked not to: it moves the position only."""
    return Entry(Kind.KEEP, offset, b"", at_seconds, first=offset)


class Encoded:
    """A batch in one dialect: single frames, and the same joined for one write."""

    __slots__ = ("data", "entries", "publications", "size")

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.data = b"".join([entry.frame for entry in entries])
        self.size = len(self.data)
        self.publications = sum(entry.kind <= Kind.RAW for entry in entries)

    def split(self, taken: int) -> tuple[int, bytes]:
        """Where a write that took fewer than `size` bytes stopped.

        Returns the index of the first frame that is not whole at the peer and what is left of
        it. That rest is always sent: a frame is never cut in two, and the transport then tells
        when it takes writes again.
        """
        ends = list(accumulate(len(entry.frame) for entry in self.entries))
        index = bisect_right(ends, taken)
        return index, self.data[taken : ends[index]]

    def unsequenced(self) -> "Encoded":
        """What no history will bring."""
        return Encoded([entry for entry in self.entries if entry.kind is Kind.RAW])


@dataclass(frozen=True, slots=True)
class Group:
    """The members of a channel that share a dialect."""

    dialect: "Dialect"
    members: Sequence["Subscription"]


class Batch:
    """A sealed stretch of a channel, and who was subscribed when it was sealed."""

    __slots__ = (
        "_encoded", "at_seconds", "base", "epoch", "groups", "items", "last", "sent", "skips",
    )  # fmt: skip

    def __init__(
        self,
        items: Sequence[Item],
        groups: Sequence[Group],
        *,
        epoch: str,
        base: int,
        last: int,
        at_seconds: float,
    ) -> None:
        self.items = items
        self.groups = groups
        self.epoch = epoch
        self.base = base
        """The channel's offset before the batch; its members are here or ahead."""
        self.last = last
        self.at_seconds = at_seconds
        """Monotonic time the first item came."""
        self.sent = 0
        """To how many members it has been written, in the order of `groups`."""
        self.skips = _skips(items)
        self._encoded: dict[Dialect, Encoded] = {}

    def owes(self, subscription: "Subscription") -> bool:
        """Whether it is still to be written to this member. Offsets tell only for publications."""
        before = 0
        for group in self.groups:
            if subscription in group.members:
                return before + group.members.index(subscription) >= self.sent
            before += len(group.members)
        return False

    @property
    def has_presence(self) -> bool:
        return any(isinstance(item, Join | Leave | PresenceReset) for item in self.items)

    def encoded(self, dialect: "Dialect") -> Encoded:
        """The batch in `dialect`, made the first time it is asked for."""
        if (encoded := self._encoded.get(dialect)) is None:
            entries = [entry(item, dialect, self.epoch, self.at_seconds) for item in self.items]
            encoded = self._encoded[dialect] = Encoded(entries)
        return encoded

    def after(self, offset: int, dialect: "Dialect", *, skip: frozenset[int]) -> Encoded:
        """The part that a member at `offset` has not got, without the offsets in `skip`.

        What has no offset it has not got either: nothing but this brings it.
        """
        pairs = zip(self.items, self.encoded(dialect).entries, strict=True)
        missing = [self._missing(item, made, offset, dialect) for item, made in pairs
                   if not made.offset or made.offset > offset]  # fmt: skip
        # A skipped offset is no hole: it moves the position without a frame.
        return Encoded(
            [skipped(e.offset, e.at_seconds) if e.offset in skip else e for e in missing]
        )

    def _missing(self, item: Item, made: Entry, offset: int, dialect: "Dialect") -> Entry:
        """`made` as it stands, or a gap without what the member has of its range."""
        if isinstance(item, Gap) and 0 < item.first <= offset:
            return entry(replace(item, first=offset + 1), dialect, self.epoch, self.at_seconds)
        return made


def _skips(items: Sequence[Item]) -> dict[str, frozenset[int]]:
    """Offsets by the connection that published them and asked not to get them back."""
    found: dict[str, frozenset[int]] = {}
    for item in items:
        if isinstance(item, Publication) and (connection := item.skip_connection):
            found[connection] = found.get(connection, frozenset()) | {item.offset}
    return found
