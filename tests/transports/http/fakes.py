"""A node that remembers what it was asked, and an application around it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2 as httpx
from msgspec import structs

from hub import dashboard
from hub.admin.channels import CHANNELS, OneChannel
from hub.admin.connections import GetConnection, ListClosed, ListConnections
from hub.admin.drain import Closing, Drain, Shed, Undrain
from hub.admin.explain import Explain, Explained
from hub.admin.explain_subject import ExplainSubject, SubjectPart
from hub.admin.listing import Page, Part, Query, Row, Selection, merge
from hub.admin.requests import HERE, AdminRequest, Answers, AtConnection, AtNode, Everywhere
from hub.auth.policy import Policy
from hub.core.commands import PollRequest
from hub.core.counters import Counters
from hub.core.eager import begin
from hub.core.node_records import NodeRecord
from hub.core.options import Namespaces
from hub.core.ports import (
    HistoryPage,
    PublishNow,
    PublishRequest,
    PublishResult,
    PublishSoon,
    StatePage,
)
from hub.core.publication import Position, Publication
from hub.core.pushes import Member
from hub.core.reading import Found, LookBack
from hub.core.records import ChannelRecord, RowSource, SessionRecord, SubscriptionRecord
from hub.errors import (
    BadRequestError,
    HubError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
)
from hub.transports.admission import UrlRules
from hub.transports.asgi import HttpApplication, request_of
from hub.transports.asgi_types import ASGIApp, Receive, Scope, Send
from hub.transports.http.app import make_routes
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
        missing=0,
        watches=False,
        patterns=(),
        subscriptions=subscriptions,
        node="n1",
    )


def channel_record(name: str) -> ChannelRecord:
    return ChannelRecord(name, Position("e1", 2), subscribers=1, history=2, presence=False)


@dataclass
class FakeNode:
    """Numbers publications from 1 in epoch `e1`; `fails` maps a channel to what it raises."""

    published: list[PublishRequest] = field(default_factory=list)
    fails: dict[str, Exception] = field(default_factory=dict)
    asked_state: list[tuple[str, str, int]] = field(default_factory=list)
    state_page: StatePage = field(
        default_factory=lambda: StatePage(
            Position("e", 7), (Publication("table:a", 5, b"[1]", 1000, "k", "ann"),), None
        )
    )
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
    cleared: list[str] = field(default_factory=list)
    """Channels whose history was let go of."""
    looked_back: list[LookBack] = field(default_factory=list)
    asked: list[tuple[str, Position | None, int]] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    together: bool = False
    """Whether it has a call for many."""
    channel_queries: list[Query] = field(default_factory=list)

    publishes_many: bool = False
    publish_now: PublishNow | None = None
    publish_soon: PublishSoon | None = None

    async def publish_many(
        self, requests: Sequence[PublishRequest]
    ) -> Sequence[PublishResult | HubError]:
        """Each as `publish` has it."""
        outcomes: list[PublishResult | HubError] = []
        for request in requests:
            try:
                outcomes.append(await self.publish(request))
            except HubError as error:
                outcomes.append(error)
        return outcomes

    async def publish(self, request: PublishRequest) -> PublishResult:
        if request.channel in self.fails:
            raise self.fails[request.channel]
        self.published.append(request)
        seen = [each.idempotency_key for each in self.published[:-1]]
        duplicate = request.idempotency_key is not None and request.idempotency_key in seen
        return PublishResult(Position("e1", len(self.published)), duplicate)

    def publish_many_now(
        self, requests: Sequence[PublishRequest]
    ) -> Sequence[PublishResult | HubError] | None:
        if not self.together:
            return None
        outcomes: list[PublishResult | HubError] = []
        for request in requests:
            try:
                outcomes.append(begin(self.publish(request)))  # type: ignore[arg-type]  # it never waits
            except HubError as error:
                outcomes.append(error)
        return outcomes

    async def history(self, channel: str, since: Position | None, limit: int) -> HistoryPage:
        self.asked.append((channel, since, limit))
        return self.page

    async def state(self, channel: str, after: str, limit: int) -> StatePage:
        self.check_keyed(channel)
        self.asked_state.append((channel, after, limit))
        return self.state_page

    def check_keyed(self, channel: str) -> None:
        if not channel.startswith("table:"):
            raise BadRequestError("it keeps no state")

    async def look_back(self, channel: str, asked: LookBack) -> Found:
        self.looked_back.append(asked)
        publications = tuple(reversed(self.page.publications))
        return Found(structs.replace(self.page, publications=publications), Position("e1", 2), True)

    async def clear_history(self, channel: str) -> None:
        self.cleared.append(channel)

    async def presence(self, channel: str) -> Sequence[Member]:
        if not channel.startswith("chat:"):
            raise BadRequestError("presence is off")
        return [Member("ann", "c1", "ann"), Member("c2", "c2")]

    async def channels(self, wanted: Callable[[str], bool]) -> Sequence[ChannelRecord]:
        return [channel_record(name) for name in self.known if wanted(name)]

    async def all_channels(self, query: Query) -> Page[ChannelRecord]:
        """Of this one node, in the order asked for."""
        self.channel_queries.append(query)
        rows = await self.channels(lambda name: name.startswith(query.where["prefix"]))
        selection = Selection(CHANNELS, query, NOWHERE, count=query.skip + query.limit)
        selection.look_at(rows)
        return merge(query, Answers({"n1": selection.part(lambda record: record)}))

    async def channel(self, name: str) -> OneChannel | None:
        return OneChannel(channel_record(name)) if name in self.known else None

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
        return NODE


NODE = NodeRecord("n1", "0", 1, 2.5, 3, 4, 5, 6, 7, draining=False)
NOWHERE = RowSource("n1", lambda: 0.0, 0.0)


@dataclass
class FakeAdmin:
    """Remembers what it was asked; knows the node n1, and the connection c1 and its `sessions`."""

    asked: list[tuple[AdminRequest[Any], object]] = field(default_factory=list)
    sessions: dict[str, SessionRecord] = field(default_factory=dict)
    unanswered: tuple[str, ...] = ()
    away: bool = False
    """Whether the others are not known now."""

    async def call(self, request: AdminRequest[Any], at: object = HERE) -> Any:
        self.asked.append((request, at))
        if isinstance(at, AtNode) and at.name != "n1":
            raise NotFoundError(f"no node {at.name!r} lives")
        if isinstance(at, AtConnection) and at.connection not in {"c1", *self.sessions}:
            raise NotFoundError(f"connection {at.connection!r} is not open")
        answer = self._answer(request)
        everywhere = isinstance(at, Everywhere)
        return Answers({"n1": answer}, self.unanswered) if everywhere else answer

    def _answer(self, request: AdminRequest[Any]) -> Any:
        match request:
            case ListConnections(query):
                rows = [Row((n, r.connection), r) for n, r in enumerate(self.sessions.values())]
                return Part(tuple(rows[: query.limit]), len(rows), more=len(rows) > query.limit)
            case ListClosed():
                return Part((), 0, more=False)
            case GetConnection(connection):
                return self.sessions[connection]
            case Explain():
                return Explained(answer="dropped", detail="slow")
            case ExplainSubject():
                return SubjectPart()
            case Drain() | Undrain() | Shed():
                return Closing(closing=3)
        return {"asked": request.tag()}

    async def nodes(self) -> Mapping[str, NodeRecord]:
        if self.away:
            raise UnavailableError("the other nodes are not known now")
        return {"n1": NODE}

    def last_known(self) -> Mapping[str, NodeRecord]:
        return {"n1": NODE, "n2": replace(NODE, node="n2")}


@dataclass
class RecordingLog:
    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def exception(self, event: str, **fields: object) -> None:
        self.events.append((event, fields))


@dataclass
class Hub:
    """The application under test with everything it was made from."""

    node: FakeNode
    admin: FakeAdmin
    log: RecordingLog
    counters: Counters
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
    """Everything but the node, the log and polling; those do nothing that is remembered."""

    async def poll(_request: PollRequest) -> bytes:
        return b""

    return HttpDeps(
        node=FakeNode(),
        admin=FakeAdmin(),
        policy=policy or keyed_policy(),
        poll=poll,
        ready=list,
        metrics=lambda _accept: (b"hub_up 1\n", "text/plain; version=1.0.0"),
        counters=Counters(),
        log=RecordingLog(),
        on_refused=lambda *_refusal: None,
        at_once=True,
        version="0",
        pages=files / "pages",
        client=files / "client",
        dashboard=dashboard.DIRECTORY,
        url_rules=UrlRules(Namespaces(), max_patterns=16),
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
    node, admin, log = FakeNode(), FakeAdmin(), RecordingLog()
    polls: list[PollRequest] = []
    reasons: list[str] = []

    async def poll(request: PollRequest) -> bytes:
        polls.append(request)
        return b'{"pushes":[],"positions":{}}'

    deps = replace(
        make_deps(files, policy=policy, limits=limits, base_path=base_path, fallback=fallback),
        node=node,
        admin=admin,
        log=log,
        poll=poll,
        ready=lambda: reasons,
    )
    return Hub(node, admin, log, deps.counters, polls, reasons, application(deps))


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
