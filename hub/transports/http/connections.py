"""The query of `GET /api/connections` and its answer, as values of the core."""

import math
from collections.abc import Mapping

from hub.core.listing import ConnectionPage, ConnectionQuery, Key
from hub.core.selecting import COLUMNS, NUMBERS
from hub.errors import BadRequestError
from hub.transports.http.answer import session_fields
from hub.transports.http.paging import limit_of
from hub.wire.query import single

TRANSPORTS = ("websocket", "sse", "poll")


def connection_query(query: Mapping[str, list[str]]) -> ConnectionQuery:
    """Read filters, `sort` (`-` before it: descending), `limit` and `after`.

    Raises `BadRequestError` for a column or a transport that there is not, and for what is no
    `next` of a page.
    """
    sort = single(query, "sort") or "connection"
    column = sort.removeprefix("-")
    if column not in COLUMNS:
        raise BadRequestError(f"sort is {sort[:40]!r}, allowed are {', '.join(COLUMNS)}")
    transport = single(query, "transport")
    if transport is not None and transport not in TRANSPORTS:
        raise BadRequestError(
            f"transport is {transport[:40]!r}, allowed are {', '.join(TRANSPORTS)}"
        )
    after = single(query, "after")
    return ConnectionQuery(
        limit=limit_of(query),
        sort=column,
        descending=sort.startswith("-"),
        after=None if after is None else _key(column, after),
        node=single(query, "node"),
        subject=single(query, "subject"),
        channel=single(query, "channel"),
        address=single(query, "address"),
        transport=transport,
    )


def connections_fields(query: ConnectionQuery, page: ConnectionPage) -> dict[str, object]:
    """The page as JSON; `next` is the `after` of the one that follows."""
    return {
        "connections": [session_fields(row.record) for row in page.rows],
        "total": page.total,
        "next": _mark(query.sort, page.rows[-1].key) if page.more and page.rows else None,
        "complete": page.complete,
        "unanswered": list(page.unanswered),
    }


def _mark(column: str, key: Key) -> str:
    """A key as text: a connection alone where that is what is sorted by."""
    value, connection = key
    return connection if column == "connection" else f"{value}:{connection}"


def _key(column: str, mark: str) -> Key:
    if column == "connection":
        return mark, mark
    value, _, connection = mark.rpartition(":")
    return (_number(value) if column in NUMBERS else value), connection


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadRequestError("after is not the `next` of a page that is sorted so")
    return number
