"""What operators see and do: connections, nodes, counters, why, drain. Operator keys only."""

from collections import Counter
from dataclasses import fields
from typing import Any

from msgspec import to_builtins

from hub.admin.cluster import by_name
from hub.admin.connections import (
    CONNECTIONS,
    Disconnect,
    GetConnection,
    ListClosed,
    ListConnections,
    Unsubscribe,
    list_closed,
    list_connections,
)
from hub.admin.explain import MAX_RANGE, UNKNOWN, Explain, Explained
from hub.admin.explain_subject import ExplainSubject, explain_subject
from hub.admin.listing import Page
from hub.admin.nodes import MAX_WINDOW_SECONDS, Closing, Drain, Shed, Undrain, rebalance
from hub.admin.patterns import ListPatterns, list_patterns
from hub.admin.refused import ListLimited, ListRefusals, list_newest
from hub.admin.requests import AdminRequest, AtConnection, AtNode, Everywhere
from hub.core.counters import Counters, Histogram
from hub.core.publication import MAX_OFFSET, check_channel
from hub.core.records import plain
from hub.errors import BadRequestError, NotFoundError, UnavailableError
from hub.transports.http.answer import Answer, json_answer
from hub.transports.http.parameters import (
    AFTER,
    LIMIT,
    channel,
    choice,
    number,
    text,
)
from hub.transports.http.parameters import whole as whole_number
from hub.transports.http.ports import HttpDeps
from hub.transports.http.routes import Route
from hub.transports.http.rows import act, read, route
from hub.transports.http.schemas import ok, ref
from hub.transports.request import Request
from hub.wire.codes import CloseCode
from hub.wire.query import LATEST_MS

TRANSPORTS = ("websocket", "sse", "poll")
_DISCONNECT_REASON = "disconnected by operator"
_WINDOW = number("window_seconds", "Over which the closes are spread.", highest=MAX_WINDOW_SECONDS)
_SUBJECT = text("subject")
_ADDRESS = text("address", "As the hub sees it, without the port.")


class Operators:
    """Reads what is asked, has it carried out where it belongs, and shows the answer."""

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
            route(Unsubscribe, "DELETE", one + "/subscriptions/{channel}", self.unsubscribe,
                   "Take a connection out of a channel", taken_out),
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
        """A page over all nodes: filtered, sorted, cut, and it says whose part is missing."""
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
        await self._admin.call(Unsubscribe(connection, named), AtConnection(connection))
        return Answer(status=204)

    async def closed(self, request: Request) -> Answer:
        """The connections that ended last, on all nodes; `subject` narrows it."""
        given = request.given
        page = await list_closed(self._admin, limit=given["limit"], subject=given["subject"])
        return json_answer(
            {"closed": page.records, "unanswered": page.unanswered, "complete": page.complete}
        )

    async def refusals(self, request: Request) -> Answer:
        """Rows of reason and address, on all nodes, the newest first."""
        return _newest("refusals", await list_newest(self._admin, ListRefusals, **request.given))

    async def limited(self, request: Request) -> Answer:
        """Rows of a limit and whom it held back, on all nodes, the newest first."""
        return _newest("limited", await list_newest(self._admin, ListLimited, **request.given))

    async def explain(self, request: Request) -> Answer:
        """Why a connection did not get a publication, or when it did; or all that a subject got."""
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
            # Its node lives no more; another may have read what it kept.
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
        """By which patterns sessions subscribe, and how many do by each."""
        return json_answer(to_builtins(await list_patterns(self._admin, request.given["limit"])))

    # -- nodes -----------------------------------------------------------------------------------

    async def nodes(self, _request: Request) -> Answer:
        """Every node that lives; while what connects them is away, this one and what it last knew.

        Each record says when it was so (`at_ms`).
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
        """Begin to close all sessions of a node, which takes no more until it is told to."""
        return await self._of_node(request, Drain(request.given["window_seconds"]))

    async def undrain(self, request: Request) -> Answer:
        """Take sessions again."""
        return await self._of_node(request, Undrain())

    async def _of_node(self, request: Request, asked: AdminRequest[Closing]) -> Answer:
        node = request.params["node"]
        told = await self._admin.call(asked, AtNode(node))
        return json_answer({"node": node, **to_builtins(told)}, status=202)

    async def rebalance(self, request: Request) -> Answer:
        """Ask what is more than a node's share to connect again."""
        rows = await rebalance(self._admin, request.given["window_seconds"])
        return json_answer({"nodes": rows}, status=202)

    async def stats(self, _request: Request) -> Answer:
        """This node's state and what it has counted since it started."""
        return json_answer({"node": plain(self._node.node()), "counted": _counted(self._counters)})

    async def ticket(self, _request: Request) -> Answer:
        """For the `?token=` of an operator's page; null where the hub asks for no keys."""
        return json_answer({"ticket": self._policy.ticket()})


def _newest(name: str, page: Page[Any]) -> Answer:
    rows = [plain(each) for each in page.records]
    return json_answer({name: rows, "unanswered": page.unanswered, "complete": page.complete})


def _unknown(connection: str) -> NotFoundError:
    return NotFoundError(f"no connection {connection[:80]!r} on any node")


# -- counters --------------------------------------------------------------------------------------


def _counted(counters: Counters) -> dict[str, object]:
    """What is counted, under its name in `Counters`; its histograms are Prometheus' business."""
    values = {each.name: getattr(counters, each.name) for each in fields(counters)}
    return {
        name: _plain(value) for name, value in values.items() if not isinstance(value, Histogram)
    }


def _plain(value: object) -> object:
    """Gaps and drops are counted by members of enumerations, which orjson takes as no keys."""
    if not isinstance(value, Counter):
        return value
    return {str(label): count for label, count in value.items()}
