"""`GET /api/channels`, and one channel's state, history and presence.

What a peer may not subscribe to it may not read either: the list leaves it out.
"""

from hub.core.channel_listing import COLUMNS, ChannelPage, ChannelQuery
from hub.core.ports import HistoryPage
from hub.core.presence import MAX_PAGE_MEMBERS, page_of
from hub.core.publication import Position, check_channel
from hub.errors import NotFoundError
from hub.transports.http.answer import Answer, channel_fields, json_answer, member_fields
from hub.transports.http.parameters import (
    AFTER,
    AFTER_MEMBER,
    LIMIT,
    Parameter,
    choice,
    position,
    text,
    whole,
)
from hub.transports.http.ports import HttpDeps
from hub.transports.http.routes import Access, Handler, Route
from hub.transports.http.schemas import ok, ref
from hub.transports.request import Request
from hub.wire.native import publication_object
from hub.wire.query import whole_number

_MAX_SKIP = 2**31
_SORTS = [f"{sign}{column}" for column in COLUMNS for sign in ("", "-")]


class Reading:
    """Answers about channels from the engine's live state and the broker's history."""

    def __init__(self, deps: HttpDeps) -> None:
        self._engine = deps.engine

    def routes(self) -> tuple[Route, ...]:
        one = "/api/channels/{channel}"
        prefix = text("prefix", "Names that begin so.")
        sort = choice("sort", _SORTS, "For operators. `-`: descending.", default="channel")
        return (
            Route(
                method="GET",
                path="/api/channels",
                access=Access.READER,
                handler=self.channels,
                summary="List channels",
                parameters=(LIMIT, AFTER, prefix, sort),
                answers=ok("Found.", ref("Channels")),
            ),
            self._of_channel(one, self.channel, "One channel", "Channel"),
            self._of_channel(
                f"{one}/history", self.history, "Read history", "History",
                position("since", "Only what follows it."), LIMIT,
            ),
            self._of_channel(
                f"{one}/presence", self.presence, "Who is present", "Presence",
                whole("limit", "Members of a page.", lowest=1, highest=MAX_PAGE_MEMBERS),
                AFTER_MEMBER,
            ),
        )  # fmt: skip

    def _of_channel(
        self, path: str, handler: Handler, summary: str, schema: str, *parameters: Parameter
    ) -> Route:
        return Route(
            method="GET",
            path=path,
            access=Access.READER,
            admits=_admit,
            handler=handler,
            at_once=True,
            summary=summary,
            parameters=parameters,
            answers=ok("Found.", ref(schema)),
        )

    async def channels(self, request: Request) -> Answer:
        """A page at a time; `prefix` narrows it. Operators see all nodes, in any order."""
        if request.identity.operator:
            query = _channel_query(request)
            page = await self._engine.all_channels(query)
            rows = [channel_fields(record) for record in page.rows]
            told = {"complete": page.complete, "unanswered": list(page.unanswered)}
            return json_answer(
                {"channels": rows, "total": page.total, "next": _next(query, page), **told}
            )
        prefix, after = request.given["prefix"] or "", request.given["after"] or ""

        def wanted(name: str) -> bool:
            return name.startswith(prefix) and request.identity.may_subscribe(name)

        matching = sorted(await self._engine.channels(wanted), key=lambda record: record.channel)
        beyond = [record for record in matching if record.channel > after]
        shown = beyond[: request.given["limit"]]
        return json_answer(
            {
                "channels": [channel_fields(record) for record in shown],
                "total": len(matching),
                "next": shown[-1].channel if len(beyond) > len(shown) else None,
            }
        )

    async def channel(self, request: Request) -> Answer:
        name = request.params["channel"]
        record = await self._engine.channel(name)
        if record is None:
            raise NotFoundError(f"nothing was published to {name!r} and nobody subscribes to it")
        return json_answer(channel_fields(record))

    async def history(self, request: Request) -> Answer:
        """What is held after `since`, oldest first; `complete` is false where some is not."""
        name, since = request.params["channel"], request.given["since"]
        page = await self._engine.history(name, since, request.given["limit"])
        return json_answer(_history_fields(name, since, page))

    async def presence(self, request: Request) -> Answer:
        """A page of the members, in the order of their ids where they are more than one page."""
        name, given = request.params["channel"], request.given
        present = await self._engine.presence(name)
        members, after = page_of(present, given["limit"], given["after"])
        more = {} if after is None else {"next": after}
        rows = [member_fields(member) for member in members]
        return json_answer({"channel": name, "members": rows, **more})


def _admit(request: Request) -> None:
    request.identity.check_subscribe(check_channel(request.params["channel"]))


def _channel_query(request: Request) -> ChannelQuery:
    """`after` is the last name before, or in another order how many rows came before.

    A caller hands `next` back as it came. Raises `BadRequestError` for what is no `next`.
    """
    given = request.given
    sort, after = given["sort"], given["after"] or ""
    column = sort.removeprefix("-")
    by_name = column == "channel"
    return ChannelQuery(
        limit=given["limit"],
        skip=whole_number("after", after, highest=_MAX_SKIP) if after and not by_name else 0,
        after=after if by_name else "",
        sort=column,
        descending=sort.startswith("-"),
        prefix=given["prefix"] or "",
    )


def _next(query: ChannelQuery, page: ChannelPage) -> str | None:
    if not page.more:
        return None
    return page.rows[-1].channel if query.by_name else str(query.skip + len(page.rows))


def _history_fields(channel: str, since: Position | None, page: HistoryPage) -> dict[str, object]:
    epoch, publications = page.head.epoch, page.publications
    last = publications[-1].offset if publications else page.head.offset
    return {
        "channel": channel,
        "epoch": epoch,
        "position": str(page.head),
        "oldest": page.oldest,
        "complete": _is_complete(since, page),
        "publications": [publication_object(publication) for publication in publications],
        "next": str(Position(epoch, last)) if last < page.head.offset else None,
    }


def _is_complete(since: Position | None, page: HistoryPage) -> bool:
    """Whether nothing is missing between what was asked for and what is held.

    A `since` beyond the head was never given out in this epoch: as incomplete as another
    epoch's.
    """
    if since is None:
        return page.oldest <= 1
    same_sequence = since.epoch == page.head.epoch and since.offset <= page.head.offset
    return same_sequence and page.oldest <= since.offset + 1
