"""Routes for operators: connections, nodes, counters, explanations, drains, debugging.

They take operator keys only. Debugging looks into a live node: log levels, stalls, tasks, memory.
A question about the node that is asked needs no other node and no broker: it works when nothing
else does.
"""

from collections import Counter
from dataclasses import fields
from typing import Any

import msgspec
from msgspec import to_builtins

from hub.admin.channels import ListPatterns, list_patterns
from hub.admin.connections import (
    CONNECTIONS,
    Disconnect,
    GetConnection,
    ListClosed,
    ListConnections,
    UnsubscribeConnection,
    list_closed,
    list_connections,
)
from hub.admin.debugging import (
    GetLogLevels,
    GetMemory,
    GetStalls,
    GetTasks,
    Looked,
    SetLogLevels,
    TraceMemory,
)
from hub.admin.drain import MAX_WINDOW_SECONDS, Closing, Drain, Shed, Undrain, rebalance
from hub.admin.explain import MAX_RANGE, UNKNOWN, Explain, Explained
from hub.admin.explain_subject import ExplainSubject, explain_subject
from hub.admin.listing import Page
from hub.admin.refused import ListLimited, ListRefusals, list_newest
from hub.admin.requests import HERE, AdminRequest, AtConnection, AtNode, Everywhere
from hub.admin.rpc import by_name
from hub.core.counters import Counters, Histogram
from hub.core.publication import MAX_OFFSET, check_channel
from hub.core.records import plain
from hub.errors import BadRequestError, NotFoundError, UnavailableError
from hub.observe.inspection import MAX_SECONDS
from hub.transports.http.answer import Answer, json_answer
from hub.transports.http.operator_schemas import LEVEL_CHANGES
from hub.transports.http.parameters import (
    AFTER,
    LIMIT,
    Parameter,
    channel,
    choice,
    number,
    text,
)
from hub.transports.http.parameters import whole as whole_number
from hub.transports.http.ports import HttpDeps
from hub.transports.http.routes import Handler, Route, act, read, route
from hub.transports.http.schemas import Json, content, ok, ref
from hub.transports.request import Request
from hub.wire.codes import CloseCode
from hub.wire.query import LATEST_MS

TRANSPORTS = ("websocket", "sse", "poll")
_DISCONNECT_REASON = "disconnected by operator"
_WINDOW = number("window_seconds", "Over which the closes are spread.", highest=MAX_WINDOW_SECONDS)
_SUBJECT = text("subject")
_ADDRESS = text("address", "As the hub sees it, without the port.")
_LEVELS = msgspec.json.Decoder(dict[str, str | None])
_NODE = text("node", "A node's name; the one that is asked where left out.")
_SECONDS = number("seconds", highest=MAX_SECONDS, above_zero=True)


