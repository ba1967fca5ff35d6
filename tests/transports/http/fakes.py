"""An engine that remembers what it was asked, and an application around it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx2 as httpx

from hub import dashboard
from hub.auth.policy import Policy
from hub.core.channel_listing import ChannelPage, ChannelQuery
from hub.core.listing import ConnectionPage, ConnectionQuery, Row
from hub.core.peers import Arguments, Told
from hub.core.polling import PollRequest
from hub.core.ports import HistoryPage, PublishRequest, PublishResult
from hub.core.publication import Position, Publication
from hub.core.pushes import Member
from hub.core.records import ChannelRecord, NodeRecord, SessionRecord, SubscriptionRecord
from hub.core.tally import Tally
from hub.errors import BadRequestError, NotFoundError, UnauthorizedError
from hub.transports.asgi_types import ASGIApp, Receive, Scope, Send
from hub.transports.http.app import make_routes
from hub.transports.http.asgi import HttpApplication, request_of
from hub.transports.http.bodies import BodyBudget
from hub.transports.http.dispatch import Dispatcher
from hub.transports.http.ports import HttpDeps, HttpLimits

PUBLISH_KEY, OPERATOR_KEY = "publisher-key", "operator-key"
PUBLISHER = {"Authorization": f"Bearer {PUBLISH_KEY}"}
OPERATOR = {"Authorization": f"Bearer {OPERATOR_KEY}"}


def session_record(connection: str, *channels: str, transport: str = "sse") -> SessionRecord:
    subscriptions = tuple(
        SubscriptionRecord(name, Position("e1", 2), "live", 0, 0) for name in channels
    )
    return SessionRecord(
        connection=connection,
        transport=transport,
        subject=f"user-{connection}",
        address="127.0.0.1",
        user_agent="test",
        opened_ms=1,
        round_trip_ms=None,
        sent=2,
        dropped=0,
        outbox_messages=0,
        outbox_bytes=0,
        outbox_age_seconds=0,
        subscriptions=subscriptions,
        node="n1",
    )


def channel_record(name: str) -> ChannelRecord:
    return ChannelRecord(name, Position("e1", 2), subscribers=1, history=2, presence=False)


@dataclass
class FakeEngine:
    """Numbers publications from 1 in epoch `e1`; `fails` maps a channel to what it raises."""

    published: list[PublishRequest] = field(default_factory=list)
    fails: dict[str, Exception] = field(default_factory=dict)
    page: HistoryPage = field(
        default_factory=lambda: HistoryPage(
            Position("e1", 3),
            2,
            (
                Publication("a", 2, b"12345678901234567890123", 7, key="k", sender="ann"),
                Publication("a", 3, b"1.0", 8),
            ),
        )
    )
    asked: list[tuple[str, Position | None, int]] = field(default_factory=list)
    sessions: dict[str, SessionRecord] = field(default_factory=dict)
    known: list[str] = field(default_factory=list)
    disconnected: list[tuple[str, int, str]] = field(default_factory=list)
    queries: list[ConnectionQuery] = field(default_factory=list)
    channel_queries: list[ChannelQuery] = field(default_factory=list)
    unanswered: tuple[str, ...] = ()

    async def publish(self, request: PublishRequest) -> PublishResult:
        if request.channel in self.fails:
            raise self.fails[request.channel]
        self.published.append(request)
        seen = [each.idempotency_key for each in self.published[:-1]]
        duplicate = request.idempotency_key is not None and request.idempotency_key in seen
        return PublishResult(Position("e1", len(self.published)), duplicate)

    async def history(self, channel: str, since: Position | None, limit: int) -> HistoryPage:
        self.asked.append((channel, since, limit))
        return self.page

    async def presence(self, channel: str) -> Sequence[Member]:
        if not channel.startswith("chat:"):
            raise BadRequestError("presence is off")
        return [Member("ann", "c1", "ann"), Member("c2", "c2")]

    async def channels(self, wanted: Callable[[str], bool]) -> Sequence[ChannelRecord]:
        return [channel_record(name) for name in self.known if wanted(name)]

    async def all_channels(self, query: ChannelQuery) -> ChannelPage:
        """Of this one node, in the order asked for."""
        self.channel_queries.append(query)
        rows = await self.channels(lambda name: name.startswith(query.prefix))
        beyond = [record for record in rows if query.is_beyond(record.channel)]
        top = query.top(beyond, query.skip + query.limit)[query.skip :]
        more = len(beyond) > query.skip + len(top)
        return ChannelPage(tuple(top), len(rows), more=more)

    async def channel(self, name: str) -> ChannelRecord | None:
        return channel_record(name) if name in self.known else None

    async def connections(self, query: ConnectionQuery) -> ConnectionPage:
        """All of them, in whatever order; the last one's key is its place in it."""
        self.queries.append(query)
        rows = [Row((n, r.connection), r) for n, r in enumerate(self.sessions.values())]
        total, more = len(rows), len(rows) > query.limit
        return ConnectionPage(tuple(rows[: query.limit]), total, more, self.unanswered)

    async def connection(self, connection: str) -> SessionRecord | None:
        return self.sessions.get(connection)

    async def disconnect(self, connection: str, *, code: int, reason: str) -> bool:
        self.disconnected.append((connection, code, reason))
        return connection in self.sessions

    async def command(self, connection: str, secret: str, raw: bytes) -> bytes:
        if connection != "c1":
            raise NotFoundError("no such connection")
        if secret != "s1":
            raise UnauthorizedError("wrong secret")
        return b'{"op":"reply","id":1,"ok":' + raw + b"}"

    def check_secret(self, connection: str, secret: str) -> None:
        if connection != "c1":
            raise NotFoundError("no such connection")
        if secret != "s1":
            raise UnauthorizedError("wrong secret")

    def node(self) -> NodeRecord:
        return NodeRecord("n1", "0", 1, 2.5, 3, 4, 5, 6, 7, draining=False)

    async def nodes(self) -> Sequence[NodeRecord]:
        return [self.node()]


