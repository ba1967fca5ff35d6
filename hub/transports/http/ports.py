"""What the HTTP routes need from the rest of the hub, as protocols and plain values.

`hub.node.transports` hands it all in as one `HttpDeps`; nothing here knows a concrete node or
broker.
"""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hub.admin.listing import Page, Query
from hub.admin.requests import Admin
from hub.auth.credentials import Credentials
from hub.auth.proxies import TrustedProxies
from hub.core.commands import PollRequest
from hub.core.counters import Counters
from hub.core.hooks import Hooks
from hub.core.identity import Identity
from hub.core.node_records import NodeRecord
from hub.core.options import KIB, MIB
from hub.core.ports import (
    HistoryPage,
    PublishNow,
    PublishRequest,
    PublishResult,
    PublishSoon,
    StatePage,
)
from hub.core.publication import Position
from hub.core.pushes import Member
from hub.core.reading import Found, LookBack
from hub.core.records import ChannelRecord
from hub.errors import HubError
from hub.transports.admission import UrlRules
from hub.transports.asgi_types import ASGIApp
from hub.transports.request import OnRefused


class Node(Protocol):
    """What is asked of a node beside operators' requests. Everything it refuses is a `HubError`."""

    def publish(
        self, request: PublishRequest
    ) -> PublishResult | Coroutine[Any, Any, PublishResult]:
        """At once where nothing waits; calls made one after another within one tick are carried
        out in that order."""
        ...

    @property
    def publish_now(self) -> PublishNow | None:
        """`publish` where it never waits; None elsewhere."""
        ...

    @property
    def publish_soon(self) -> PublishSoon | None:
        """`publish` with a call back; None where the broker has none."""
        ...

    def publish_many_now(
        self, requests: Sequence[PublishRequest]
    ) -> Sequence[PublishResult | HubError] | None:
        """As `publish` for each in their order, with what it returns or raises; None, and nothing
        is done, where they are to be published one by one."""

    @property
    def publishes_many(self) -> bool:
        """Whether several at a time go by `publish_many`."""
        ...

    async def publish_many(
        self, requests: Sequence[PublishRequest]
    ) -> Sequence[PublishResult | HubError]:
        """In this order; each has its result, or why there is none."""
        ...

    async def history(self, channel: str, since: Position | None, limit: int) -> HistoryPage:
        """At most `limit` publications after `since`; from the oldest held without it, or
        where it belongs to another epoch."""
        ...

    async def state(self, channel: str, after: str, limit: int) -> StatePage:
        """Rows of a keyed channel with keys above `after`; raise `BadRequestError` for others."""
        ...

    def check_keyed(self, channel: str) -> None:
        """Raise `BadRequestError` where the channel keeps no state."""

    async def look_back(self, channel: str, asked: LookBack) -> Found:
        """Part of history, from a moment on or backwards."""
        ...

    async def clear_history(self, channel: str) -> None:
        """Nothing that was published before is held any more; raise `UnavailableError`."""
        ...

    async def presence(self, channel: str) -> Sequence[Member]:
        """On any node; raise `BadRequestError` where the namespace has no presence."""
        ...

    async def channels(self, wanted: Callable[[str], bool]) -> Sequence[ChannelRecord]:
        """Of this node, those whose names are wanted."""
        ...

    async def all_channels(self, query: Query) -> Page[ChannelRecord]:
        """Of all nodes that answer in time."""
        ...

    async def channel(self, name: str) -> ChannelRecord | None: ...

    async def command(self, connection: str, secret: str, raw: bytes) -> bytes:
        """Carry out a command for a session of whatever node; return the encoded reply.

        Raises `NotFoundError` for an unknown connection, `UnauthorizedError` for a wrong
        secret.
        """
        ...

    def check_secret(self, connection: str, secret: str) -> Coroutine[Any, Any, None] | None:
        """Raise as `command` does, without a command: at once, or by what is returned."""
        ...

    def node(self) -> NodeRecord: ...


