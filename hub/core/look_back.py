"""History from a moment on, and from its newest backwards: by what every broker answers.

A broker reads forwards from an offset. Times of a channel rise with its offsets, as one clock tells
them, so the first publication since a moment is found by halving; where that clock was set back
meanwhile, one of the moments that it told twice is meant. No I/O but the broker's.
"""

from collections import deque
from dataclasses import dataclass, replace

from hub.core.eager import NEXT_TURN
from hub.core.options import MIB
from hub.core.ports import Broker, HistoryPage
from hub.core.publication import Position, Publication

# As an answer of `history` has.
_MAX_BYTES = MIB
# Read forwards at a time and turned round; more where such a stretch held nothing.
_STRETCH = 64
_MAX_STRETCH = 65_536
# Offsets of a channel from which others get a turn after each read: what history does not hold is
# passed over one by one (measured: 7 ms for 100,000), and one question reads up to 40 times.
_LONG = 4096


@dataclass(frozen=True, slots=True)
class LookBack:
    """What is asked for: at most `limit` publications."""

    limit: int
    from_ms: int | None = None
    """Milliseconds since 1970: none that are older."""
    since: Position | None = None
    """Those after it, backwards those before it; of another epoch it counts as left out."""
    reverse: bool = False
    """Newest first."""


@dataclass(frozen=True, slots=True)
class Found:
    """An answer to a `LookBack`."""

    page: HistoryPage
    """Its publications in the order that was asked for."""
    next: Position | None
    """`since` of the question that goes on; None where nothing is left."""
    complete: bool
    """Whether nothing that was asked for had gone already."""


async def look_back(broker: Broker, channel: str, asked: LookBack) -> Found:
    """Read it; raise what the broker raises."""
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
    found, left = await read(broker, channel, Stretch(head.epoch, lowest, highest), asked.limit)
    following = Position(head.epoch, left) if left is not None else None
    return Found(replace(page, publications=found), following, complete)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Offsets of one epoch, both ends included."""

    epoch: str
    first: int
    last: int


_Part = tuple[tuple[Publication, ...], int | None]
"""Publications, and the offset to go on from where there are more."""


async def _first_since(broker: Broker, channel: str, page: HistoryPage, from_ms: int) -> int:
    """The offset of the first publication of that time or later; head + 1 where none is."""
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


async def _forwards(broker: Broker, channel: str, stretch: Stretch, limit: int) -> _Part:
    found: list[Publication] = []
    after, room = stretch.first - 1, _MAX_BYTES
    while after < stretch.last:
        if len(found) == limit:
            return tuple(found), after
        page = await _read(broker, channel, stretch, after, limit - len(found))
        if not page:
            break
        for each in page:
            room -= len(each.data)
            if room < 0 and found:
                return tuple(found), after
            found.append(each)
            after = each.offset
    return tuple(found), None


async def _backwards(broker: Broker, channel: str, stretch: Stretch, limit: int) -> _Part:
    found: list[Publication] = []
    last, room, size = stretch.last, _MAX_BYTES, _STRETCH
    while last >= stretch.first:
        first = max(stretch.first, last - size + 1)
        part: deque[Publication] = deque(maxlen=limit - len(found))
        after = first - 1
        while after < last:
            page = await _read(broker, channel, replace(stretch, last=last), after, last - after)
            if not page:
                break
            part += page
            after = page[-1].offset
        for each in reversed(part):
            room -= len(each.data)
            if room < 0 and found:
                return tuple(found), found[-1].offset
            found.append(each)
        if len(found) == limit and found[-1].offset > stretch.first:
            return tuple(found), found[-1].offset
        size = _STRETCH if part else min(size * 2, _MAX_STRETCH)
        last = first - 1
    return tuple(found), None


async def _read(
    broker: Broker, channel: str, stretch: Stretch, after: int, limit: int
) -> list[Publication]:
    """Some of the stretch behind `after`; none where there are none, or its epoch is over."""
    page = await broker.history(channel, after, limit)
    if page.head.offset - page.oldest > _LONG:
        await NEXT_TURN
    if page.head.epoch != stretch.epoch:
        return []
    return [each for each in page.publications if each.offset <= stretch.last]
