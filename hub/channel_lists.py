"""Channels of this node and of all, as lists that are sorted and cut before anybody sees them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hub.core.channel_listing import COLUMNS, ChannelPage, ChannelQuery, ChannelRates, added_up
from hub.core.ports import Arguments, Monotonic, Told
from hub.core.publication import Position
from hub.core.records import ChannelRecord, NodeRecord
from hub.core.reserved import is_reserved
from hub.errors import BadRequestError, HubError

# Of one node's part: names are 200 characters at most, so this is a quarter of the MiB that
# an answer between nodes may have.
MAX_ROWS = 1000


class Nodes(Protocol):
    """Of `hub.core.ports.Peers` what is needed here."""

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

    def __init__(
        self, channels: Callable[[], Sequence[ChannelRecord]], nodes: Nodes, *, clock: Monotonic
    ) -> None:
        self._channels = channels
        self._nodes = nodes
        self._rates = ChannelRates(clock)

    async def everywhere(self, query: ChannelQuery) -> ChannelPage:
        """A page over all nodes.

        Every node says as many rows as the page and those before it need, and then of the
        channels that others named. What is on no node among the first is not found: a channel
        with some subscribers on each of many nodes may be missing from the end of a page that
        is sorted by them.

        Raises `BadRequestError` for a page beyond `MAX_ROWS` rows that is not sorted by name.
        """
        needed = min(query.skip + query.limit + 1, MAX_ROWS + 1)
        if query.skip >= MAX_ROWS:
            raise BadRequestError(f"after is beyond {MAX_ROWS:,} rows: narrow it by prefix")
        try:
            nodes = await self._nodes.by_tag()
        except HubError:
            here = self._part(query, needed, "")
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
        part = self._part(query, count, names)
        rows = [_row(record) for record in part.records]
        return {"rows": rows, "total": part.total, "more": part.more}

    def _part(self, query: ChannelQuery, count: int, names: str) -> _Part:
        everything = self._channels()
        self._rates.sample(everything)
        wanted = set(names.split(",")) if names else None
        shows_own = is_reserved(query.prefix)
        matching = [
            record
            for record in everything
            if record.channel.startswith(query.prefix)
            and (wanted is None or record.channel in wanted)
            and (shows_own or not is_reserved(record.channel))
        ]
        beyond = [record for record in matching if query.is_beyond(record.channel)]
        if query.sort == "publications_per_second":
            beyond = self._rates.rated(beyond)
        rows = self._rates.rated(query.top(beyond, count))
        return _Part(tuple(rows), len(matching), more=len(beyond) > len(rows))


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