class OperatorRoutes:
    """Reads a request, has it carried out at the nodes that it concerns, and shows the answer."""

    def __init__(self, deps: HttpDeps) -> None:
        self._node = deps.node
        self._admin = deps.admin
        self._policy = deps.policy
        self._counters = deps.counters

    def routes(self) -> tuple[Route, ...]:
        one = "/api/connections/{connection}"
        node = "/api/nodes/{node}/drain"
        filters = (
            _SUBJECT,
            text("channel"),
            text("pattern", "Sessions that subscribe by this pattern."),
            choice("transport", TRANSPORTS, default=None),
            _ADDRESS,
            text("node", "A node's name."),
            choice("sort", CONNECTIONS.orders, "`-`: descending.", default="connection"),
        )
        asked = (
            text("connection", "Of one connection; then `channel` and `offset` are asked for."),
            text("subject", "Or of all connections of a subject, on one line of time."),
            channel("channel"),
            whole_number("offset", lowest=1, highest=MAX_OFFSET),
            text("epoch", "Of the offset; the channel's own of now where left out."),
            whole_number(
                "last",
                "Of a connection: all up to this offset too, in `stretches`; "
                f"{MAX_RANGE:,} at most.",
                lowest=1,
                highest=MAX_OFFSET,
            ),
            whole_number("from_ms", "Of a subject: what happened since.", highest=LATEST_MS),
            whole_number("to_ms", "Of a subject: what happened until.", highest=LATEST_MS),
        )
        closed = {"204": {"description": "Closed with 4403."}}
        taken_out = {"204": {"description": "Done; the session got a push `unsubscribed`."}}
        explained = ok("Found.", {"anyOf": [ref("Explanation"), ref("SubjectExplanation")]})
        return (
            read(ListConnections, "/api/connections", self.connections, "List connections",
                  "Connections", LIMIT, AFTER, *filters),
            read(GetConnection, one, self.connection, "One connection", "Connection"),
            route(Disconnect, "DELETE", one, self.disconnect, "Close a connection", closed),
            route(UnsubscribeConnection, "DELETE", one + "/subscriptions/{channel}",
                  self.unsubscribe, "Take a connection out of a channel", taken_out),
            read(ListClosed, "/api/closed", self.closed, "Connections that ended last", "Closed",
                  _SUBJECT, LIMIT),
            read(ListPatterns, "/api/patterns", self.patterns,
                  "Patterns that sessions subscribe to", "Patterns", LIMIT),
            read(ListRefusals, "/api/refusals", self.refusals, "Who was refused", "Refusals",
                  text("reason", "As `hub_refusals_total` counts it, or an error's code."),
                  _ADDRESS, LIMIT),
            read(ListLimited, "/api/limited", self.limited, "Whom limits held back", "Limited",
                  text("name", "An address, a subject, a key's name or a connection."),
                  _ADDRESS, LIMIT),
            route(Explain, "GET", "/api/explain", self.explain, "Why a message did not come",
                   explained, *asked),
            read(None, "/api/nodes", self.nodes, "List nodes", "Nodes"),
            act(Drain, "POST", node, self.drain, "Close all sessions of a node", "Draining",
                 _WINDOW),
            act(Undrain, "DELETE", node, self.undrain, "Let a node take sessions again",
                 "Draining", _WINDOW),
            act(Shed, "POST", "/api/rebalance", self.rebalance, "Spread connections evenly",
                 "Rebalance", _WINDOW),
            read(None, "/api/stats", self.stats, "Counters of this node", "Stats"),
            route(None, "POST", "/api/ticket", self.ticket, "A `token` for an operator's sessions",
                   ok("Found.", ref("Ticket"))),
        )  # fmt: skip

    # -- connections -----------------------------------------------------------------------------

    async def connections(self, request: Request) -> Answer:
        """Answer with a page over all nodes, filtered and sorted, and the missing nodes."""
        given = request.given
        where = {name: given[name] for name in CONNECTIONS.filters}
        query = CONNECTIONS.read(given, **where)
        page = await list_connections(self._admin, query, given["node"])
        return json_answer(CONNECTIONS.told(query, page))

    async def connection(self, request: Request) -> Answer:
        name = request.params["connection"]
        try:
            record = await self._admin.call(GetConnection(name), AtConnection(name))
        except NotFoundError:
            raise _unknown(name) from None
        return json_answer(plain(record))

    async def disconnect(self, request: Request) -> Answer:
        """Close with 4403, which tells the client not to come back by itself."""
        name = request.params["connection"]
        asked = Disconnect(name, CloseCode.FORBIDDEN, _DISCONNECT_REASON)
        try:
            await self._admin.call(asked, AtConnection(name))
        except NotFoundError:
            raise _unknown(name) from None
        return Answer(status=204)

    async def unsubscribe(self, request: Request) -> Answer:
        """Take a session out of a channel; it gets a push `unsubscribed`."""
        named = check_channel(request.params["channel"])
        connection = request.params["connection"]
        await self._admin.call(UnsubscribeConnection(connection, named), AtConnection(connection))
        return Answer(status=204)

    async def closed(self, request: Request) -> Answer:
        """Answer with the connections that ended last on all nodes, or with those of a subject."""
        given = request.given
        page = await list_closed(self._admin, limit=given["limit"], subject=given["subject"])
        return json_answer(
            {"closed": page.records, "unanswered": page.unanswered, "complete": page.complete}
        )

    async def refusals(self, request: Request) -> Answer:
        """Answer with rows of reason and address on all nodes, the newest first."""
        return _newest("refusals", await list_newest(self._admin, ListRefusals, **request.given))

    async def limited(self, request: Request) -> Answer:
        """Answer with rows of a limit and a peer held back, on all nodes, the newest first."""
        return _newest("limited", await list_newest(self._admin, ListLimited, **request.given))

    async def explain(self, request: Request) -> Answer:
        """Explain why a connection did not get a publication, or a subject's whole line of time."""
        given = dict(request.given)
        connection, subject = given.pop("connection"), given.pop("subject")
        if bool(connection) == bool(subject):
            raise BadRequestError("give either connection or subject")
        last = given.pop("last")
        if subject:
            return await self._explain_subject(ExplainSubject(subject=subject, **given))
        for name in ("channel", "offset"):
            if given[name] is None:
                raise BadRequestError(f"{name} is missing")
        asked = Explain(connection, given["channel"], given["offset"], given["epoch"], last)
        told = to_builtins(asked)
        del told["last"]
        return json_answer({**told, **to_builtins(await self._explained(asked))})

    async def _explained(self, asked: Explain) -> Explained:
        try:
            return await self._admin.call(asked, AtConnection(asked.connection))
        except NotFoundError:
            # Its node lives no more; another may have read the notes that it kept.
            answers = await self._admin.call(asked, Everywhere())
            known = [each for each in answers.by_tag.values() if each.answer != UNKNOWN.answer]
            return known[0] if known else UNKNOWN

    async def _explain_subject(self, asked: ExplainSubject) -> Answer:
        if asked.offset is not None and asked.channel is None:
            raise BadRequestError("channel is missing")
        told = await explain_subject(self._admin, asked)
        question = {name: getattr(asked, name) for name in asked.__struct_fields__}
        return json_answer({**question, **to_builtins(told)})

    async def patterns(self, request: Request) -> Answer:
        """Answer with the patterns of sessions, and the number of sessions for each."""
        return json_answer(to_builtins(await list_patterns(self._admin, request.given["limit"])))

    # -- nodes -----------------------------------------------------------------------------------

    async def nodes(self, _request: Request) -> Answer:
        """Answer with every node that lives; while the broker is away, with the nodes last known.

        Each record has its time (`at_ms`).
        """
        unknown: str | None = None
        try:
            nodes = await self._admin.nodes()
        except UnavailableError as error:
            nodes, unknown = self._admin.last_known(), error.message
        return json_answer(
            {
                "nodes": [plain(each) for each in by_name(nodes)],
                "node": self._node.node().node,
                "complete": unknown is None,
                "unknown": unknown,
            }
        )

    async def drain(self, request: Request) -> Answer:
        """Begin to close all sessions of a node, which takes no more until it is undrained."""
        return await self._of_node(request, Drain(request.given["window_seconds"]))

    async def undrain(self, request: Request) -> Answer:
        """Have a node take sessions again."""
        return await self._of_node(request, Undrain())

    async def _of_node(self, request: Request, asked: AdminRequest[Closing]) -> Answer:
        node = request.params["node"]
        told = await self._admin.call(asked, AtNode(node))
        return json_answer({"node": node, **to_builtins(told)}, status=202)

    async def rebalance(self, request: Request) -> Answer:
        """Ask the sessions above a node's share to connect again."""
        rows = await rebalance(self._admin, request.given["window_seconds"])
        return json_answer({"nodes": rows}, status=202)

    async def stats(self, _request: Request) -> Answer:
        """Answer with this node's state and its counters since the start."""
        return json_answer({"node": plain(self._node.node()), "counted": _counted(self._counters)})

    async def ticket(self, _request: Request) -> Answer:
        """Answer with a `?token=` for an operator's page; null where the hub asks for no keys."""
        return json_answer({"ticket": self._policy.ticket()})