@dataclass
class FakeOperators:
    """Remembers what it was asked, and answers with it; knows one node and one connection."""

    asked: list[tuple[object, ...]] = field(default_factory=list)

    async def here(self, name: str, arguments: Arguments) -> Told:
        self.asked.append(("here", name, dict(arguments)))
        return {"asked": name}

    async def of_connection(self, connection: str, name: str, arguments: Arguments) -> Told:
        self.asked.append((connection, name, dict(arguments)))
        if connection != "c1":
            raise NotFoundError("the node lives no more")
        return {"answer": "dropped", "detail": "slow"}

    async def of_node(self, node: str, name: str, arguments: Arguments) -> Told:
        self.asked.append((node, name, dict(arguments)))
        if node != "n1":
            raise NotFoundError(f"no node {node!r} lives")
        return {"node": node, "closing": 3}

    async def closed(self, limit: int, subject: str | None) -> Told:
        self.asked.append(("closed", (limit, subject)))
        return {"closed": [], "unanswered": []}

    async def rebalance(self, arguments: Arguments) -> Told:
        self.asked.append(("rebalance", dict(arguments)))
        return {"nodes": []}


@dataclass
class RecordingLog:
    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def exception(self, event: str, **fields: object) -> None:
        self.events.append((event, fields))


@dataclass
class Hub:
    """The application under test with everything it was made from."""

    engine: FakeEngine
    operators: FakeOperators
    log: RecordingLog
    tally: Tally
    polls: list[PollRequest]
    reasons: list[str]
    app: ASGIApp

    def client(self, **headers: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app)
        return httpx.AsyncClient(transport=transport, base_url="http://hub.test", headers=headers)


BUILT_CLIENT = b"export class Hub {}; // " + b"0123456789" * 200


def make_deps(
    files: Path,
    *,
    policy: Policy | None = None,
    limits: HttpLimits | None = None,
    base_path: str = "",
    fallback: ASGIApp | None = None,
) -> HttpDeps:
    """Everything but the engine, the log and polling; those do nothing that is remembered."""

    async def poll(_request: PollRequest) -> bytes:
        return b""

    return HttpDeps(
        engine=FakeEngine(),
        operators=FakeOperators(),
        policy=policy or keyed_policy(),
        poll=poll,
        ready=list,
        metrics=lambda _accept: (b"hub_up 1\n", "text/plain; version=1.0.0"),
        tally=Tally(),
        log=RecordingLog(),
        refused=lambda *_args, **_named: None,
        at_once=True,
        version="0",
        pages=files / "pages",
        client=files / "client",
        dashboard=dashboard.DIRECTORY,
        base_path=base_path,
        limits=limits or HttpLimits(),
        fallback=fallback,
    )


def make_hub(
    files: Path,
    *,
    policy: Policy | None = None,
    limits: HttpLimits | None = None,
    base_path: str = "",
    fallback: ASGIApp | None = None,
) -> Hub:
    """A hub with keys set: publishing and operating need one, subscribing does not."""
    engine, operators, log = FakeEngine(), FakeOperators(), RecordingLog()
    polls: list[PollRequest] = []
    reasons: list[str] = []

    async def poll(request: PollRequest) -> bytes:
        polls.append(request)
        return b'{"pushes":[],"positions":{}}'

    deps = replace(
        make_deps(files, policy=policy, limits=limits, base_path=base_path, fallback=fallback),
        engine=engine,
        operators=operators,
        log=log,
        poll=poll,
        ready=lambda: reasons,
    )
    return Hub(engine, operators, log, deps.tally, polls, reasons, application(deps))


def application(deps: HttpDeps) -> ASGIApp:
    """The routes and what stands beside them, for a test's HTTP client."""
    dispatcher = Dispatcher(make_routes(deps), deps)
    http = HttpApplication(
        BodyBudget(deps.limits.body_total_bytes),
        body_timeout_seconds=deps.limits.body_timeout_seconds,
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        call = dispatcher.open(request_of(scope))
        if call.foreign and deps.fallback is not None:
            await deps.fallback(scope, receive, send)
        else:
            await http.answer(dispatcher, call, scope, receive, send)

    return app


def keyed_policy() -> Policy:
    return Policy(
        publish_keys=[PUBLISH_KEY], operator_keys=[OPERATOR_KEY], origins=["https://shop.example"]
    )
