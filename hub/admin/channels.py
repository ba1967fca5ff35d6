"""Channels and patterns of this node and of all nodes, as lists sorted and cut before they travel.

A channel is known to several nodes, each with subscribers of its own, so the nodes' rows of a
channel are added up before the page is cut; the same holds for the patterns that sessions subscribe
to.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Protocol

import msgspec

from hub.admin.listing import Listing, Page, Part, Query, Row, Selection, merge, slices
from hub.admin.requests import Admin, AdminRequest, Answers, AtTag, Everywhere, Handlers
from hub.core.options import is_reserved
from hub.core.ports import Monotonic
from hub.core.records import ChannelRecord, LiveChannel, RowSource, channel_record, columns, joined
from hub.errors import BadRequestError, HubError

# Rows of one node's part: names are 200 characters at most, so this is a quarter of the MiB that
# an answer between nodes may have.
MAX_ROWS = 1000
# A rate over less would jump, one over more would not be of now. Guesses, not measured.
LEAST_SECONDS = 2.0
MOST_SECONDS = 60.0
# Channels looked at between two turns of the loop. Measured: some 4 us each, so 2 ms.
_SLICE_CHANNELS = 500
# Counts asked of the broker at a time, some 28 us each.
_SLICE_HELD = 100
_RATE = "publications_per_second"

CHANNELS: Listing[ChannelRecord] = Listing(
    name="channels",
    named_by="channel",
    name_of=lambda record: record.channel,
    columns=columns(ChannelRecord),
    filters={
        "prefix": lambda record, prefix: record.channel.startswith(prefix),
        # Channels that the hub keeps for itself are shown to a query that names the filter.
        "reserved": lambda record, shown: bool(shown) or not is_reserved(record.channel),
    },
    keys_last=False,
)


class ListChannels(AdminRequest[Part[ChannelRecord]], frozen=True, tag="channels"):
    """Asks for this node's part of a page: the first `count`, of `names` alone where given."""

    query: Query
    count: int
    names: frozenset[str] = frozenset()


class GetChannel(AdminRequest[ChannelRecord | None], frozen=True, tag="channel"):
    """Asks for one channel as this node knows it; None for an unknown one."""

    channel: str


class ChannelLookup(Protocol):
    """The channels of this node."""

    async def look(self) -> None:
        """Learn of the channels for `names`, where another process knows them."""
        ...

    def names(self) -> Sequence[str]: ...

    def one(self, name: str) -> LiveChannel | None:
        """Return the channel; None for one that is known no more, or not yet."""
        ...

    async def count_held(self, record: ChannelRecord) -> int | None:
        """Return how many publications the broker holds; None where it does not answer."""
        ...


@dataclass(frozen=True, slots=True)
class OneChannel:
    """The record of a channel, and whose subscribers it counts."""

    record: ChannelRecord
    complete: bool | None = None
    """Whether those of all workers are counted; None where this node counts its own alone."""
    unanswered: tuple[str, ...] = ()
    """Names of the workers that did not answer in time."""


