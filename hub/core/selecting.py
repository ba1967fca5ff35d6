"""One node's part of a list of connections: filtered, sorted and cut to a page.

It looks at sessions, not at records of them: with 50,000 of them only those of the page are
worth a record. Whoever owns the loop hands the sessions in slices.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from heapq import nlargest, nsmallest
from types import MappingProxyType

from hub.core.listing import ConnectionQuery, Key, Listed, Row, Value
from hub.core.ports import Monotonic
from hub.core.records import SessionRecord
from hub.core.session import Session
from hub.core.views import session_record

# Sorts before every round trip.
_NO_ROUND_TRIP = -1.0
# Sorts before every age: no clock is so far ahead.
_NOTHING_OWED = -1e12


@dataclass(frozen=True, slots=True)
class Here:
    """What rows say of the node they come from."""

    node: str
    clock: Monotonic
    wall_offset_seconds: float
    """From the clock to seconds since 1970 UTC; fixed, so that a row's key stays what it is."""

    def record(self, session: Session) -> SessionRecord:
        now = self.clock()
        wall_seconds = now + self.wall_offset_seconds
        return session_record(session, node=self.node, now_seconds=now, wall_seconds=wall_seconds)


Column = Callable[[Session, Here], Value]

TEXTS: Mapping[str, Column] = MappingProxyType(
    {
        "connection": lambda session, _: session.id,
        "node": lambda _, here: here.node,
        "transport": lambda session, _: session.link.transport,
        "subject": lambda session, _: session.identity.subject or "",
        "address": lambda session, _: session.link.address,
        "user_agent": lambda session, _: session.link.user_agent,
    }
)
"""Columns of words; an absent subject sorts as an empty one."""

NUMBERS: Mapping[str, Column] = MappingProxyType(
    {
        "opened_ms": lambda s, here: int((s.opened_at_seconds + here.wall_offset_seconds) * 1000),
        "round_trip_ms": lambda session, _: _round_trip_ms(session),
        "sent": lambda session, _: session.sent,
        "dropped": lambda session, _: session.dropped,
        "outbox_messages": lambda s, _: 0 if s.outbox is None else s.outbox.messages,
        "outbox_bytes": lambda session, _: session.owed_bytes,
        "outbox_age_seconds": lambda session, here: _owed_since(session, here),
        "subscriptions": lambda session, _: len(session.subscriptions),
    }
)
"""Columns of numbers."""

COLUMNS: Mapping[str, Column] = MappingProxyType({**TEXTS, **NUMBERS})
"""What a list can be sorted by."""


def _round_trip_ms(session: Session) -> float:
    round_trip = session.round_trip_seconds
    return _NO_ROUND_TRIP if round_trip is None else round(round_trip * 1000, 3)


def _owed_since(session: Session, here: Here) -> float:
    """Sorts like the age of what is owed, and does not change while time passes."""
    oldest = None if session.outbox is None else session.outbox.oldest_at()
    return _NOTHING_OWED if oldest is None else -(oldest + here.wall_offset_seconds)


class Selection:
    """The page of one query, growing slice by slice."""

    def __init__(self, query: ConnectionQuery, here: Here) -> None:
        self._query = query
        self._here = here
        self._column = COLUMNS[query.sort]
        self._best: list[tuple[Key, Session]] = []
        self._total = 0
        self._beyond = 0
        """Of them, those that come after the page before."""

    def look_at(self, sessions: Iterable[Session]) -> None:
        """Take these into account."""
        matching = [session for session in sessions if self._matches(session)]
        self._total += len(matching)
        keyed = ((self._key(session), session) for session in matching)
        found = [pair for pair in keyed if self._query.is_beyond(pair[0])]
        self._beyond += len(found)
        first = nlargest if self._query.descending else nsmallest
        self._best = first(self._query.limit, self._best + found, key=lambda pair: pair[0])

    def _key(self, session: Session) -> Key:
        return self._column(session, self._here), session.id

    def _matches(self, session: Session) -> bool:
        query, link = self._query, session.link
        return (
            (query.subject is None or session.identity.subject == query.subject)
            and (query.transport is None or link.transport == query.transport)
            and (query.address is None or link.address == query.address)
            and (query.channel is None or query.channel in session.subscriptions)
            and (query.node is None or query.node == self._here.node)
        )

    def listed(self) -> Listed:
        """The page of all that was looked at."""
        rows = tuple(Row(key, self._here.record(session)) for key, session in self._best)
        return Listed(rows, self._total, more=self._beyond > len(rows))
