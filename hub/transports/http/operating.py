"""What operators see and do: connections, nodes and counters. Operator credentials only."""

from collections import Counter
from dataclasses import fields

from starlette.requests import Request
from starlette.responses import Response

from hub.core.tally import Histogram, Tally
from hub.errors import NotFoundError
from hub.transports.http.access import credentials_of
from hub.transports.http.answer import json_answer, node_fields, session_fields
from hub.transports.http.connections import connection_query, connections_fields
from hub.transports.http.paging import query_of
from hub.transports.http.ports import HttpDeps
from hub.wire.codes import CloseCode

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
        """A page over all nodes: filtered, sorted, cut, and it says whose part is missing."""
        self._check(request)
        query = connection_query(query_of(request))
        page = await self._engine.connections(query)
        return json_answer(connections_fields(query, page))

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

    async def ticket(self, request: Request) -> Response:
        """For the `?token=` of an operator's page; null where the hub asks for no keys."""
        self._check(request)
        return json_answer({"ticket": self._policy.ticket()})

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


def _counted(tally: Tally) -> dict[str, object]:
    """Counters under their names in `Tally`; its histograms are Prometheus' business."""
    values = {each.name: getattr(tally, each.name) for each in fields(tally)}
    return {
        name: _plain(value) for name, value in values.items() if not isinstance(value, Histogram)
    }


def _plain(value: object) -> object:
    """Gaps and drops are counted by members of enumerations, which orjson takes as no keys."""
    if not isinstance(value, Counter):
        return value
    return {str(label): count for label, count in value.items()}