def _newest(name: str, page: Page[Any]) -> Answer:
    rows = [plain(each) for each in page.records]
    return json_answer({name: rows, "unanswered": page.unanswered, "complete": page.complete})


def _unknown(connection: str) -> NotFoundError:
    return NotFoundError(f"no connection {connection[:80]!r} on any node")


# -- counters --------------------------------------------------------------------------------------


def _counted(counters: Counters) -> dict[str, object]:
    """Return all counters by their names in `Counters`; histograms are for Prometheus alone."""
    values = {each.name: getattr(counters, each.name) for each in fields(counters)}
    return {
        name: _plain(value) for name, value in values.items() if not isinstance(value, Histogram)
    }


def _plain(value: object) -> object:
    """Return a counter with texts as keys: orjson takes no members of enumerations as keys."""
    if not isinstance(value, Counter):
        return value
    return {str(label): count for label, count in value.items()}


# -- debugging -------------------------------------------------------------------------------------


class DebuggingRoutes:
    """Brings a question to the node that is asked, or to `?node=`."""

    def __init__(self, deps: HttpDeps) -> None:
        self._admin = deps.admin
        self._node = deps.node

    def routes(self) -> tuple[Route, ...]:
        begun = {"202": content("Begun; GET tells the result.", ref("MemoryTracing"))}
        return (
            self._look("log-levels", GetLogLevels(), "Log levels by subsystem", "LogLevels"),
            _route(SetLogLevels, "PUT", "log-levels", self.set_log_levels, "Change log levels",
                   ok("Found.", ref("LogLevels")), body=LEVEL_CHANGES),
            self._look("memory", GetMemory(), "The last look at memory", "Memory"),
            _route(TraceMemory, "POST", "memory", self.trace_memory,
                   "Trace allocations for so long, then count objects", begun, _SECONDS),
            self._look("stalls", GetStalls(), "When the event loop was held up", "Stalls"),
            self._look("tasks", GetTasks(), "What tasks wait for", "Tasks"),
        )  # fmt: skip

    def _look(self, name: str, asked: AdminRequest[Looked], summary: str, schema: str) -> Route:
        """Return a row that only looks."""
        return _route(
            type(asked),
            "GET",
            name,
            lambda request: self._ask(request, asked),
            summary,
            ok("Found.", ref(schema)),
        )

    async def trace_memory(self, request: Request) -> Answer:
        """Begin to look at memory for `seconds`; `GET memory` has the result afterwards."""
        return await self._ask(request, TraceMemory(request.given["seconds"]), status=202)

    async def set_log_levels(self, request: Request) -> Answer:
        """Set levels by a body that is an object: subsystem to level, or to null for the general
        level."""
        try:
            levels = _LEVELS.decode(request.body)
        except ValueError as error:
            message = f"the body is no object of subsystems and levels: {error}"
            raise BadRequestError(message) from None
        return await self._ask(request, SetLogLevels(levels))

    async def _ask(
        self, request: Request, asked: AdminRequest[Looked], *, status: int = 200
    ) -> Answer:
        own = self._node.node().node
        node = request.given["node"] or own
        told = await self._admin.call(asked, HERE if node == own else AtNode(node))
        return json_answer({"node": node, **told}, status=status)


def _route(
    asks: type[AdminRequest[Looked]],
    method: str,
    name: str,
    handler: Handler,
    summary: str,
    answers: Json,
    *parameters: Parameter,
    body: Json | None = None,
) -> Route:
    path = f"/api/debug/{name}"
    return route(asks, method, path, handler, summary, answers, _NODE, *parameters, body=body)
