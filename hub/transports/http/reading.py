"""`GET /api/channels`, and one channel's state, history and presence.

What a peer may not subscribe to it may not read either: the list leaves it out.
"""

from starlette.requests import Request
from starlette.responses import Response

from hub.core.ports import HistoryPage
from hub.core.publication import Position, check_channel
from hub.errors import NotFoundError
from hub.transports.http.access import credentials_of, readable
from hub.transports.http.answer import (
    channel_fields,
    json_answer,
    member_fields,
)
from hub.transports.http.channels import channel_query, channels_fields
from hub.transports.http.paging import limit_of, paged, query_of
from hub.transports.http.ports import HttpDeps
from hub.wire.native import publication_object
from hub.wire.query import single


class Reading:
    """Answers about channels from the engine's live state and the broker's history."""

    def __init__(self, deps: HttpDeps) -> None:
        self._engine = deps.engine
        self._policy = deps.policy

    async def channels(self, request: Request) -> Response:
        """A page at a time; `prefix` narrows it. Operators see all nodes, in any order."""
        identity = self._policy.identify(credentials_of(request))
        query = query_of(request)
        if identity.operator:
            asked = channel_query(query)
            return json_answer(channels_fields(asked, await self._engine.all_channels(asked)))
        prefix = single(query, "prefix") or ""

        def wanted(name: str) -> bool:
            return name.startswith(prefix) and readable(identity, name)

        matching = await self._engine.channels(wanted)
        page = paged(matching, lambda record: record.channel, query)
        rows = [channel_fields(record) for record in page.items]
        return json_answer({"channels": rows, "total": page.total, "next": page.next})

    async def channel(self, request: Request) -> Response:
        name = self._readable(request)
        record = await self._engine.channel(name)
        if record is None:
            raise NotFoundError(f"nothing was published to {name!r} and nobody subscribes to it")
        return json_answer(channel_fields(record))

    async def history(self, request: Request) -> Response:
        """What is held after `since`, oldest first; `complete` is false where some is not."""
        name = self._readable(request)
        query = query_of(request)
        text = single(query, "since")
        since = None if text is None else Position.parse(text)
        page = await self._engine.history(name, since, limit_of(query))
        return json_answer(_history_fields(name, since, page))

    async def presence(self, request: Request) -> Response:
        name = self._readable(request)
        members = [member_fields(member) for member in await self._engine.presence(name)]
        return json_answer({"channel": name, "members": members})

    def _readable(self, request: Request) -> str:
        identity = self._policy.identify(credentials_of(request))
        name = check_channel(request.path_params["channel"])
        identity.check_subscribe(name)
        return name


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
