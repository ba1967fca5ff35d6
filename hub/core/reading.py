"""Reads a channel without subscribing to it: its history, a look back, the rows of its state.

Sessions, the HTTP API and the application in this process use the same calls. Their callers check
before whether a reader may read the channel.

A look back reads history from a moment on, or from its newest publication backwards. A broker
reads forwards from an offset only. The times of a channel's publications rise with their offsets,
because one clock gives them, so a binary search finds the first publication since a moment. Where
that clock was set back, a moment occurs twice, and the search finds either of them.
"""

from collections import deque
from dataclasses import dataclass, replace

from hub.core import values
from hub.core.eager import NEXT_TURN
from hub.core.options import MIB, Namespaces
from hub.core.ports import Broker, HistoryPage, StatePage
from hub.core.publication import Position, Publication
from hub.errors import BadRequestError

MAX_HISTORY_LIMIT = 1000
# A history answer is one frame and leaves nothing else through while it is written.
MAX_HISTORY_BYTES = MIB
# Offsets that a look back reads forwards at a time and then reverses; twice as many after each read
# that held nothing.
_STEP = 64
_MAX_STEP = 65_536
# From so many offsets of history on, other work gets a turn after each read. A broker passes over
# missing offsets one by one (measured: 7 ms for 100,000), and one question reads up to 40 times.
_LONG = 4096


