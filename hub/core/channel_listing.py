"""A list of channels over all nodes: what is asked, what one node says, and the page of it.

A channel is known to several nodes, each with subscribers of its own, so the nodes' rows of a
channel are added up before the page is cut. Pure.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest, nsmallest
from types import MappingProxyType

from hub.core.ports import Monotonic
from hub.core.records import ChannelRecord

Value = str | int | float
# A rate over less would jump, one over more would not be of now. Guesses, not measured.
LEAST_SECONDS = 2.0
MOST_SECONDS = 60.0

COLUMNS: Mapping[str, Callable[[ChannelRecord], Value]] = MappingProxyType(
    {
        "channel": lambda record: record.channel,
        "subscribers": lambda record: record.subscribers,
        "publications_per_second": lambda record: record.publications_per_second or 0.0,
        "offset": lambda record: record.position.offset,
        "history": lambda record: record.history or 0,
    }
)
"""What a list can be sorted by; the name decides between equals."""


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
        self._latest = self._before

    def sample(self, records: Sequence[ChannelRecord]) -> None:
        """Note where these, which must be all there are, stand now."""
        now = self._clock()
        if now - self._latest[0] >= LEAST_SECONDS:
            offsets = {record.channel: record.position.offset for record in records}
            self._before, self._latest = self._latest, (now, offsets)

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
