"""What operators see and do: connections, nodes, counters, why, drain. Operator keys only."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from hub.core.listing import ConnectionPage, ConnectionQuery, Key
from hub.core.peers import Told
from hub.core.publication import check_channel
from hub.core.selecting import COLUMNS, NUMBERS
from hub.core.tally import Histogram, Tally
from hub.errors import BadRequestError, NotFoundError
from hub.transports.http.answer import Answer, json_answer, node_fields, session_fields
from hub.transports.http.parameters import AFTER, LIMIT, Parameter, channel, choice, number, text
from hub.transports.http.parameters import whole as whole_number
from hub.transports.http.ports import HttpDeps
from hub.transports.http.routes import Access, Handler, Route
from hub.transports.http.schemas import Json, content, ok, ref
from hub.transports.request import Request
from hub.wire.codes import CloseCode

TRANSPORTS = ("websocket", "sse", "poll")
_DISCONNECT_REASON = "disconnected by operator"
_MAX_OFFSET = 2**53
_MAX_WINDOW_SECONDS = 24 * 60 * 60.0
# As Python writes numbers.
_WRITTEN = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?(e[+-][0-9]{1,3})?")
_SORTS = [f"{sign}{column}" for column in COLUMNS for sign in ("", "-")]
_WINDOW = number("window_seconds", "Over which the closes are spread.", highest=_MAX_WINDOW_SECONDS)
_SUBJECT = text("subject")
_UNKNOWN: Told = {
    "answer": "unknown",
    "detail": "the node that held the connection lives no more, or there was none",
}


class Operators:
    """Asks the engine about connections and nodes, and the operators' port about all the rest."""

    def __init__(self, deps: HttpDeps) -> None:
        self._engine = deps.engine
        self._operators = deps.operators
        self._policy = deps.policy
        self._tally = deps.tally

    def routes(self) -> tuple[Route, ...]:
        one = "/api/connections/{connection}"
        node = "/api/nodes/{node}/drain"
        filters = (
            _SUBJECT,
            text("channel"),
            choice("transport", TRANSPORTS, default=None),
            text("address", "As the hub sees it, without the port."),
            text("node", "A node's name."),
            choice("sort", _SORTS, "`-`: descending.", default="connection"),
        )
        asked = (
            text("connection", must=True),
            channel("channel", must=True),
            whole_number("offset", highest=_MAX_OFFSET, must=True),
            text("epoch", "Of the offset; the channel's own of now where left out."),
        )
        closed = {"204": {"description": "Closed with 4403."}}
        taken_out = {"204": {"description": "Done; the session got a push `unsubscribed`."}}
        explained = ok("Found.", ref("Explanation"))
        return (
            _read("/api/connections", self.connections, "List connections", "Connections",
                  LIMIT, AFTER, *filters),
            _read(one, self.connection, "One connection", "Connection"),
            _route("DELETE", one, self.disconnect, "Close a connection", closed),
            _route("DELETE", one + "/subscriptions/{channel}", self.unsubscribe,
                   "Take a connection out of a channel", taken_out),
            _read("/api/closed", self.closed, "Connections that ended last", "Closed",
                  _SUBJECT, LIMIT),
            _route("GET", "/api/explain", self.explain, "Why a message did not come", explained,
                   *asked),
            _read("/api/nodes", self.nodes, "List nodes", "Nodes"),
            _act("POST", node, self.drain, "Close all sessions of a node", "Draining", _WINDOW),
            _act("DELETE", node, self.undrain, "Let a node take sessions again", "Draining",
                 _WINDOW),
            _act("POST", "/api/rebalance", self.rebalance, "Spread connections evenly",
                 "Rebalance", _WINDOW),
            _read("/api/stats", self.stats, "Counters of this node", "Stats"),
            _route("POST", "/api/ticket", self.ticket, "A `token` for an operator's sessions",
                   ok("Found.", ref("Ticket"))),
        )  # fmt: skip

    # -- connections -----------------------------------------------------------------------------

    async def connections(self, request: Request) -> Answer:
        """A page over all nodes: filtered, sorted, cut, and it says whose part is missing."""
        query = _connection_query(request.given)
        page = await self._engine.connections(query)
        return json_answer(_connections_fields(query, page))

    async def connection(self, request: Request) -> Answer:
        name = request.params["connection"]
        record = await self._engine.connection(name)
        if record is None:
            raise _unknown(name)
        return json_answer(session_fields(record))

    async def disconnect(self, request: Request) -> Answer:
        """Close with 4403, which tells the client not to come back by itself."""
        name = request.params["connection"]
        closed = await self._engine.disconnect(
            name, code=CloseCode.FORBIDDEN, reason=_DISCONNECT_REASON
        )
        if not closed:
            raise _unknown(name)
        return Answer(status=204)

    async def unsubscribe(self, request: Request) -> Answer:
        """Take a session out of a channel; it gets a push `unsubscribed`."""
        named = check_channel(request.params["channel"])
        connection = request.params["connection"]
        await self._operators.of_connection(connection, "unsubscribe", {"channel": named})
        return Answer(status=204)

    async def closed(self, request: Request) -> Answer:
        """The connections that ended last, on all nodes; `subject` narrows it."""
        given = request.given
        return json_answer(await self._operators.closed(given["limit"], given["subject"]))

    async def explain(self, request: Request) -> Answer:
        """Why a connection did not get a publication, or when it did."""
        given = request.given
        asked = {name: given[name] for name in ("channel", "offset", "epoch")}
        try:
            told = await self._operators.of_connection(given["connection"], "explain", asked)
        except NotFoundError:
            told = _UNKNOWN
        return json_answer({"connection": given["connection"], **asked, **told})

    # -- nodes -----------------------------------------------------------------------------------

    async def nodes(self, _request: Request) -> Answer:
        """Every node that lives: with the memory broker that is this one."""
        return json_answer({"nodes": [node_fields(node) for node in await self._engine.nodes()]})

    async def drain(self, request: Request) -> Answer:
        """Begin to close all sessions of a node, which takes no more until it is told to."""
        return await self._of_node(request, "drain")

    async def undrain(self, request: Request) -> Answer:
        """Take sessions again."""
        return await self._of_node(request, "undrain")

    async def _of_node(self, request: Request, operation: str) -> Answer:
        node = request.params["node"]
        return json_answer(
            await self._operators.of_node(node, operation, request.given), status=202
        )

    async def rebalance(self, request: Request) -> Answer:
        """Ask what is more than a node's share to connect again."""
        return json_answer(await self._operators.rebalance(request.given), status=202)

    async def stats(self, _request: Request) -> Answer:
        """This node's state and what it has counted since it started."""
        return json_answer(
            {"node": node_fields(self._engine.node()), "counted": _counted(self._tally)}
        )

    async def ticket(self, _request: Request) -> Answer:
        """For the `?token=` of an operator's page; null where the hub asks for no keys."""
        return json_answer({"ticket": self._policy.ticket()})


