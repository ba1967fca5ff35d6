"""`GET /api/channels`, and one channel's state, history and presence.

A peer may read the channels that it may subscribe to; the list leaves others out.
"""

from collections.abc import Coroutine
from typing import Any

import orjson

from hub.admin.channels import CHANNELS
from hub.core.fanout.presence import MAX_PAGE_MEMBERS, page_in_turns
from hub.core.hooks import Asker
from hub.core.options import is_reserved
from hub.core.ports import HistoryPage
from hub.core.publication import Position, check_channel
from hub.core.reading import LookBack
from hub.core.records import plain
from hub.errors import NotFoundError
from hub.transports.http.answer import Answer, json_answer
from hub.transports.http.parameters import (
    AFTER,
    AFTER_KEY,
    AFTER_MEMBER,
    LIMIT,
    STATE_LIMIT,
    Parameter,
    choice,
    moment,
    position,
    text,
    whole,
)
from hub.transports.http.ports import HttpDeps
from hub.transports.http.routes import Access, Handler, Route
from hub.transports.http.schemas import ok, ref
from hub.transports.request import Request
from hub.wire.native_pushes import member_object, publication_object, row


class ReadingRoutes:
    """Answers about channels from the node's live state and the broker's history."""

    def __init__(self, deps: HttpDeps) -> None:
        self._node = deps.node
        self._hooks = deps.hooks

    def routes(self) -> tuple[Route, ...]:
        one = "/api/channels/{channel}"
        prefix = text("prefix", "Names that begin so.")
        sort = choice("sort", CHANNELS.orders, "For operators. `-`: descending.", default="channel")
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
            self._of_channel(one, self.channel, "One channel", "OneChannel"),
            self._of_channel(
                f"{one}/history", self.history, "Read history", "History",
                position("since", "Only what follows it; with `reverse` what is before it."), LIMIT,
                moment("from_time", "Nothing older: milliseconds since 1970, or ISO 8601."),
                choice("reverse", ("true", "false"), "Newest first.", default="false"),
            ),
            Route(
                method="DELETE",
                path=f"{one}/history",
                access=Access.OPERATOR,
                handler=self.clear,
                summary="Let go of history",
                answers={"204": {"description": "Nothing published before is held any more."}},
            ),
            self._of_channel(
                f"{one}/state", self.state, "The newest publication of each key", "State",
                STATE_LIMIT, AFTER_KEY,
            ),
            self._of_channel(
                f"{one}/presence", self.presence, "Who is present", "Presence",
                whole("limit", "Members of a page.", lowest=1, highest=MAX_PAGE_MEMBERS),
                AFTER_MEMBER,
                choice("count", ("true", "false"), "How many, without who.", default="false"),
            ),
        )  # fmt: skip

    def _of_channel(
        self, path: str, handler: Handler, summary: str, schema: str, *parameters: Parameter
    ) -> Route:
        return Route(
            method="GET",
            path=path,
            access=Access.READER,
            admits=self._admit,
            handler=handler,
            at_once=True,
            summary=summary,
            parameters=parameters,
            answers=ok("Found.", ref(schema)),
        )

    def _admit(self, request: Request) -> Coroutine[Any, Any, object] | None:
        identity, channel = request.identity, check_channel(request.params["channel"])
        identity.check_subscribe(channel)
        if self._hooks is None or not self._hooks.asks_subscribe(identity):
            return None
        asker = Asker(identity, None, request.address, request.headers)
        return self._hooks.check_subscribe(asker, channel)

    async def channels(self, request: Request) -> Answer:
        """Answer with a page of channels; operators see those of all nodes, in any order."""
        if request.identity.operator:
            begins = request.given["prefix"] or ""
            own = "shown" if is_reserved(begins) else ""
            query = CHANNELS.read(request.given, prefix=begins, reserved=own)
            page = await self._node.all_channels(query)
            return json_answer(CHANNELS.told(query, page))
        prefix, after = request.given["prefix"] or "", request.given["after"] or ""
        # The application is asked about one channel at a time, and not about a list.
        asks = self._hooks is not None and self._hooks.asks_subscribe(request.identity)

        def wanted(name: str) -> bool:
            return not asks and name.startswith(prefix) and request.identity.may_subscribe(name)

        matching = sorted(await self._node.channels(wanted), key=lambda record: record.channel)
        beyond = [record for record in matching if record.channel > after]
        shown = beyond[: request.given["limit"]]
        return json_answer(
            {
                "channels": [plain(record) for record in shown],
                "total": len(matching),
                "next": shown[-1].channel if len(beyond) > len(shown) else None,
            }
        )

    async def channel(self, request: Request) -> Answer:
        """Answer with one channel; `complete` says whether the subscribers of all workers count."""
        name = request.params["channel"]
        if (one := await self._node.channel(name)) is None:
            raise NotFoundError(f"nothing was published to {name!r} and nobody subscribes to it")
        fields = plain(one.record)
        if one.complete is not None:
            fields |= {"complete": one.complete, "unanswered": one.unanswered}
        return json_answer(fields)

    async def history(self, request: Request) -> Answer:
        """Answer with history after `since`, oldest first; `complete` where none is missing."""
        name, given = request.params["channel"], request.given
        since, from_ms, reverse = given["since"], given["from_time"], given["reverse"] == "true"
        if from_ms is None and not reverse:
            page = await self._node.history(name, since, given["limit"])
            return json_answer(_history_fields(name, since, page))
        look_back = LookBack(given["limit"], from_ms, since, reverse)
        found = await self._node.look_back(name, look_back)
        following = None if found.next is None else str(found.next)
        fields = _history_fields(name, since, found.page)
        return json_answer({**fields, "complete": found.complete, "next": following})

    async def clear(self, request: Request) -> Answer:
        """Drop history: a subscriber that resumes from before gets a gap `expired`."""
        await self._node.clear_history(check_channel(request.params["channel"]))
        return Answer(status=204)

    async def state(self, request: Request) -> Answer:
        """Answer with rows in the order of their keys; `position` is the channel's head."""
        name, given = request.params["channel"], request.given
        page = await self._node.state(name, given["after"] or "", given["limit"])
        fields: dict[str, object] = {
            "channel": name,
            "position": str(page.head),
            "rows": [orjson.Fragment(row(each)) for each in page.rows],
            "next": page.next,
        }
        return json_answer(fields | ({"dropped": page.dropped} if page.dropped else {}))

    async def presence(self, request: Request) -> Answer:
        """Answer with members, in the order of their ids where they are more than one page."""
        name, given = request.params["channel"], request.given
        present = await self._node.presence(name)
        if given["count"] == "true":
            return json_answer({"channel": name, "count": len(present)})
        members, after = await page_in_turns(present, given["limit"], given["after"])
        more = {} if after is None else {"next": after}
        rows = [member_object(member) for member in members]
        return json_answer({"channel": name, "members": rows, **more})


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
    """Return whether history holds everything after `since`.

    A `since` beyond the head was never given out in this epoch: as incomplete as another epoch's.
    """
    if since is None:
        return page.oldest <= 1
    same_sequence = since.epoch == page.head.epoch and since.offset <= page.head.offset
    return same_sequence and page.oldest <= since.offset + 1
