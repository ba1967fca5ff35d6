"""What operators see and do: connections, nodes and counters. Operator credentials only."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

from starlette.requests import Request
from starlette.responses import Response

from hub.core.records import SessionRecord
from hub.core.tally import Histogram, Tally
from hub.errors import NotFoundError
from hub.transports.http.access import credentials_of
from hub.transports.http.answer import json_answer, node_fields, session_fields
from hub.transports.http.paging import paged, query_of
from hub.transports.http.ports import HttpDeps
from hub.wire.codes import CloseCode
from hub.wire.query import single

_DISCONNECT_REASON = "disconnected by operator"


class Operating:
    """Every handler asks the policy first."""

    def __init__(self, deps: HttpDeps) -> None:
        self._engine = deps.engine
        self._policy = deps.policy
        self._tally = deps.tally

    def _check(self, request: Request) -> None:
        self._policy.check_operator(credentials_of(request))

    async def connections(self, request: Request) -> Response:
        """By connection, a page at a time; `subject`, `channel` and `transport` narrow it."""
        self._check(request)
        query = query_of(request)
        page = paged(_matching(self._engine.connections(), query), lambda r: r.connection, query)
        rows = [session_fields(record) for record in page.items]
        return json_answer({"connections": rows, "total": page.total, "next": page.next})

    async def connection(self, request: Request) -> Response:
        self._check(request)
        name = request.path_params["connection"]
        record = await self._engine.connection(name)
        if record is None:
            raise _unknown(name)
        return json_answer(session_fields(record))

    async def disconnect(self, request: Request) -> Response:
        """Close with 4403, which tells the client not to come back by itself."""
        self._check(request)
        name = request.path_params["connection"]
        closed = await self._engine.disconnect(
            name, code=CloseCode.FORBIDDEN, reason=_DISCONNECT_REASON
        )
        if not closed:
            raise _unknown(name)
        return Response(status_code=204)

    async def nodes(self, request: Request) -> Response:
        """Every node that lives: with the memory broker that is this one."""
        self._check(request)
        return json_answer({"nodes": [node_fields(node) for node in await self._engine.nodes()]})

    async def stats(self, request: Request) -> Response:
        """This node's state and what it has counted since it started."""
        self._check(request)
        return json_answer(
            {"node": node_fields(self._engine.node()), "counted": _counted(self._tally)}
        )


def _unknown(connection: str) -> NotFoundError:
    return NotFoundError(f"no connection {connection[:80]!r} on any node")


def _matching(
    records: Sequence[SessionRecord], query: Mapping[str, list[str]]
) -> Iterator[SessionRecord]:
    subject, channel = single(query, "subject"), single(query, "channel")
    transport = single(query, "transport")
    for record in records:
        if (
            (subject is None or record.subject == subject)
            and (transport is None or record.transport == transport)
            and (channel is None or any(s.channel == channel for s in record.subscriptions))
        ):
            yield record


def _counted(tally: Tally) -> dict[str, object]:
    """Counters under their names in `Tally`; its histograms are Prometheus' business."""
    values = {each.name: getattr(tally, each.name) for each in fields(tally)}
    return {name: value for name, value in values.items() if not isinstance(value, Histogram)}
