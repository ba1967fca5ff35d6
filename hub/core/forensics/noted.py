"""What is kept of one connection: the events that set it apart from others, and its last record.

A connection for which all goes well has no events.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from hub.core.records import SessionRecord

MAX_EVENTS = 1000
"""Per connection."""
# Measured with `tracemalloc` (350 with a channel's name of 14 characters and an epoch that
# nobody else holds any more): an event with its numbers and its places in both queues.
EVENT_BYTES = 340
# Measured with `tracemalloc` (1,150): a closed connection's last record without the texts that
# peers and operators choose, which are counted as they are.
CLOSED_BYTES = 1200
# Stretches that follow each other within a second are one event.
_JOIN_SECONDS = 1.0


class What(StrEnum):
    """What happened to a stretch of offsets."""

    HELD = "held"
    """A subscription was owed them; it has ended since (`detail` says how)."""
    LATE = "late"
    """Written from the outbox, and what was lost or dropped among them announced there."""
    REPLAYED = "replayed"
    """Written from history."""
    DROPPED = "dropped"
    CONFLATED = "conflated"
    UNSENT = "unsent"
    """Still owed when the connection ended."""
    OWN = "own"
    """Not written: its own publications, which it asked not to get back."""
    EXPIRED = "expired"
    """History no longer had them when it was this connection's turn."""
    RESET = "reset"
    """A new epoch had come so far when it began here; its `reset` named the position behind."""
    INVALID = "invalid"
    """History had something that is no publication."""
    THINNED = "thinned"
    """Of these only the newest of each key was written, as the subscription asked (`detail` has how
    often it wants them, and which were written: `thinned_detail`)."""
    ROWS = "rows"
    """Rows of the channel's state were sent in their place, as of position `by`."""
    THROTTLED = "throttled"
    """The subscription that ends here wanted the newest only now and then (`detail` has how many
    milliseconds apart)."""
    FILTERED = "filtered"
    """The subscription that ends here wanted a part of its channel (`detail` has the filter)."""
    MATCHED = "matched"
    """The subscription that ends here came by a pattern alone (`detail` has the pattern)."""
    KEYED = "keyed"
    """The subscription that ends here began with the rows of its channel."""
    REFUSED = "refused"
    """A subscription to the channel was refused (`detail` has the error's code)."""


TERMS = frozenset({What.THROTTLED, What.FILTERED, What.MATCHED, What.KEYED})
"""What a subscription asked for. They stand right before the `HELD` of the subscription."""
# Of more, which of them were written is not noted one by one: a note of 64 is 500 bytes.
_MAX_WRITTEN = 64


def thinned_detail(every_ms: int, written: Sequence[int]) -> str:
    """What a note `THINNED` says: `500 7 9` where of its offsets 7 and 9 were written."""
    named = "?" if len(written) > _MAX_WRITTEN else " ".join(map(str, written))
    return f"{every_ms} {named}"


def written_of(event: "Event") -> tuple[str, frozenset[int] | None]:
    """Of a note `THINNED`: how often, and what was written; None where that is not noted."""
    every_ms, *named = event.detail.split()
    return every_ms, None if named == ["?"] else frozenset(map(int, named))


@dataclass(slots=True, eq=False)
class Event:
    """Offsets `first` to `last` of one channel; grows while the same goes on."""

    what: What
    channel: str
    epoch: str
    first: int
    last: int
    at_seconds: float
    until_seconds: float
    detail: str = ""
    by: int = 0
    """Of a conflated one: the offset that replaced it. Of a stretch that was held: up to where
    it came from history. Of one that was thinned: its last. Of rows: as of which offset."""

    @property
    def size(self) -> int:
        """In bytes, about."""
        return EVENT_BYTES + len(self.channel) + len(self.detail)

    def continues(self, before: "Event") -> bool:
        return (
            self.first == before.last + 1
            and self.what is before.what
            and not self.by
            and self.at_seconds - before.at_seconds < _JOIN_SECONDS
            and (self.channel, self.epoch, self.detail)
            == (before.channel, before.epoch, before.detail)
        )


@dataclass(slots=True, eq=False)
class Notes:
    """The events of one connection, oldest first."""

    # A deque would take 760 bytes for the first event; at most `MAX_EVENTS` are moved up.
    events: list[Event] = field(default_factory=list)
    forgotten_at: float = float("-inf")
    """Monotonic: of what happened up to then, some is forgotten."""

    def __len__(self) -> int:
        return len(self.events)

    @property
    def complete(self) -> bool:
        """Whether nothing is forgotten."""
        return self.forgotten_at == float("-inf")

    @property
    def oldest_at(self) -> float:
        return self.events[0].until_seconds

    def forget_oldest(self) -> int:
        event = self.events.pop(0)
        self.forgotten_at = event.until_seconds
        return event.size


@dataclass(frozen=True, slots=True)
class ClosedSession:
    """A connection that is gone."""

    record: SessionRecord
    """As it was in the end."""
    closed_ms: int
    """Milliseconds since 1970 UTC."""
    closed_at_seconds: float
    code: int
    reason: str
    notes: Notes


class Farewell:
    """The place of a closed connection among everything that is kept."""

    __slots__ = ("_closed", "_connection", "oldest_at", "size")

    def __init__(self, closed: dict[str, ClosedSession], gone: ClosedSession) -> None:
        record = gone.record
        texts = (record.user_agent, record.subject or "", record.address, gone.reason)
        self._closed = closed
        self._connection = record.connection
        self.oldest_at = gone.closed_at_seconds
        self.size = CLOSED_BYTES + sum(sys.getsizeof(text) for text in texts)

    def __len__(self) -> int:
        return int(self._connection in self._closed)

    def forget_oldest(self) -> int:
        del self._closed[self._connection]
        return self.size
