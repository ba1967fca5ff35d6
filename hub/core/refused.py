"""A table of the peers that were refused lately, and of those that limits held back.

Metrics have the numbers, and log lines the peers. Operators read both in this table, which a node
keeps in memory. A row has one reason and one address, or one limit and one peer. The table is
bounded: the `MAX_ROWS` addresses that came last have a row each for one reason, and one row without
an address counts the others. So a flood of one kind hides no other kind, and the counts add up.

Example: 300 addresses try a wrong key once each. The table has 100 rows `key`, and one row `key`
without an address and with the count 200.

No credential ever reaches this module (`hub.observe.refusals`). Texts from peers are cut.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hub.core.identity import MAX_SUBJECT_LENGTH
from hub.core.limits import party

# For one reason or limit. A row takes at most about 1 KB, and there are some 30 of both.
MAX_ROWS = 100
# The row of a peer that is refused again after such a pause begins anew. A guess.
PAUSE_MS = 60_000
# An IPv6 address with its zone has 50; a longer text is no address.
MAX_ADDRESS_CHARACTERS = 64
# Enough to recognise a host; its greatest length is 253 (RFC 1035 section 2.3.4).
MAX_HOST_CHARACTERS = 100
_DETAIL_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class RefusalRecord:
    """Refusals of one reason and one address, at one node."""

    reason: str
    """The label's value of `hub_refusals_total`; the error's code where that has none."""
    address: str
    """The /64 of an IPv6 address; empty in the row of all others."""
    count: int
    first_ms: int
    last_ms: int
    """Times of the first and the last refusal, in milliseconds since 1970 UTC."""
    detail: str
    """The message of the last refusal."""
    origin: str | None
    """The last origin that was sent."""
    host: str | None
    node: str


@dataclass(frozen=True, slots=True)
class LimitedRecord:
    """A peer that one limit held back, at one node."""

    limit: str
    """The label's value of `hub_rate_limited_total`."""
    by: str
    """The kind of `name`: `address`, `subject`, `key` or `connection`."""
    name: str
    """Empty in the row of all others."""
    address: str
    """The address of the last refusal; empty where unknown."""
    count: int
    """The number of refusals since `since_ms`."""
    since_ms: int
    """The first refusal that no pause of a minute followed."""
    last_ms: int
    node: str


@dataclass(slots=True, eq=False)
class _Row:
    first_ms: int
    name: str = ""
    count: int = 0
    last_ms: int = 0
    address: str = ""
    by: str = ""
    detail: str = ""
    origin: str | None = None
    host: str | None = None

    def add(self, now_ms: int) -> None:
        self.count += 1
        self.last_ms = now_ms


class _Rows:
    """The rows of one reason by kind and name of the peer, the most recent at the end."""

    __slots__ = ("_by_peer", "_others")

    def __init__(self) -> None:
        self._by_peer: dict[tuple[str, str], _Row] = {}
        self._others: _Row | None = None

    def row(self, name: str, now_ms: int, *, by: str = "") -> _Row:
        row = self._by_peer.pop((by, name), None) or _Row(now_ms, name, by=by)
        self._by_peer[by, name] = row
        if len(self._by_peer) > MAX_ROWS:
            self._let_go(self._by_peer.pop(next(iter(self._by_peer))))
        return row

    def begin_anew(self, name: str, *, by: str) -> None:
        self._by_peer.pop((by, name), None)

    def _let_go(self, row: _Row) -> None:
        others = self._others = self._others or _Row(row.first_ms)
        others.count += row.count
        others.first_ms = min(others.first_ms, row.first_ms)
        others.last_ms = max(others.last_ms, row.last_ms)

    def last_ms(self, name: str, *, by: str) -> int:
        """Return the time of the last refusal of `name`; 0 without any."""
        found = self._by_peer.get((by, name))
        return 0 if found is None else found.last_ms

    def __iter__(self) -> Iterator[_Row]:
        yield from self._by_peer.values()
        if self._others is not None:
            yield self._others


class RefusedTable:
    """The refused peers of a node; owned by the event loop.

    Args:
        now_ms: returns milliseconds since 1970 UTC.
    """

    def __init__(self, node: str, now_ms: Callable[[], int]) -> None:
        self._node = node
        self._now_ms = now_ms
        self._refusals: dict[str, _Rows] = {}
        self._limited: dict[str, _Rows] = {}

    def refused(
        self, reason: str, *, address: str, detail: str, origin: str | None, host: str | None
    ) -> None:
        """Record a refusal for one of the hub's own reasons."""
        now = self._now_ms()
        rows = self._refusals.setdefault(reason, _Rows())
        row = rows.row(party(address[:MAX_ADDRESS_CHARACTERS]), now)
        row.add(now)
        row.detail = detail[:_DETAIL_CHARACTERS]
        if origin is not None:
            row.origin = origin[:MAX_HOST_CHARACTERS]
        if host is not None:
            row.host = host[:MAX_HOST_CHARACTERS]

    def limited(self, limit: str, *, by: str, name: str, address: str) -> None:
        """Record a refusal by a limit."""
        now, name = self._now_ms(), name[:MAX_SUBJECT_LENGTH]
        rows = self._limited.setdefault(limit, _Rows())
        if now - rows.last_ms(name, by=by) > PAUSE_MS:
            rows.begin_anew(name, by=by)
        row = rows.row(name, now, by=by)
        row.add(now)
        row.address = address[:MAX_ADDRESS_CHARACTERS]

    def refusals(self) -> list[RefusalRecord]:
        """Return the rows of all reasons."""
        return [
            RefusalRecord(
                reason,
                row.name,
                row.count,
                row.first_ms,
                row.last_ms,
                row.detail,
                row.origin,
                row.host,
                self._node,
            )
            for reason, rows in self._refusals.items()
            for row in rows
        ]

    def held_back(self) -> list[LimitedRecord]:
        """Return the rows of all limits."""
        return [
            LimitedRecord(
                limit,
                row.by,
                row.name,
                row.address,
                row.count,
                row.first_ms,
                row.last_ms,
                self._node,
            )
            for limit, rows in self._limited.items()
            for row in rows
        ]
