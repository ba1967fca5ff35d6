"""Lists of refusals, and of peers that limits held back, at all nodes."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from hub.admin.listing import Listing, ListRequest, Page, Part, Query, Selection, merge
from hub.admin.requests import Admin, Everywhere, Handler, Handlers
from hub.core.records import Column, RowSource
from hub.core.refused import LimitedRecord, RefusalRecord, RefusedTable

Row = TypeVar("Row", RefusalRecord, LimitedRecord)


def _last_ms(row: RefusalRecord | LimitedRecord, _origin: RowSource) -> int:
    return row.last_ms


_COLUMNS = {"last_ms": Column(_last_ms, _last_ms)}

REFUSALS: Listing[RefusalRecord] = Listing(
    name="refusals",
    named_by="name",
    name_of=lambda row: f"{row.reason} {row.address} {row.node}",
    columns=_COLUMNS,
    filters={
        "reason": lambda row, reason: row.reason == reason,
        "address": lambda row, address: row.address == address,
    },
)
LIMITED: Listing[LimitedRecord] = Listing(
    name="limited",
    named_by="name",
    name_of=lambda row: f"{row.limit} {row.by} {row.name} {row.node}",
    columns=_COLUMNS,
    filters={
        "name": lambda row, name: row.name == name,
        "address": lambda row, address: row.address == address,
    },
)


class ListRefusals(ListRequest[RefusalRecord], frozen=True, tag="refusals"):
    """Asks for this node's refusals, the newest first."""


class ListLimited(ListRequest[LimitedRecord], frozen=True, tag="limited"):
    """Asks for the peers that limits held back at this node, the newest first."""


class RefusedHandlers:
    """Carries both requests out; one per node."""

    def __init__(self, table: RefusedTable, origin: RowSource) -> None:
        self._table = table
        self._origin = origin

    def handlers(self) -> Handlers:
        return {
            ListRefusals: self._listed(REFUSALS, self._table.refusals),
            ListLimited: self._listed(LIMITED, self._table.held_back),
        }

    def _listed(self, listing: Listing[Row], rows: Callable[[], Iterable[Row]]) -> Handler:
        async def listed(asked: ListRequest[Row]) -> Part[Row]:
            selection = Selection(listing, asked.query, self._origin, count=asked.query.limit)
            selection.look_at(rows())
            return selection.part(lambda row: row)

        return listed


async def list_newest(
    admin: Admin, kind: Callable[[Query], ListRequest[Row]], *, limit: int, **where: str | None
) -> Page[Row]:
    """Return the newest rows of one of these lists on all nodes."""
    given = {name: value for name, value in where.items() if value is not None}
    query = Query(sort="last_ms", descending=True, limit=limit, where=given)
    return merge(query, await admin.call(kind(query), Everywhere()))
