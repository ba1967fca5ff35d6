"""Who was refused, and whom limits held back, at all nodes: what operators ask of it."""

from typing import Any

from hub.admin.listing import Listing, Page, Part, Query, Selection, merge
from hub.admin.requests import Admin, AdminRequest, Everywhere, Handlers
from hub.core.records import Column, Origin
from hub.core.refused import LimitedRecord, RefusalRecord, RefusedTable


def _last_ms(row: RefusalRecord | LimitedRecord, _origin: Origin) -> int:
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
    name_of=lambda row: f"{row.limit} {row.name} {row.node}",
    columns=_COLUMNS,
    filters={
        "name": lambda row, name: row.name == name,
        "address": lambda row, address: row.address == address,
    },
)


class ListRefusals(AdminRequest[Part[RefusalRecord]], frozen=True, tag="refusals"):
    """This node's part, the newest first."""

    query: Query

    def fitting(self, answer: Part[RefusalRecord]) -> Part[RefusalRecord]:
        return answer.fitting()


class ListLimited(AdminRequest[Part[LimitedRecord]], frozen=True, tag="limited"):
    """The same of whom limits held back."""

    query: Query

    def fitting(self, answer: Part[LimitedRecord]) -> Part[LimitedRecord]:
        return answer.fitting()


class Refused:
    """Carries these out at this node."""

    def __init__(self, table: RefusedTable, origin: Origin) -> None:
        self._table = table
        self._origin = origin

    def handlers(self) -> Handlers:
        return {ListRefusals: self._refusals, ListLimited: self._limited}

    async def _refusals(self, asked: ListRefusals) -> Part[RefusalRecord]:
        selection = Selection(REFUSALS, asked.query, self._origin, count=asked.query.limit)
        selection.look_at(self._table.refusals())
        return selection.part(lambda row: row)

    async def _limited(self, asked: ListLimited) -> Part[LimitedRecord]:
        selection = Selection(LIMITED, asked.query, self._origin, count=asked.query.limit)
        selection.look_at(self._table.held_back())
        return selection.part(lambda row: row)


# -- over all nodes --------------------------------------------------------------------------------


async def list_refusals(admin: Admin, *, limit: int, **where: str | None) -> Page[RefusalRecord]:
    """The newest of all nodes first; the page says who is missing."""
    return merge(
        query := _newest(limit, where), await admin.call(ListRefusals(query), Everywhere())
    )


async def list_limited(admin: Admin, *, limit: int, **where: str | None) -> Page[LimitedRecord]:
    """The same of whom limits held back."""
    return merge(query := _newest(limit, where), await admin.call(ListLimited(query), Everywhere()))


def _newest(limit: int, where: dict[str, Any]) -> Query:
    given = {name: value for name, value in where.items() if value is not None}
    return Query(sort="last_ms", descending=True, limit=limit, where=given)