@dataclass(frozen=True, slots=True)
class LookBack:
    """A request for at most `limit` publications."""

    limit: int
    from_ms: int | None = None
    """Milliseconds since 1970 UTC; older publications are left out."""
    since: Position | None = None
    """Start after it, or before it when reading backwards; of another epoch it is ignored."""
    reverse: bool = False
    """Newest first."""


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to a `LookBack`."""

    page: HistoryPage
    """Has its publications in the requested order."""
    next: Position | None
    """`since` of the request that continues; None where nothing is left."""
    complete: bool
    """Whether history still held every requested publication."""


async def look_back(broker: Broker, channel: str, asked: LookBack) -> Found:
    """Carry out a look back; raise what the broker raises."""
    page = await broker.history(channel, 0, 1)
    head, lowest = page.head, page.oldest
    since = asked.since if asked.since and asked.since.epoch == head.epoch else None
    if asked.from_ms is not None:
        lowest = await _first_since(broker, channel, page, asked.from_ms)
    complete = page.oldest <= 1 or lowest > page.oldest
    if not asked.reverse and since is not None:
        complete = complete or since.offset + 1 >= page.oldest
        lowest = max(lowest, since.offset + 1)
    highest = head.offset
    if asked.reverse and since is not None:
        highest = min(highest, since.offset - 1)
    read = _backwards if asked.reverse else _forwards
    found, left = await read(broker, channel, _Range(head.epoch, lowest, highest), asked.limit)
    following = Position(head.epoch, left) if left is not None else None
    return Found(values.replace(page, publications=found), following, complete)


@dataclass(frozen=True, slots=True)
class _Range:
    """Offsets of one epoch, both ends included."""

    epoch: str
    first: int
    last: int


_Part = tuple[tuple[Publication, ...], int | None]
"""Publications, and the offset to go on from where there are more."""


async def _first_since(broker: Broker, channel: str, page: HistoryPage, from_ms: int) -> int:
    """Return the offset of the first publication at or after that time, else head + 1."""
    low, high = page.oldest, page.head.offset + 1
    while low < high:
        middle = (low + high) // 2
        probe = await broker.history(channel, middle - 1, 1)
        if page.head.offset - page.oldest > _LONG:
            await NEXT_TURN
        if probe.head.epoch != page.head.epoch:
            break
        first = probe.publications[0] if probe.publications else None
        if first is None or first.time_ms >= from_ms:
            high = middle
        else:
            low = first.offset + 1
    return low


async def _forwards(broker: Broker, channel: str, span: _Range, limit: int) -> _Part:
    found: list[Publication] = []
    after, room = span.first - 1, MAX_HISTORY_BYTES
    while after < span.last:
        if len(found) == limit:
            return tuple(found), after
        page = await _read(broker, channel, span, after, limit - len(found))
        if not page:
            break
        for each in page:
            room -= each.size_bytes
            if room < 0 and found:
                return tuple(found), after
            found.append(each)
            after = each.offset
    return tuple(found), None


async def _backwards(broker: Broker, channel: str, span: _Range, limit: int) -> _Part:
    found: list[Publication] = []
    last, room, size = span.last, MAX_HISTORY_BYTES, _STEP
    while last >= span.first:
        first = max(span.first, last - size + 1)
        part: deque[Publication] = deque(maxlen=limit - len(found))
        after = first - 1
        while after < last:
            page = await _read(broker, channel, replace(span, last=last), after, last - after)
            if not page:
                break
            part += page
            after = page[-1].offset
        for each in reversed(part):
            room -= each.size_bytes
            if room < 0 and found:
                return tuple(found), found[-1].offset
            found.append(each)
        if len(found) == limit and found[-1].offset > span.first:
            return tuple(found), found[-1].offset
        size = _STEP if part else min(size * 2, _MAX_STEP)
        last = first - 1
    return tuple(found), None


async def _read(
    broker: Broker, channel: str, span: _Range, after: int, limit: int
) -> list[Publication]:
    """Return some publications of `span` after `after`; none where its epoch is over."""
    page = await broker.history(channel, after, limit)
    if page.head.offset - page.oldest > _LONG:
        await NEXT_TURN
    if page.head.epoch != span.epoch:
        return []
    return [each for each in page.publications if each.offset <= span.last]


class ChannelReading:
    """Reads channels for anybody; one per node. It keeps nothing."""

    def __init__(self, broker: Broker, namespaces: Namespaces) -> None:
        self._broker = broker
        self._namespaces = namespaces

    async def history(self, channel: str, since: Position | None, limit: int) -> HistoryPage:
        """Return at most `limit` publications (1 to 1,000) and 1 MiB after `since`, oldest first.

        Without `since`, or where it belongs to another epoch, begin with the oldest that is held.
        """
        _check_limit(limit)
        after = 0 if since is None else since.offset
        page = await self._broker.history(channel, after, limit, max_bytes=MAX_HISTORY_BYTES)
        if since is not None and since.epoch != page.head.epoch and after:
            page = await self._broker.history(channel, 0, limit, max_bytes=MAX_HISTORY_BYTES)
        return await self._lengthened(channel, page, limit)

    async def look_back(self, channel: str, asked: LookBack) -> Found:
        """Return at most `limit` publications (1 to 1,000), from a moment on or backwards."""
        _check_limit(asked.limit)
        return await look_back(self._broker, channel, asked)

    async def clear_history(self, channel: str) -> None:
        """Delete all that was published before; raise what the broker raises."""
        await self._broker.clear(channel)

    async def _lengthened(self, channel: str, page: HistoryPage, limit: int) -> HistoryPage:
        """Return `page` with the publications behind it, because a broker returns as much as it
        likes.

        The result ends before a hole, so that the next request shows the hole.
        """
        found = list(page.publications)
        room = MAX_HISTORY_BYTES - sum(publication.size_bytes for publication in found)
        last, head = page.last, page.head
        while 0 < last < head.offset and len(found) < limit and room > 0:
            more = await self._broker.history(channel, last, limit - len(found), max_bytes=room)
            if more.head.epoch != head.epoch or more.oldest > last + 1 or not more.publications:
                break
            head = more.head
            for publication in more.publications:
                room -= publication.size_bytes
                if room >= 0:
                    found.append(publication)
                    last = publication.offset
        return HistoryPage(head, page.oldest, tuple(found))

    def check_keyed(self, channel: str) -> None:
        """Raise `BadRequestError` where the channel's namespace keeps no state."""
        self._namespaces.options(channel).check_keyed(channel)

    async def state(self, channel: str, after: str, limit: int) -> StatePage:
        """Return at most `limit` rows with keys above `after`, and 1 MiB, in the order of keys.

        The rows and the publications after the head of the answer make the state at any later
        position.
        """
        self.check_keyed(channel)
        page = await self._broker.state(channel, after, limit, max_bytes=MAX_HISTORY_BYTES)
        head, rows = page.head, list(page.rows)
        room = MAX_HISTORY_BYTES - sum(row.size_bytes for row in rows)
        while page.next is not None and len(rows) < limit and room > 0:
            more = await self._broker.state(
                channel, page.next, limit - len(rows), upto=head.offset, max_bytes=room
            )
            if more.head.epoch != head.epoch:
                break
            page = more
            rows += page.rows
            room -= sum(row.size_bytes for row in page.rows)
        return StatePage(head, tuple(rows), page.next, page.dropped)


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_HISTORY_LIMIT:
        raise BadRequestError(f"limit is {limit}, allowed is 1 to {MAX_HISTORY_LIMIT}")


def history_ok(channel: str, page: HistoryPage) -> dict[str, object]:
    """Return a history answer in its wire form."""
    return {
        "channel": channel,
        "position": str(page.head),
        "oldest": page.oldest,
        "publications": page.publications,
    }


def look_back_ok(channel: str, found: Found) -> dict[str, object]:
    """Return the answer to a look back in its wire form."""
    following = None if found.next is None else str(found.next)
    return {**history_ok(channel, found.page), "complete": found.complete, "next": following}
