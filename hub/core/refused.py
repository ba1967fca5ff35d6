"""Peers that were refused lately, and those held to a limit: what operators see of them.

Metrics say how many, log lines say who, as long as somebody reads the log. This is a table of both
that a node keeps in memory: a row is one reason and one address, or one limit and whom it held
back. It is bounded, and says what it does not tell apart: of one reason the `MAX_ROWS` addresses
that came last have a row each, and what the others were refused is counted in a row without an
address. So a flood of one kind hides no other kind, and counts add up.

Example: 300 addresses try a wrong key once each: 100 rows `key`, and one row `key` without an
address whose count is 200.

No credential ever reaches this module (`hub.observe.refusals`). What a stranger wrote is cut.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hub.core.limits import party

# Of one reason, or one limit. A row takes about 1 KB at most, and there are some 30 of both.
MAX_ROWS = 100
# Who is refused again after a pause of this length begins anew. A guess.
PAUSE_MS = 60_000
MAX_NAME_CHARACTERS = 255
# An IPv6 address with its zone is 50; whatever is longer is no address.
MAX_ADDRESS_CHARACTERS = 64
# Enough to recognise a host; its greatest length is 253 (RFC 1035 section 2.3.4).
MAX_HOST_CHARACTERS = 100
_DETAIL_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class RefusalRecord:
    """Refusals of one reason and one address, at one node."""

    reason: str
    """As `hub_refusals_total` counts it; where it does not, the error's code."""
    address: str
    """Of an IPv6 address its /64; empty where this counts all that have no row of their own."""
    count: int
    first_ms: int
    last_ms: int
    """When the first and the last one was, in milliseconds since 1970 UTC."""
    detail: str
    """What the last one was told."""
    origin: str | None
    """Of the last one that named one."""
    host: str | None
    node: str


@dataclass(frozen=True, slots=True)
class LimitedRecord:
    """Whom one limit held back, at one node."""

    limit: str
    """As `hub_rate_limited_total` counts it."""
    by: str
    """What `name` is: `address`, `subject`, `key` or `connection`."""
    name: str
    """Empty where this counts all that have no row of their own."""
    address: str
    """Of the last one; empty where it is not known."""
    count: int
    """How often since ..."""
    since_ms: int
    """... then, without a pause of a minute."""
    last_ms: int
    node: str


@dataclass(slots=True, eq=False)
class _Row:
    first_ms: int
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
    """The rows of one reason by name, those that came last at the end."""

    __slots__ = ("_by_name", "_others")

    def __init__(self) -> None:
        self._by_name: dict[str, _Row] = {}
        self._others: _Row | None = None

    def row(self, name: str, now_ms: int) -> _Row:
        row = self._by_name.pop(name, None) or _Row(now_ms)
        self._by_name[name] = row
        if len(self._by_name) > MAX_ROWS:
            self._let_go(self._by_name.pop(next(iter(self._by_name))))
        return row

    def begin_anew(self, name: str) -> None:
        self._by_name.pop(name, None)

    def _let_go(self, row: _Row) -> None:
        others = self._others = self._others or _Row(row.first_ms)
        others.count += row.count
        others.first_ms = min(others.first_ms, row.first_ms)
        others.last_ms = max(others.last_ms, row.last_ms)

    def last_ms(self, name: str) -> int:
        """When `name` had its last one; 0 without any."""
        found = self._by_name.get(name)
        return 0 if found is None else found.last_ms

    def items(self) -> Iterator[tuple[str, _Row]]:
        yield from self._by_name.items()
        if self._others is not None:
            yield "", self._others


class RefusedTable:
    """One per node; owned by the event loop.

    Args:
        now_ms: milliseconds since 1970 UTC.
    """

    def __init__(self, node: str, now_ms: Callable[[], int]) -> None:
        self._node = node
        self._now_ms = now_ms
        self._refusals: dict[str, _Rows] = {}
        self._limited: dict[str, _Rows] = {}

    def refused(
        self, reason: str, *, address: str, detail: str, origin: str | None, host: str | None
    ) -> None:
        """Somebody may not, for one of the hub's own reasons."""
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
        """Somebody asks for more than `limit` lets it."""
        now, name = self._now_ms(), name[:MAX_NAME_CHARACTERS]
        rows = self._limited.setdefault(limit, _Rows())
        if now - rows.last_ms(name) > PAUSE_MS:
            rows.begin_anew(name)
        row = rows.row(name, now)
        row.add(now)
        row.by, row.address = by, address[:MAX_ADDRESS_CHARACTERS]

    def refusals(self) -> list[RefusalRecord]:
        """All rows."""
        return [
            RefusalRecord(
                reason,
                name,
                row.count,
                row.first_ms,
                row.last_ms,
                row.detail,
                row.origin,
                row.host,
                self._node,
            )
            for reason, rows in self._refusals.items()
            for name, row in rows.items()
        ]

    def held_back(self) -> list[LimitedRecord]:
        """All rows of limits."""
        return [
            LimitedRecord(
                limit,
                row.by,
                name,
                row.address,
                row.count,
                row.first_ms,
                row.last_ms,
                self._node,
            )
            for limit, rows in self._limited.items()
            for name, row in rows.items()
        ]
