"""A list of channels over all nodes: what is asked, what one node says, and the page of it.

A channel is known to several nodes, each with subscribers of its own, so the nodes' rows of a
channel are added up before the page is cut. Pure.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest, nsmallest
from types import MappingProxyType

from hub.core.listing import Value
from hub.core.ports import Monotonic
from hub.core.records import ChannelRecord
from hub.core.reserved import is_reserved

# A rate over less would jump, one over more would not be of now. Guesses, not measured.
LEAST_SECONDS = 2.0
MOST_SECONDS = 60.0

COLUMNS: Mapping[str, Callable[[ChannelRecord], Value]] = MappingProxyType(
    {
        "channel": lambda record: record.channel,
        "subscribers": lambda record: record.subscribers,
        "publications_per_second": lambda record: record.publications_per_second or 0.0,
        "offset": lambda record: record.position.offset,
        "history": lambda record: _held_at_most(record),
    }
)
"""What a list can be sorted by; the name decides between equals."""


def _held_at_most(record: ChannelRecord) -> int:
    """What is held, or where only the broker knows, all that was ever published."""
    return record.position.offset if record.history is None else record.history


@dataclass(frozen=True, slots=True)
class ChannelQuery:
    """Which channels, in which order."""

    limit: int = 100
    skip: int = 0
    """How many come on the pages before, where the order is not that of names."""
    after: str = ""
    """The last name of the page before, where it is."""
    sort: str = "channel"
    """One of `COLUMNS`."""
    descending: bool = False
    prefix: str = ""

    @property
    def by_name(self) -> bool:
        return self.sort == "channel"

    def is_beyond(self, channel: str) -> bool:
        """Whether a channel comes after the page before, as far as names tell."""
        if not self.after:
            return True
        return channel < self.after if self.descending else channel > self.after

    def top(self, records: Iterable[ChannelRecord], count: int) -> list[ChannelRecord]:
        """The first `count` of them in the order asked for."""
        column, first = COLUMNS[self.sort], nlargest if self.descending else nsmallest
        return first(count, records, key=lambda record: (column(record), record.channel))


@dataclass(frozen=True, slots=True)
class ChannelPage:
    rows: tuple[ChannelRecord, ...]
    total: int
    """How many match; where nodes know more than they may say at once, at least so many."""
    more: bool
    unanswered: tuple[str, ...] = ()
    complete: bool = True


def added_up(parts: Iterable[Sequence[ChannelRecord]]) -> list[ChannelRecord]:
    """One row per channel: all its subscribers, and the newest position that any node has seen."""
    found: dict[str, ChannelRecord] = {}
    for record in (record for part in parts for record in part):
        known = found.get(record.channel)
        found[record.channel] = record if known is None else _both(known, record)
    return list(found.values())


def _both(one: ChannelRecord, other: ChannelRecord) -> ChannelRecord:
    newer = max(one, other, key=lambda record: record.position.offset)
    rates = [each.publications_per_second for each in (one, other)]
    return replace(
        newer,
        subscribers=one.subscribers + other.subscribers,
        publications_per_second=max((rate for rate in rates if rate is not None), default=None),
    )


class ChannelRates:
    """How much comes in each channel: its offset now and when somebody last asked.

    Costs nothing while nobody asks. Nothing is said of a channel that was not seen before.
    """

    def __init__(self, clock: Monotonic) -> None:
        self._clock = clock
        self._before: tuple[float, Mapping[str, int]] = (clock(), {})
        self._latest: tuple[float, dict[str, int]] = (clock(), {})

    def begin(self) -> dict[str, int]:
        """Where to note the offsets of all channels by name, for whoever asks next."""
        now = self._clock()
        if now - self._latest[0] < LEAST_SECONDS:
            return {}  # noted by nobody: it was done a moment ago
        self._before, self._latest = self._latest, (now, {})
        return self._latest[1]

    def rated(self, records: Sequence[ChannelRecord]) -> list[ChannelRecord]:
        """These with what came since the time before."""
        since, before = self._before
        elapsed = self._clock() - since
        if not before or not LEAST_SECONDS <= elapsed <= MOST_SECONDS:
            return list(records)
        return [self._rated(record, before.get(record.channel), elapsed) for record in records]

    @staticmethod
    def _rated(record: ChannelRecord, before: int | None, elapsed: float) -> ChannelRecord:
        if before is None or before > record.position.offset:
            return record  # unknown then, or in another epoch
        rate = round((record.position.offset - before) / elapsed, 2)
        return replace(record, publications_per_second=rate)


class ChannelSelection:
    """One node's part of the page of one query, growing slice by slice.

    Args:
        count: how many rows at most.
        names: only these; None for all.
    """

    def __init__(
        self, query: ChannelQuery, rates: ChannelRates, *, count: int, names: frozenset[str] | None
    ) -> None:
        self._query = query
        self._rates = rates
        self._count = count
        self._names = names
        self._shows_own = is_reserved(query.prefix)
        self._offsets = rates.begin()
        self._best: list[ChannelRecord] = []
        self._beyond = 0
        """How many come after the page before."""
        self.total = 0
        """How many match, on all pages."""

    def look_at(self, records: Sequence[ChannelRecord]) -> None:
        """Take these into account; all that the node knows have to come once."""
        self._offsets.update((record.channel, record.position.offset) for record in records)
        matching = [record for record in records if self._matches(record.channel)]
        self.total += len(matching)
        found = [record for record in matching if self._query.is_beyond(record.channel)]
        self._beyond += len(found)
        if self._query.sort == "publications_per_second":
            found = self._rates.rated(found)
        self._best = self._query.top(self._best + found, self._count)

    def _matches(self, channel: str) -> bool:
        return (
            channel.startswith(self._query.prefix)
            and (self._names is None or channel in self._names)
            and (self._shows_own or not is_reserved(channel))
        )

    @property
    def rows(self) -> tuple[ChannelRecord, ...]:
        return tuple(self._rates.rated(self._best))

    @property
    def more(self) -> bool:
        """Whether there are some beyond the rows."""
        return self._beyond > len(self._best)