class ChannelHandlers:
    """Answers questions about the channels of this node; one per node."""

    def __init__(self, known: ChannelLookup, origin: RowSource) -> None:
        self._known = known
        self.origin = origin
        self._rates = ChannelRates(origin.clock)
        self._looking = asyncio.Lock()
        self._serving = asyncio.Lock()
        """A lock of its own, so that operators do not wait for other callers."""

    def handlers(self) -> Handlers:
        return {ListChannels: self.part, GetChannel: self._channel_record}

    async def _channel_record(self, asked: "GetChannel") -> ChannelRecord | None:
        return self.one(asked.channel)

    def one(self, name: str) -> ChannelRecord | None:
        """Return one channel as this node knows it."""
        found = self._known.one(name)
        return None if found is None else channel_record(found, self.origin)

    async def here(self, wanted: Callable[[str], bool]) -> Sequence[ChannelRecord]:
        """Return the channels of this node whose names are wanted."""
        async with self._serving:
            return [record async for some in self._slices(wanted) for record in some]

    async def _slices(
        self, wanted: Callable[[str], bool] = lambda _: True
    ) -> AsyncIterator[list[ChannelRecord]]:
        """Yield all that are wanted, with a turn of the loop for other work between the lists."""
        await self._known.look()
        for some in slices(self._known.names(), _SLICE_CHANNELS):
            yield [record for name in some if wanted(name) and (record := self.one(name))]
            await asyncio.sleep(0)

    async def part(self, asked: ListChannels) -> Part[ChannelRecord]:
        """Return this node's part, one call after another: callers must not multiply the work."""
        names = asked.names
        async with self._looking:
            selection = Selection(CHANNELS, asked.query, self.origin, count=asked.count)
            offsets = self._rates.begin()
            async for records in self._slices():
                offsets.update((record.channel, record.position.offset) for record in records)
                some = [r for r in records if r.channel in names] if names else records
                by_rate = asked.query.sort == _RATE
                selection.look_at(self._rates.rated(some) if by_rate else some)
            return selection.part(self._rates.rated_one)

    # -- over all nodes ----------------------------------------------------------------------

    async def added_up(
        self, admin: Admin, name: str, stored: ChannelRecord | None = None
    ) -> OneChannel | None:
        """Return one channel with the subscribers of all nodes; None where none knows it.

        `stored` is the channel as history has it, where this node does not know it.
        """
        answers = await admin.call(GetChannel(name), Everywhere())
        known = [stored, *answers.by_tag.values()]
        if not (found := [each for each in known if each is not None]):
            return None
        return OneChannel(reduce(joined, found), answers.complete, answers.unanswered)

    async def everywhere(self, admin: Admin, query: Query) -> Page[ChannelRecord]:
        """Return a page over all nodes, with the history of each channel where only the broker
        knows it.

        Every node sends as many rows as the page and those before it need, and then those of the
        channels that others named. A channel that no node has among its first is not found: one
        with some subscribers on each of many nodes may be missing from the end of a page that
        is sorted by subscribers.

        Pages sorted by history follow each other by the most publications that it can have.

        Raises `BadRequestError` for a page beyond `MAX_ROWS` rows that is not sorted by name.
        """
        if query.skip >= MAX_ROWS:
            raise BadRequestError(f"after is beyond {MAX_ROWS:,} rows: narrow it by prefix")
        count = min(query.skip + query.limit + 1, MAX_ROWS + 1)
        answers = await admin.call(ListChannels(query, count), Everywhere())
        rest = [] if answers.unknown else await _rest(admin, query, answers.by_tag)
        page = merge(query, _added_up(query, answers, rest))
        if query.sort != CHANNELS.named_by and query.skip + len(page.rows) >= MAX_ROWS:
            page = replace(page, more=False)
        if answers.unknown is not None:
            return page  # The broker is away, which told of the nodes.
        return await self._with_held(query, page)

    async def _with_held(self, query: Query, page: Page[ChannelRecord]) -> Page[ChannelRecord]:
        told: list[ChannelRecord] = []
        for some in slices(page.records, _SLICE_HELD):
            told += await asyncio.gather(*map(self._held, some))
        rows = [_row(query, record) for record in told]
        if query.sort == "history":
            rows.sort(key=lambda row: row.key, reverse=query.descending)
        return replace(page, rows=tuple(rows))

    async def _held(self, record: ChannelRecord) -> ChannelRecord:
        if record.history is not None:
            return record
        return replace(record, history=await self._known.count_held(record))


async def _rest(
    admin: Admin, query: Query, parts: Mapping[str, Part[ChannelRecord]]
) -> list[Part[ChannelRecord]]:
    """Return the rows of channels that other nodes named, of nodes that did not send all."""
    named = {row.record.channel for part in parts.values() for row in part.rows}
    missing = {
        tag: names
        for tag, part in parts.items()
        if part.more and (names := named - {row.record.channel for row in part.rows})
    }
    answers = await asyncio.gather(
        *(
            admin.call(ListChannels(query, len(names), frozenset(names)), AtTag(tag))
            for tag, names in missing.items()
        ),
        return_exceptions=True,
    )
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, HubError):
            raise answer
    return [answer for answer in answers if not isinstance(answer, BaseException)]


