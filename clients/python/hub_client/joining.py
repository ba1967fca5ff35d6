"""Join the messages that a start or a resume replays into one (`joined`).

The hub says with the start how many offsets follow from history, so the last one of them is known.
Where history does not reach back that far, a first gap moves it. If the last one never comes, the
joined part is handed over after a short time and the rest comes singly, as in the browser client
(clients/js/src/joining.js). No I/O, no clock: `Feed` has the clock.

Example: the start is `e:4` and 3 follow. 5 and 6 are kept, 7 is the last: one message of all three
is handed over, with the position of 7.
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby

from hub_client import frames
from hub_client.messages import Gap, Item, Message, Position

_NOWHERE = Position("", 0)


class Joiner:
    """The replayed messages of one subscription, until their last one is there."""

    def __init__(self) -> None:
        self._start = _NOWHERE
        self._count = 0
        """The number of offsets that the hub announced."""
        self._last = 0
        """The last of these offsets."""
        self._parts: list[Message] = []

    @property
    def waits(self) -> bool:
        """Whether parts are kept until more come."""
        return bool(self._parts)

    def starts(self, start: Position, replayed: int) -> None:
        """Note that a connection begins at `start`, and `replayed` offsets follow from history."""
        if start.epoch != self._start.epoch:
            self._last = 0
        self._start = start
        self._count = replayed
        self._last = max(self._last, start.offset + replayed)

    def push(self, items: Iterable[Item]) -> tuple[Item, ...]:
        """Return the items for the application."""
        return tuple(told for item in items for told in self._push(item))

    def cut(self) -> tuple[Item, ...]:
        """Return the kept parts as they are; the rest of the replay comes singly."""
        self._last = 0
        return self._take_joined()

    def _take_joined(self) -> tuple[Item, ...]:
        parts, self._parts = self._parts, []
        return (join(parts),) if parts else ()

    def _push(self, item: Item) -> tuple[Item, ...]:
        if isinstance(item, Message) and self._is_replayed(item):
            self._parts.append(item)
            if not isinstance(item.data, str):
                self._last = 0
                parts, self._parts = self._parts, []
                return tuple(parts)
            return self._take_joined() if item.offset == self._last else ()
        told = (*self._take_joined(), item)
        if isinstance(item, Gap) and self._count and item.first == self._start.offset + 1:
            # History holds this part no more; as many messages follow it as the hub said.
            self._last = max(self._last, item.last + self._count)
        return told

    def _is_replayed(self, item: Message) -> bool:
        if item.offset is None or item.epoch != self._start.epoch or item.end:
            return False
        return item.offset <= self._last


def join(parts: list[Message]) -> Message:
    """Return one message out of several; all its fields but the data are those of the last."""
    data = frames.encode("".join(part.data for part in parts))
    of = tuple(parts)
    return replace(parts[-1], raw_data=data, joined=len(parts), parts=of, frame=data)


def join_page(found: list[Item]) -> list[Item]:
    """Return a page of history with the messages between two gaps joined, where all of them are
    text."""
    told: list[Item] = []
    for _, run in groupby(found, key=lambda each: isinstance(each, Gap)):
        items = list(run)
        texts = [each for each in items if isinstance(each, Message) and isinstance(each.data, str)]
        told += [join(texts)] if len(texts) == len(items) else items
    return told


def behind(item: Item, offset: int) -> Item:
    """Return the part of a gap or of a joined message that is behind `offset`."""
    if isinstance(item, Gap) and 0 < item.first <= offset:
        return replace(item, first=offset + 1)
    if isinstance(item, Message) and item.joined:
        return join([part for part in item.parts if (part.offset or 0) > offset])
    return item
