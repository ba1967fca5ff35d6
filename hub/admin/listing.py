"""Lists over all nodes: the query, one node's part, and the page merged from the parts.

Every node filters, sorts and cuts its rows; the node that was asked merges a page from their
parts. So no node ever handles more than a page of another's. One kind of list differs from another
by its columns and filters alone (`Listing`). The rows and their sources stand in
`hub.admin.connections` and `hub.admin.channels`.
"""

import asyncio
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest, nsmallest
from itertools import accumulate
from operator import itemgetter
from typing import Any, Generic, TypeVar

import msgspec

from hub.admin.requests import AdminRequest, Answers
from hub.core.options import MIB
from hub.core.records import Column, RowSource, Value, plain
from hub.errors import BadRequestError
from hub.wire.query import whole_number

Item = TypeVar("Item")
Record = TypeVar("Record")

Key = tuple[Value, str]
"""The sort key of a row: the value of its column, then its name, so that no two tie."""

# Bound of one node's part of a list. Redis cuts a subscriber that is 8 MB behind for 60 s
# (client-output-buffer-limit pubsub), and a page asks every node at once.
MAX_PART_BYTES = MIB
_MAX_SKIP = 2**31
# Numbers as Python writes them.
_WRITTEN = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?(e[+-][0-9]{1,3})?")


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of a list that are wanted, and their order."""

    sort: str
    """One of the list's columns."""
    limit: int = 100
    descending: bool = False
    after: Key | None = None
    """The key of the last row of the page before."""
    skip: int = 0
    """The number of rows on the pages before, where keys change from page to page."""
    where: dict[str, str] = {}
    """Values by the name of the list's filter. A filter that is left out lets every row through."""

    def is_beyond(self, key: Key) -> bool:
        """Return whether a row with `key` comes after the page before."""
        if self.after is None:
            return True
        return key < self.after if self.descending else key > self.after

    def top(self, count: int, rows: Iterable[tuple[Key, Item]]) -> list[tuple[Key, Item]]:
        """Return the first `count` in this order."""
        first = nlargest if self.descending else nsmallest
        return first(count, rows, key=itemgetter(0))


class Row(msgspec.Struct, Generic[Record], frozen=True):
    key: Key
    record: Record


class Part(msgspec.Struct, Generic[Record], frozen=True):
    """The rows of a page that one node has, in the page's order."""

    rows: tuple[Row[Record], ...]
    total: int
    """The number of rows that match at this node, on all pages."""
    more: bool
    """Whether it has rows beyond these."""

    def fitting(self, max_bytes: int | None = None) -> "Part[Record]":
        """Return as many rows as may travel at once, one at least; later pages have the rest."""
        limit = MAX_PART_BYTES if max_bytes is None else max_bytes
        sizes = accumulate(len(msgspec.msgpack.encode(row)) for row in self.rows)
        rows = self.rows[: max(1, sum(size <= limit for size in sizes))]
        return msgspec.structs.replace(
            self, rows=rows, more=self.more or len(rows) < len(self.rows)
        )


class ListRequest(AdminRequest[Part[Record]], Generic[Record], frozen=True):
    """Asks a node for its part of a list of such records."""

    query: Query

    @classmethod
    def answer_type(cls) -> Any:
        """Return the type of a part with the records of this class."""
        return Part[super().answer_type()]  # type: ignore[misc]  # known when it runs

    def fitting(self, answer: Part[Record]) -> Part[Record]:
        return answer.fitting()


@dataclass(frozen=True, slots=True)
class Page(Generic[Record]):
    rows: tuple[Row[Record], ...]
    total: int
    """The number of rows that match, on all nodes that answered."""
    more: bool
    unanswered: tuple[str, ...] = ()
    """Names of the nodes that did not answer in time: the page lacks their rows."""
    complete: bool = True
    """Whether the page has the rows of every node."""

    @property
    def records(self) -> Sequence[Record]:
        return [row.record for row in self.rows]