class Policy(Protocol):
    """The access policy; `hub.auth.policy` has it."""

    def identify(self, credentials: Credentials) -> Identity:
        """Raise `UnauthorizedError` for credentials that do not hold, or are missing."""
        ...

    def identify_publisher(self, credentials: Credentials) -> Identity:
        """The same; nothing sent where publishing needs something is unauthorized too."""
        ...

    def lasts(self, identity: Identity) -> bool:
        """Whether the same credentials, or none, are this identity's until keys change."""
        ...

    def when_keys_change(self, forget: Callable[[], None]) -> None:
        """Have `forget` called then."""
        ...

    def check_operator(self, credentials: Credentials) -> Identity:
        """Raise `UnauthorizedError` or `ForbiddenError` unless they are an operator's."""
        ...

    def ticket(self) -> str | None:
        """What opens an operator's sessions where a key must not stand, in URLs."""
        ...

    def check_host(self, host: str | None) -> None:
        """Raise `MisdirectedRequestError` unless requests may name `host`."""
        ...

    def check_origin(
        self, origin: str | None, host: str | None, fetch_site: str | None = None
    ) -> None:
        """Raise `ForbiddenError` unless pages of `origin` may use the hub at `host`."""
        ...


class Log(Protocol):
    """The part of a structlog logger that is used here."""

    def exception(self, event: str, **fields: object) -> object: ...


class CheckPublish(Protocol):
    """Counts publications of a publisher; `hub.core.limits.Limiter` has it."""

    def __call__(self, publisher: str, count: int, *, address: str) -> None: ...


Scraped = tuple[bytes, str]
"""The exposition for Prometheus and its content type."""
Poll = Callable[[PollRequest], Awaitable[bytes]]
"""Answers a poll with its JSON; raises `HubError`."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one request may cost."""

    max_message_bytes: int = 64 * KIB
    """Of one publication's data."""
    max_body_bytes: int = MIB
    """Of a batch. Guess, not measured."""
    max_batch_items: int = 1000
    """Guess, not measured: 15 us each keep the loop for 15 ms."""
    body_timeout_seconds: float = 30
    """From the request's head to the last byte of its body."""
    body_total_bytes: int = 64 * MIB
    """Of all bodies under way together."""
    max_poll_channels: int = 32
    """As clients/PROTOCOL.md has it of long polling."""
    max_poll_wait_seconds: float = 55
    """Below the 60 s after which nginx gives a silent answer up (`proxy_read_timeout`)."""

    @property
    def max_command_bytes(self) -> int:
        """Of a command: its data, and an envelope with a token of the largest head."""
        return self.max_message_bytes + 16 * KIB


@dataclass(frozen=True, slots=True)
class HttpDeps:
    """Everything the routes are built from."""

    node: Node
    admin: Admin
    policy: Policy
    poll: Poll
    ready: Callable[[], Sequence[str]]
    """Why the node is not ready; empty when it is."""
    metrics: Callable[[str], Scraped | Coroutine[Any, Any, Scraped]]
    """By the request's `Accept`; at once where no other process is asked."""
    counters: Counters
    log: Log
    on_refused: OnRefused
    """Logs a refusal; `hub.observe.refusals` has it."""
    at_once: bool
    """Whether the broker answers at once, so that handlers need no task."""
    version: str
    pages: Path
    """Directory of the demo page; its `index.html` is `/`."""
    client: Path
    """Directory of the browser client's modules."""
    dashboard: Path
    """Directory of the dashboard; its `index.html` is `/dashboard`."""
    base_path: str = ""
    """Goes before every path: empty, or such as `/hub` without a slash at its end."""
    limits: HttpLimits = field(default_factory=HttpLimits)
    url_rules: UrlRules = field(default_factory=UrlRules)
    """What the URL of a session may ask for."""
    hooks: Hooks | None = None
    """Ask the application; None where it need not be asked."""
    new_connection: Callable[[], str] = str
    """The id of a session that is to be."""
    check_publish: CheckPublish | None = None
    """Raises `RateLimitedError` where a publisher may not publish so many more; None where all
    may."""
    proxies: TrustedProxies = field(default_factory=TrustedProxies)
    """Whose word about a client's address counts."""
    traced: bool = False
    """Whether a publisher's `traceparent` is read."""
    fallback: ASGIApp | None = None
    """Answers what the hub does not; `/` is then its own too."""
