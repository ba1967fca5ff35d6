"""A sealed range of a channel: its items, encoded once in each dialect, for all groups of members.

A group that lacks several batches gets them as one (`Batch.joined`), which encodes nothing again.

What happens to all members at one place of the channel, such as the end of its epoch, stands among
the batches too, as a batch without items that has an `act`. Each group carries it out in its turn,
behind the batches before it. So it is in order for each member, and never a step over all members.
"""

from collections.abc import Callable, Sequence

from hub.core.ports import Dialect
from hub.core.publication import Filter, Publication
from hub.core.pushes import Change, Gap, PresenceReset
from hub.core.session.encoded import Encoded, Item, as_wanted, entry, skipped
from hub.core.session.ring import Entry
from hub.core.session.subscription import Subscription
from hub.core.values import replace

Spoken = tuple[Dialect, Filter | None]
"""Subscriptions with the same dialect and filter get the same bytes."""

Act = Callable[[Sequence[Subscription], Callable[[], None]], None]
"""Acts on some members. The call that it gets takes them into the epoch of the batch."""


class Batch:
    """A sealed range of a channel. Its items never change; each dialect encodes it once."""

    __slots__ = (
        "_encoded", "_parts", "act", "at_seconds", "base", "epoch", "groups_left", "items", "last",
        "sent", "skips",
    )  # fmt: skip

    def __init__(
        self,
        items: Sequence[Item],
        *,
        epoch: str,
        base: int,
        last: int,
        at_seconds: float,
        parts: Sequence["Batch"] = (),
        act: Act | None = None,
    ) -> None:
        self.items = items
        self.act = act
        """Called for each member at this place; a batch with an act has no items."""
        self.epoch = epoch
        self.base = base
        """The channel's offset before the batch. Its members are there or ahead."""
        self.last = last
        self.at_seconds = at_seconds
        """Monotonic time at which the first item came."""
        self.groups_left = 0
        """The number of groups that have not taken it yet."""
        self.sent = 0
        """The number of members to which it was written."""
        self.skips = _skips(items)
        self._parts = parts
        """The batches that it joins; empty where it was sealed itself."""
        self._encoded: dict[Spoken, Encoded] = {}

    @classmethod
    def joined(cls, parts: Sequence["Batch"]) -> "Batch":
        """Return consecutive batches as one, with the frames that they share with it."""
        first = parts[0]
        return cls(
            [item for part in parts for item in part.items],
            epoch=first.epoch,
            base=first.base,
            last=parts[-1].last,
            at_seconds=first.at_seconds,
            parts=parts,
        )

    @property
    def parts(self) -> Sequence["Batch"]:
        """The sealed batches that it consists of."""
        return self._parts or (self,)

    @property
    def has_presence(self) -> bool:
        return any(isinstance(item, Change | PresenceReset) for item in self.items)

    def encoded(self, dialect: Dialect, wanted: Filter | None = None) -> Encoded:
        """Return the batch in `dialect` as `wanted` filters it; encoded on first use."""
        if (encoded := self._encoded.get((dialect, wanted))) is None:
            entries = self._entries(dialect, wanted)
            whole = None if wanted is None else self.encoded(dialect)
            shares = whole is not None and entries == whole.entries
            encoded = whole if whole is not None and shares else Encoded(entries)
            self._encoded[dialect, wanted] = encoded
        return encoded

    def forget(self, dialect: Dialect, wanted: Filter) -> None:
        """Drop the bytes that a filter leaves, once they are written to all that want them.

        There may be as many filters as members, and each has bytes of its own.
        """
        self._encoded.pop((dialect, wanted), None)

    def _entries(self, dialect: Dialect, wanted: Filter | None) -> Sequence[Entry]:
        if wanted is None:
            if self._parts:
                return [made for part in self._parts for made in part.encoded(dialect).entries]
            return [entry(item, dialect, self.epoch, self.at_seconds) for item in self.items]
        found: list[Entry] = []
        for item, made in zip(self.items, self.encoded(dialect).entries, strict=True):
            if (left := as_wanted(item, wanted)) is item:
                found.append(made)
            elif left is None:
                found.append(skipped(made.offset, self.at_seconds, made.unkept))
            else:
                found.append(entry(left, dialect, self.epoch, self.at_seconds))
        return found

    def after(
        self,
        offset: int,
        dialect: Dialect,
        wanted: Filter | None = None,
        *,
        skip: frozenset[int],
    ) -> Encoded:
        """Return the part that a member at `offset` has not got, without the offsets in `skip`.

        Items without an offset are included, because nothing else brings them.
        """
        pairs = zip(self.items, self.encoded(dialect, wanted).entries, strict=True)
        missing = [self._missing(item, made, offset, dialect) for item, made in pairs
                   if not made.offset or made.offset > offset]  # fmt: skip
        # A skipped offset is no hole. It moves the position without a frame.
        return Encoded(
            [skipped(e.offset, e.at_seconds, e.unkept) if e.offset in skip else e for e in missing]
        )

    def _missing(self, item: Item, made: Entry, offset: int, dialect: Dialect) -> Entry:
        """Return `made`; for a gap, without the part of its range that the member has."""
        if isinstance(item, Gap) and 0 < item.first <= offset:
            return entry(replace(item, first=offset + 1), dialect, self.epoch, self.at_seconds)
        return made


def _skips(items: Sequence[Item]) -> dict[str, frozenset[int]]:
    """Return the offsets by connection that published them and asked not to get them back."""
    found: dict[str, frozenset[int]] = {}
    for item in items:
        if isinstance(item, Publication) and (connection := item.skip_connection):
            found[connection] = found.get(connection, frozenset()) | {item.offset}
    return found


def until_act(batches: Sequence[Batch]) -> Sequence[Batch]:
    """Return the first of these batches: those before an act, or the act alone."""
    for place, batch in enumerate(batches):
        if batch.act is not None:
            return batches[: max(1, place)]
    return batches
