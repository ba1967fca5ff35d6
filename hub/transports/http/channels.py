"""The query of `GET /api/channels` as operators ask it, and its answer."""

from collections.abc import Mapping

from hub.core.channel_listing import COLUMNS, ChannelPage, ChannelQuery
from hub.errors import BadRequestError
from hub.transports.http.answer import channel_fields
from hub.transports.http.paging import limit_of
from hub.wire.query import single, whole_number

_MAX_SKIP = 2**31


def channel_query(query: Mapping[str, list[str]]) -> ChannelQuery:
    """Read `prefix`, `sort` (`-` before it: descending), `limit` and `after`.

    `after` is the last name before, or in another order how many rows came before: whoever asks
    hands `next` back as it came. Raises `BadRequestError` for a column that there is not, and
    for what is no `next` of a page.
    """
    sort = single(query, "sort") or "channel"
    column = sort.removeprefix("-")
    if column not in COLUMNS:
        raise BadRequestError(f"sort is {sort[:40]!r}, allowed are {', '.join(COLUMNS)}")
    after = single(query, "after") or ""
    by_name = column == "channel"
    return ChannelQuery(
        limit=limit_of(query),
        skip=whole_number("after", after, highest=_MAX_SKIP) if after and not by_name else 0,
        after=after if by_name else "",
        sort=column,
        descending=sort.startswith("-"),
        prefix=single(query, "prefix") or "",
    )


def _next(query: ChannelQuery, page: ChannelPage) -> str:
    return page.rows[-1].channel if query.by_name else str(query.skip + len(page.rows))


def channels_fields(query: ChannelQuery, page: ChannelPage) -> dict[str, object]:
    return {
        "channels": [channel_fields(record) for record in page.rows],
        "total": page.total,
        "next": _next(query, page) if page.more else None,
        "complete": page.complete,
        "unanswered": list(page.unanswered),
    }
