"""A list of connections over all nodes: what is asked, what one node says, and the page of it.

Every node filters, sorts and cuts its own sessions (`hub.core.selecting`); the node that was
asked merges a page from their answers. So no node ever handles more than a page of another's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hub.core.records import SessionRecord

Value = str | int | float
Key = tuple[Value, str]
"""What a row is sorted by: the value of its column, then its connection, so that no two tie."""


@dataclass(frozen=True, slots=True)
class ConnectionQuery:
    """Which connections, in which order. None in a filter lets everything through."""

    limit: int = 100
    sort: str = "connection"
    """One of `hub.core.selecting.COLUMNS`."""
    descending: bool = False
    after: Key | None = None
    """The key of the last row of the page before."""
    node: str | None = None
    subject: str | None = None
    channel: str | None = None
    address: str | None = None
    transport: str | None = None

    def is_beyond(self, key: Key) -> bool:
        """Whether a row with `key` comes after the page before."""
        if self.after is None:
            return True
        return key < self.after if self.descending else key > self.after


@dataclass(frozen=True, slots=True)
class Row:
    key: Key
    record: SessionRecord


@dataclass(frozen=True, slots=True)
class Listed:
    """What one node has of the page, in its order."""

    rows: tuple[Row, ...]
    total: int
    """How many of its connections match, on all pages."""
    more: bool
    """Whether it has rows beyond these."""


@dataclass(frozen=True, slots=True)
class ConnectionPage:
    rows: tuple[Row, ...]
    total: int
    """On all nodes that answered."""
    more: bool
    unanswered: tuple[str, ...] = ()
    """Names of the nodes that did not answer in time: their connections are not in it."""
    all_known: bool = True
    """False where it could not be asked which nodes there are."""

    @property
    def complete(self) -> bool:
        """Whether every node's connections are in it."""
        return self.all_known and not self.unanswered


def merge(
    query: ConnectionQuery,
    answers: Sequence[Listed],
    *,
    unanswered: Sequence[str] = (),
    all_known: bool = True,
) -> ConnectionPage:
    """The page that the answers make together.

    Where a node has more than it said, nothing beyond its last row is taken from the others:
    what it left out would be skipped.
    """
    rows = sorted(
        (row for answer in answers for row in answer.rows),
        key=lambda row: row.key,
        reverse=query.descending,
    )
    ends = [answer.rows[-1].key for answer in answers if answer.more and answer.rows]
    if ends:
        end = max(ends) if query.descending else min(ends)
        rows = [row for row in rows if (row.key >= end if query.descending else row.key <= end)]
    taken = tuple(rows[: query.limit])
    said = sum(len(answer.rows) for answer in answers)
    more = len(taken) < said or any(answer.more for answer in answers)
    total = sum(answer.total for answer in answers)
    return ConnectionPage(taken, total, more, tuple(sorted(unanswered)), all_known)
