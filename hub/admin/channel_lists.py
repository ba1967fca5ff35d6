"""Channels of this node and of all, as lists that are sorted and cut before anybody sees them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from hub.core.channel_listing import (
    COLUMNS,
    ChannelPage,
    ChannelQuery,
    ChannelRates,
    ChannelSelection,
    added_up,
)
from hub.core.peers import Arguments, Told
from hub.core.ports import Monotonic
from hub.core.publication import Position
from hub.core.records import ChannelRecord, NodeRecord
from hub.errors import BadRequestError, HubError

# Of one node's part: names are 200 characters at most, so this is a quarter of the MiB that
# an answer between nodes may have.
MAX_ROWS = 1000
# Looked at between two turns of the loop. Measured: some 4 us each, so 2 ms.
_SLICE_CHANNELS = 500
# Asked of the broker at a time, some 28 us each.
_SLICE_HELD = 100


class Known(Protocol):
    """The channels of this node; `hub.node.api.KnownChannels`."""

    def names(self) -> Sequence[str]: ...

    def one(self, name: str) -> ChannelRecord | None:
        """None for one that is known no more, or not yet."""
        ...

    async def count_held(self, record: ChannelRecord) -> int | None:
        """How many publications the broker holds; None where it does not say."""
        ...


class Nodes(Protocol):
    """Of `hub.core.peers.Peers` what is needed here."""

    async def by_tag(self) -> Mapping[str, NodeRecord]: ...

    async def operate(self, tag: str, name: str, arguments: Arguments) -> Told: ...


@dataclass(frozen=True, slots=True)
class _Part:
    records: tuple[ChannelRecord, ...]
    total: int
    """How many match, on all pages."""
    more: bool
    """Whether there are some beyond these."""


class ChannelLists:
    """One per node; owned by the event loop."""

    def __init__(self, known: Known, nodes: Nodes, *, clock: Monotonic) -> None:
        self._known = known
        self._nodes = nodes
        self._rates = ChannelRates(clock)
        self._looking = asyncio.Lock()
        self._serving = asyncio.Lock()
        """Of its own, so that operators do not wait for everybody else."""

    async def everywhere(self, query: ChannelQuery) -> ChannelPage:
        """A page over all nodes, and how much of each is held where only the broker knows.

        Every node says as many rows as the page and those before it need, and then of the
        channels that others named. What is on no node among the first is not found: a channel
        with some subscribers on each of many nodes may be missing from the end of a page that
        is sorted by them.

        Pages sorted by what is held follow each other by the most that it can be.

        Raises `BadRequestError` for a page beyond `MAX_ROWS` rows that is not sorted by name.
        """
        page = await self._page(query)
        if not page.complete and not page.unanswered:
            return page  # the broker is away, which told of the nodes
        rows = await self._held(page.rows)
        by_held = query.sort == "history"
        return replace(page, rows=tuple(query.top(rows, len(rows)) if by_held else rows))

    async def _held(self, rows: Sequence[ChannelRecord]) -> list[ChannelRecord]:
        told: list[ChannelRecord] = []
        for start in range(0, len(rows), _SLICE_HELD):
            some = rows[start : start + _SLICE_HELD]
            told += await asyncio.gather(*(self._with_held(row) for row in some))
        return told

    async def _with_held(self, row: ChannelRecord) -> ChannelRecord:
        if row.history is not None:
            return row
        return replace(row, history=await self._known.count_held(row))

    async def _page(self, query: ChannelQuery) -> ChannelPage:
        needed = min(query.skip + query.limit + 1, MAX_ROWS + 1)
        if query.skip >= MAX_ROWS:
            raise BadRequestError(f"after is beyond {MAX_ROWS:,} rows: narrow it by prefix")
        try:
            nodes = await self._nodes.by_tag()
        except HubError:
            here = await self._part(query, needed, "")
            return _page(query, [here.records], here.total, complete=False)
        asked = _arguments(query, needed)
        answers = await self._ask(list(nodes), asked)
        parts = {tag: part for tag, part in answers.items() if part is not None}
        rest = await self._rest(parts, asked)
        records = [part.records for part in (*parts.values(), *rest)]
        silent = sorted(nodes[tag].node for tag, part in answers.items() if part is None)
        total = max((part.total for part in parts.values()), default=0)
        return _page(query, records, total, unanswered=silent)

    async def _rest(self, parts: dict[str, _Part], asked: Arguments) -> list[_Part]:
        """Of nodes that did not say all: what they know of the channels that others named."""
        named = {record.channel for part in parts.values() for record in part.records}
        missing = {
            tag: named - {record.channel for record in part.records}
            for tag, part in parts.items()
            if part.more
        }
        asks = [
            self._ask([tag], {**asked, "names": ",".join(sorted(names)), "count": len(names)})
            for tag, names in missing.items()
            if names
        ]
        answers = await asyncio.gather(*asks)
        return [part for answer in answers for part in answer.values() if part is not None]

    async def _ask(self, tags: Sequence[str], asked: Arguments) -> dict[str, _Part | None]:
        told = await asyncio.gather(*(self._one(tag, asked) for tag in tags))
        return dict(zip(tags, told, strict=True))

    async def _one(self, tag: str, asked: Arguments) -> _Part | None:
        """None of a node that does not answer, or does not know the question yet."""
        try:
            return _read(await self._nodes.operate(tag, "channels", asked))
        except HubError:
            return None

    # -- this node's part --------------------------------------------------------------------

    async def here(self, wanted: Callable[[str], bool]) -> Sequence[ChannelRecord]:
        """Those of this node whose names are wanted."""
        async with self._serving:
            return [record async for some in self._slices(wanted) for record in some]

    async def _slices(
        self, wanted: Callable[[str], bool] = lambda _: True
    ) -> AsyncIterator[list[ChannelRecord]]:
        """All that are wanted, with a turn of the loop for others between the lists."""
        everything = self._known.names()
        for start in range(0, len(everything), _SLICE_CHANNELS):
            some = filter(wanted, everything[start : start + _SLICE_CHANNELS])
            yield [record for name in some if (record := self._known.one(name))]
            await asyncio.sleep(0)

    async def part(self, arguments: Arguments) -> Told:
        """What another node asks with `_arguments`."""
        sort = str(arguments.get("sort"))
        count = arguments.get("count")
        if sort not in COLUMNS or not isinstance(count, int):
            raise BadRequestError("this node does not know the order that is asked for")
        prefix, names = str(arguments.get("prefix") or ""), str(arguments.get("names") or "")
        query = ChannelQuery(
            sort=sort,
            descending=bool(arguments.get("descending")),
            prefix=prefix,
            after=str(arguments.get("after") or ""),
        )
        part = await self._part(query, count, names)
        rows = [_row(record) for record in part.records]
        return {"rows": rows, "total": part.total, "more": part.more}

    async def _part(self, query: ChannelQuery, count: int, names: str) -> _Part:
        """One after another: many who ask must not multiply what the loop does at a time."""
        wanted = frozenset(names.split(",")) if names else None
        async with self._looking:
            selection = ChannelSelection(query, self._rates, count=count, names=wanted)
            async for records in self._slices():
                selection.look_at(records)
            return _Part(selection.rows, selection.total, more=selection.more)


def _page(
    query: ChannelQuery,
    parts: Sequence[Sequence[ChannelRecord]],
    total: int,
    *,
    unanswered: Sequence[str] = (),
    complete: bool = True,
) -> ChannelPage:
    everything = added_up(parts)
    rows = query.top(everything, query.skip + query.limit)[query.skip :]
    total = max(total, len(everything))
    return ChannelPage(
        rows=tuple(rows),
        total=total,
        more=len(everything) > query.skip + len(rows)
        and (query.by_name or query.skip + len(rows) < MAX_ROWS),
        unanswered=tuple(unanswered),
        complete=complete and not unanswered,
    )


def _arguments(query: ChannelQuery, count: int) -> Arguments:
    return {
        "sort": query.sort,
        "descending": int(query.descending),
        "prefix": query.prefix,
        "after": query.after,
        "count": count,
    }


def _row(record: ChannelRecord) -> list[object]:
    return [
        record.channel,
        record.position.epoch,
        record.position.offset,
        record.subscribers,
        record.history,
        record.presence,
        record.publications_per_second,
    ]


def _read(told: Told) -> _Part:
    rows, total, more = told.get("rows"), told.get("total"), told.get("more")
    if not isinstance(rows, list) or not isinstance(total, int):
        raise BadRequestError("the node's answer is no list of channels")
    records = [
        ChannelRecord(name, Position(epoch, offset), subscribers, history, presence, rate)
        for name, epoch, offset, subscribers, history, presence, rate in rows
    ]
    return _Part(tuple(records), total, more=bool(more))