def _route(
    method: str, path: str, handler: Handler, summary: str, answers: Json, *parameters: Parameter
) -> Route:
    return Route(
        method=method,
        path=path,
        access=Access.OPERATOR,
        handler=handler,
        summary=summary,
        parameters=parameters,
        answers=answers,
    )


def _read(path: str, handler: Handler, summary: str, schema: str, *parameters: Parameter) -> Route:
    return _route("GET", path, handler, summary, ok("Found.", ref(schema)), *parameters)


def _act(
    method: str, path: str, handler: Handler, summary: str, schema: str, *parameters: Parameter
) -> Route:
    answers = {"202": content("Begun.", ref(schema))}
    return _route(method, path, handler, summary, answers, *parameters)


def _unknown(connection: str) -> NotFoundError:
    return NotFoundError(f"no connection {connection[:80]!r} on any node")


# -- the list of connections -----------------------------------------------------------------------


def _connection_query(given: Mapping[str, Any]) -> ConnectionQuery:
    """Raises `BadRequestError` for an `after` that is no `next` of a page."""
    column, after = given["sort"].removeprefix("-"), given["after"]
    return ConnectionQuery(
        limit=given["limit"],
        sort=column,
        descending=given["sort"].startswith("-"),
        after=None if after is None else _key(column, after),
        node=given["node"],
        subject=given["subject"],
        channel=given["channel"],
        address=given["address"],
        transport=given["transport"],
    )


def _connections_fields(query: ConnectionQuery, page: ConnectionPage) -> dict[str, object]:
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
    return (_finite(value) if column in NUMBERS else value), connection


def _finite(value: str) -> float:
    """A number as `_mark` wrote it."""
    if _WRITTEN.fullmatch(value) is None or not math.isfinite(found := float(value)):
        raise BadRequestError("after is not the `next` of a page that is sorted so")
    return found


# -- counters --------------------------------------------------------------------------------------


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