@dataclass(frozen=True, slots=True)
class Listing(Generic[Item]):
    """A kind of list: its columns, and how a page of it is made."""

    name: str
    """Its name in answers to operators, such as `connections`."""
    named_by: str
    """The column that names a row, which is also the default order."""
    name_of: Callable[[Item], str]
    columns: Mapping[str, Column]
    filters: Mapping[str, Callable[[Item, str], bool]] = field(default_factory=dict)
    """By name: whether an item passes the query's value."""
    keys_last: bool = True
    """Whether a row's key is the same on the next page. Where rows are added up over nodes and
    change meanwhile it is not, and pages in other orders than that of names are counted off."""

    @property
    def sorts(self) -> Mapping[str, Callable[[Any, RowSource], Value]]:
        """Return the columns that the list can be sorted by."""
        return {
            column.name or name: column.sort
            for name, column in self.columns.items()
            if column.sort is not None
        }

    @property
    def orders(self) -> Sequence[str]:
        """Return the orders of a query: each column upwards and downwards."""
        return [f"{sign}{name}" for name in self.sorts for sign in ("", "-")]

    def sort_of(self, query: Query) -> Callable[[Any, RowSource], Value]:
        """Return the column's sort; raise `BadRequestError` for one unknown at this node."""
        if (found := self.sorts.get(query.sort)) is None:
            raise BadRequestError("this node does not know the order that is asked for")
        return found

    # -- requests and answers as text --------------------------------------------------------------

    def read(self, given: Mapping[str, Any], **where: str | None) -> Query:
        """Return the query of a request's `limit`, `sort` and `after`.

        Raises `BadRequestError` for an `after` that is no `next` of a page in that order.
        """
        sort, after = given["sort"].removeprefix("-"), given["after"] or None
        counted = self._counts(sort)
        return Query(
            sort=sort,
            descending=given["sort"].startswith("-"),
            limit=given["limit"],
            after=None if after is None or counted else self._key(sort, after),
            skip=whole_number("after", after, highest=_MAX_SKIP) if after and counted else 0,
            where={name: value for name, value in where.items() if value is not None},
        )

    def told(self, query: Query, page: Page[Any]) -> dict[str, object]:
        """Return the page in JSON's types; `next` is the `after` of the one that follows."""
        return {
            self.name: [plain(record) for record in page.records],
            "total": page.total,
            "next": self._next(query, page),
            "complete": page.complete,
            "unanswered": list(page.unanswered),
        }

    def _next(self, query: Query, page: Page[Any]) -> str | None:
        if not page.more or not page.rows:
            return None
        if self._counts(query.sort):
            return str(query.skip + len(page.rows))
        value, name = page.rows[-1].key
        return name if query.sort == self.named_by else f"{value}:{name}"

    def _counts(self, sort: str) -> bool:
        return not (self.keys_last or sort == self.named_by)

    def _key(self, sort: str, mark: str) -> Key:
        if sort == self.named_by:
            return mark, mark
        value, _, name = mark.rpartition(":")
        return (_finite(value) if self._is_number(sort) else value), name

    def _is_number(self, sort: str) -> bool:
        column = next(c for name, c in self.columns.items() if (c.name or name) == sort)
        return column.numeric


def _finite(value: str) -> float:
    """Return a number as `told` wrote it."""
    if _WRITTEN.fullmatch(value) is None or not math.isfinite(found := float(value)):
        raise BadRequestError("after is not the `next` of a page that is sorted so")
    return found


class Selection(Generic[Item]):
    """The first rows of one node's items, growing slice by slice.

    A selection looks at live objects, not at records of them: of 50,000 only those of the page are
    worth one.

    Args:
        count: how many rows at most.
    """

    def __init__(
        self, listing: Listing[Item], query: Query, origin: RowSource, *, count: int
    ) -> None:
        self._query = query
        self._origin = origin
        self._count = count
        self._sort = listing.sort_of(query)
        self._name_of = listing.name_of
        filters = listing.filters
        self._filters = [(filters[name], v) for name, v in query.where.items() if name in filters]
        self.best: list[tuple[Key, Item]] = []
        self.total = 0
        """The number of items that match, on all pages."""
        self._beyond = 0
        """The number of matching items that come after the page before."""

    def look_at(self, items: Iterable[Item]) -> None:
        """Take these into account; every item of the node has to come once."""
        for test, value in self._filters:
            items = [item for item in items if test(item, value)]
        sort, name_of, origin = self._sort, self._name_of, self._origin
        found = [((sort(item, origin), name_of(item)), item) for item in items]
        self.total += len(found)
        if (query := self._query).after is not None:
            found = [pair for pair in found if query.is_beyond(pair[0])]
        self._beyond += len(found)
        self.best = query.top(self._count, self.best + found)

    def part(self, record: Callable[[Item], Record]) -> Part[Record]:
        """Return this node's part, with a record of each of the best items."""
        rows = tuple(Row(key, record(item)) for key, item in self.best)
        return Part(rows, self.total, self._beyond > len(rows))


async def look_at_slices(
    selection: Selection[Item], items: Sequence[Item], *, at_once: int
) -> None:
    """Have the selection look at all of them, with turns for other work in between."""
    for some in slices(items, at_once):
        selection.look_at(some)
        await asyncio.sleep(0)


def slices(items: Sequence[Item], at_once: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + at_once] for start in range(0, len(items), at_once))


def merge(query: Query, answers: Answers[Part[Record]]) -> Page[Record]:
    """Return the page that the nodes' parts make together.

    Where a node has more rows than its part, no row beyond its last is taken from the others: the
    rows it left out would be skipped. Example: sorted by name, one node has a, b and more, another
    has c. The page ends with b, because the first node may have another one before c.
    """
    parts = list(answers.by_tag.values())
    rows = sorted(
        (row for part in parts for row in part.rows),
        key=lambda row: row.key,
        reverse=query.descending,
    )
    said = len(rows)
    ends = [part.rows[-1].key for part in parts if part.more and part.rows]
    if ends:
        end = max(ends) if query.descending else min(ends)
        rows = [row for row in rows if (row.key >= end if query.descending else row.key <= end)]
    taken = tuple(rows[query.skip : query.skip + query.limit])
    return Page(
        rows=taken,
        total=sum(part.total for part in parts),
        more=query.skip + len(taken) < said or any(part.more for part in parts),
        unanswered=answers.unanswered,
        complete=answers.complete,
    )
