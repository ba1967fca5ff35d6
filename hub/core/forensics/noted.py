"""The notes of one connection: events that were out of the ordinary, and its last record.

A connection to which nothing special happened has no events.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from hub.core.records import SessionRecord

MAX_EVENTS = 1000
"""Per connection."""
# An event with its numbers and its places in both queues, measured with `tracemalloc` (350 with a
# channel's name of 14 characters and an epoch that nothing else holds any more).
EVENT_BYTES = 340
# A closed connection's last record without the texts that peers and operators choose, measured with
# `tracemalloc` (1,150). The texts are counted by their lengths.
CLOSED_BYTES = 1200
# Adjacent ranges within a second are one event.
_JOIN_SECONDS = 1.0


class What(StrEnum):
    """The event of a range of offsets."""

    HELD = "held"
    """A subscription was owed them, and has ended since (`detail` says how)."""
    LATE = "late"
    """Written from the outbox, with gaps for those that were lost or dropped."""
    REPLAYED = "replayed"
    """Written from history."""
    DROPPED = "dropped"
    CONFLATED = "conflated"
    UNSENT = "unsent"
    """Still owed when the connection ended."""
    OWN = "own"
    """Not written: the connection's own publications, which it asked not to get back."""
    EXPIRED = "expired"
    """History no longer had them when they were to be read for this connection."""
    RESET = "reset"
    """A new epoch was that far when it began here; its `reset` named the position after them."""
    INVALID = "invalid"
    """History had an entry that is no publication."""
    THINNED = "thinned"
    """Only the newest of each key was written, as the subscription asked. `detail` has the interval
    and the written offsets (`thinned_detail`)."""
    ROWS = "rows"
    """Rows of the channel's state were sent in their place, as of position `by`."""
    THROTTLED = "throttled"
    """The subscription that ends here wanted updates in an interval (`detail`: milliseconds)."""
    FILTERED = "filtered"
    """The subscription that ends here had a filter (`detail`)."""
    MATCHED = "matched"
    """The subscription that ends here came only by a pattern (`detail`)."""
    KEYED = "keyed"
    """The subscription that ends here began with the rows of its channel."""
    REFUSED = "refused"
    """A subscription to the channel was refused (`detail` has the error's code)."""


TERMS = frozenset({What.THROTTLED, What.FILTERED, What.MATCHED, What.KEYED})
"""Options of a subscription. They are noted right before its `HELD`."""
# Above so many written offsets, they are not noted one by one: a note of 64 is 500 bytes.
_MAX_WRITTEN = 64


def thinned_detail(every_ms: int, written: Sequence[int]) -> str:
    """Return the detail of a `THINNED` note; `500 7 9` where offsets 7 and 9 were written."""
    named = "?" if len(written) > _MAX_WRITTEN else " ".join(map(str, written))
    return f"{every_ms} {named}"


def written_of(event: "Event") -> tuple[str, frozenset[int] | None]:
    """Return the interval and the written offsets of a `THINNED` note; None where not noted."""
    every_ms, *named = event.detail.split()
    return every_ms, None if named == ["?"] else frozenset(map(int, named))


@dataclass(slots=True, eq=False)
class Event:
    """An event of offsets `first` to `last` of one channel; grows while the same goes on."""

    what: What
    channel: str
    epoch: str
    first: int
    last: int
    at_seconds: float
    until_seconds: float
    detail: str = ""
    by: int = 0
    """For `CONFLATED` the offset that replaced it, for `HELD` the last one from history, for
    `THINNED` its last, and for `ROWS` the offset as of which they hold."""

    @property
    def size(self) -> int:
        """Its approximate bytes."""
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
    """Monotonic time up to which some notes are forgotten."""

    def __len__(self) -> int:
        return len(self.events)

    @property
    def complete(self) -> bool:
        """Whether no note is forgotten."""
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
    """Its last state."""
    closed_ms: int
    """Milliseconds since 1970 UTC."""
    closed_at_seconds: float
    code: int
    reason: str
    notes: Notes


class Farewell:
    """The keeper of a closed connection's record (`hub.core.forensics.journal.Keeps`)."""

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