def _added_up(
    query: Query, answers: Answers[Part[ChannelRecord]], rest: Sequence[Part[ChannelRecord]]
) -> Answers[Part[ChannelRecord]]:
    """Return one part with a row per channel: all its subscribers, the newest position seen."""
    parts = [*answers.by_tag.values(), *rest]
    found: dict[str, ChannelRecord] = {}
    for record in (row.record for part in parts for row in part.rows):
        known = found.get(record.channel)
        found[record.channel] = record if known is None else joined(known, record)
    rows = tuple(_row(query, record) for record in found.values())
    # At least so many, where nodes have more rows than one part may have.
    total = max([len(rows), *(part.total for part in answers.by_tag.values())])
    return replace(answers, by_tag={"": Part(rows, total, more=False)})


def _row(query: Query, record: ChannelRecord) -> Row[ChannelRecord]:
    sort = CHANNELS.sort_of(query)
    return Row((sort(record, _NOWHERE), record.channel), record)


_NOWHERE = RowSource("", lambda: 0.0, 0.0)
"""The origin of a row that is the sum of several nodes' rows."""


class ChannelRates:
    """Rates of publications: each channel's offset now, and at the look before.

    They cost nothing while no list is made. A channel that was not seen before has no rate.
    """

    def __init__(self, clock: Monotonic) -> None:
        self._clock = clock
        self._before: tuple[float, Mapping[str, int]] = (clock(), {})
        self._latest: tuple[float, dict[str, int]] = (clock(), {})

    def begin(self) -> dict[str, int]:
        """Return a mapping for the offsets of all channels by name, for the next look."""
        now = self._clock()
        if now - self._latest[0] < LEAST_SECONDS:
            return {}  # Dropped: a look was a moment ago.
        self._before, self._latest = self._latest, (now, {})
        return self._latest[1]

    def rated(self, records: Sequence[ChannelRecord]) -> list[ChannelRecord]:
        """Return these with their rates since the look before."""
        return list(map(self.rated_one, records))

    def rated_one(self, record: ChannelRecord) -> ChannelRecord:
        since, offsets = self._before
        elapsed = self._clock() - since
        before = offsets.get(record.channel)
        if before is None or not LEAST_SECONDS <= elapsed <= MOST_SECONDS:
            return record
        if before > record.position.offset:
            return record  # In another epoch then.
        rate = round((record.position.offset - before) / elapsed, 2)
        return replace(record, publications_per_second=rate)


# Patterns of one node, those with most sessions: 200 characters each at most, so 200 KB.
_MOST = 1000


@dataclass(frozen=True, slots=True)
class PatternRecord:
    pattern: str
    sessions: int
    """The number of sessions that subscribe to it."""


class PatternPart(msgspec.Struct, frozen=True):
    """Patterns of one node, those with most sessions first."""

    rows: tuple[PatternRecord, ...]
    total: int
    """The number of patterns that the node has; the rows may be a part."""


class ListPatterns(AdminRequest[PatternPart], frozen=True, tag="patterns"):
    """Asks for this node's patterns."""


class PatternList(msgspec.Struct, frozen=True):
    """Patterns of all nodes, those with most sessions first."""

    patterns: Sequence[PatternRecord]
    total: int
    """The number of patterns; a lower bound where one node has more than a part may have."""
    complete: bool
    unanswered: tuple[str, ...]


class Patterns:
    """Carries `ListPatterns` out; one per node.

    Args:
        counts: returns the patterns of this node's sessions, and how many subscribe to each.
    """

    def __init__(self, counts: Callable[[], Sequence[tuple[str, int]]]) -> None:
        self._counts = counts

    def handlers(self) -> Handlers:
        return {ListPatterns: self._part}

    async def _part(self, _asked: ListPatterns) -> PatternPart:
        counted = self._counts()
        return PatternPart(_most(dict(counted), _MOST), len(counted))


async def list_patterns(admin: Admin, limit: int) -> PatternList:
    """Return the first `limit` of all nodes together."""
    answers = await admin.call(ListPatterns(), Everywhere())
    parts = list(answers.by_tag.values())
    summed: Counter[str] = Counter()
    for row in (row for part in parts for row in part.rows):
        summed[row.pattern] += row.sessions
    total = max([len(summed), *(part.total for part in parts)])
    return PatternList(_most(summed, limit), total, answers.complete, answers.unanswered)


def _most(counted: dict[str, int], limit: int) -> tuple[PatternRecord, ...]:
    first = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(PatternRecord(pattern, sessions) for pattern, sessions in first[:limit])
