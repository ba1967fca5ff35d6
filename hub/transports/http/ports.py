"""The needs of the HTTP routes from the rest of the hub, as protocols and plain values.

`hub.node.transports` hands all in as one `HttpDeps`; nothing here knows a concrete node or broker.
"""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hub.admin.channels import OneChannel
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
from hub.wire.query import MAX_CHANNELS


class NodeCalls(Protocol):
    """The calls of a node beside operators' requests. Each refusal is a `HubError`."""

    def publish(
        self, request: PublishRequest
    ) -> PublishResult | Coroutine[Any, Any, PublishResult]:
        """Publish, at once where nothing waits; calls of one tick are done in their order."""
        ...

    @property
    def publish_now(self) -> PublishNow | None:
        """`publish` where it never waits; None elsewhere."""
        ...

    @property
    def publish_soon(self) -> PublishSoon | None:
        """`publish` with a callback; None where the broker has none."""
        ...

    def publish_many_now(
        self, requests: Sequence[PublishRequest]
    ) -> Sequence[PublishResult | HubError] | None:
        """Publish each in their order; return the result or the error of each. Returns None, and
        publishes nothing, where they are to be published one by one."""

    @property
    def publishes_many(self) -> bool:
        """Whether several requests at a time go by `publish_many`."""
        ...

    async def publish_many(
        self, requests: Sequence[PublishRequest]
    ) -> Sequence[PublishResult | HubError]:
        """Publish in this order; return the result or the error of each."""
        ...

    async def history(self, channel: str, since: Position | None, limit: int) -> HistoryPage:
        """Return at most `limit` publications after `since`; from the oldest held without it, or
        where it belongs to another epoch."""
        ...

    async def state(self, channel: str, after: str, limit: int) -> StatePage:
        """Return a keyed channel's rows with keys above `after`; raise `BadRequestError`."""
        ...

    def check_keyed(self, channel: str) -> None:
        """Raise `BadRequestError` where the channel keeps no state."""

    async def look_back(self, channel: str, asked: LookBack) -> Found:
        """Return a part of history, from a moment on or backwards."""
        ...

    async def clear_history(self, channel: str) -> None:
        """Drop all history of the channel; raise `UnavailableError`."""
        ...

    async def presence(self, channel: str) -> Sequence[Member]:
        """Return the members on all nodes; raise `BadRequestError` where there is no presence."""
        ...

    async def channels(self, wanted: Callable[[str], bool]) -> Sequence[ChannelRecord]:
        """Return the channels of this node with wanted names."""
        ...

    async def all_channels(self, query: Query) -> Page[ChannelRecord]:
        """Return a page over all nodes that answer in time."""
        ...

    async def channel(self, name: str) -> OneChannel | None: ...

    async def command(self, connection: str, secret: str, raw: bytes) -> bytes:
        """Carry out a command for a session of any node; return the encoded reply.

        Raises `NotFoundError` for an unknown connection, `UnauthorizedError` for a wrong
        secret.
        """
        ...

    def check_secret(self, connection: str, secret: str) -> Coroutine[Any, Any, None] | None:
        """Raise as `command` does, without a command: at once, or when the coroutine is awaited."""
        ...

    def node(self) -> NodeRecord: ...


class AccessPolicy(Protocol):
    """The access policy; `hub.auth.policy` has it."""

    def identify(self, credentials: Credentials) -> Identity:
        """Raise `UnauthorizedError` for credentials that do not hold, or are missing."""
        ...

    def identify_publisher(self, credentials: Credentials) -> Identity:
        """Raise as `identify` does, also for no credentials where publishing needs some."""
        ...

    def lasts(self, identity: Identity) -> bool:
        """Return whether the same credentials, or none, are this identity's until keys change."""
        ...

    def when_keys_change(self, forget: Callable[[], None]) -> None:
        """Have `forget` called when keys change."""
        ...

    def check_operator(self, credentials: Credentials) -> Identity:
        """Raise `UnauthorizedError` or `ForbiddenError` unless they are an operator's."""
        ...

    def ticket(self) -> str | None:
        """Return a token for an operator's sessions, for URLs, where a key must not stand."""
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
    """Counts publications of a publisher; `hub.core.limits.Limiter` does."""

    def __call__(self, publisher: str, count: int, *, address: str) -> None: ...


class CheckBody(Protocol):
    """Counts the bytes of a publisher's bodies; `hub.core.limits.Limiter` does."""

    def __call__(self, publisher: str, size: int, *, address: str) -> None: ...


Scraped = tuple[bytes, str]
"""The exposition for Prometheus and its content type."""
Poll = Callable[[PollRequest], Awaitable[bytes]]
"""Answers a poll with its JSON; raises `HubError`."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits of one request."""

    max_message_bytes: int = 64 * KIB
    """Bytes of one publication's data."""
    max_body_bytes: int = MIB
    """Bytes of a batch. Guess, not measured."""
    max_batch_items: int = 1000
    """Guess, not measured: 15 us each keep the loop for 15 ms."""
    body_timeout_seconds: float = 30
    """Counted from the request's head to the last byte of its body."""
    body_total_bytes: int = 64 * MIB
    """Bytes of all bodies under way together."""
    max_poll_channels: int = MAX_CHANNELS
    max_poll_wait_seconds: float = 55
    """Below the 60 s after which nginx gives a silent answer up (`proxy_read_timeout`)."""

    @property
    def max_command_bytes(self) -> int:
        """Bytes of a command: its data, and an envelope with a token of the largest head."""
        return self.max_message_bytes + 16 * KIB


@dataclass(frozen=True, slots=True)
class HttpDeps:
    """Everything the routes are built from."""

    node: NodeCalls
    admin: Admin
    policy: AccessPolicy
    poll: Poll
    ready: Callable[[], Sequence[str]]
    """Returns the reasons why the node is not ready; none when it is."""
    metrics: Callable[[str], Scraped | Coroutine[Any, Any, Scraped]]
    """Makes the page for a request's `Accept`; at once where no other process is asked."""
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
    url_rules: UrlRules
    """Rules for the URL of a session."""
    base_path: str = ""
    """The prefix of every path: empty, or such as `/hub` without a slash at its end."""
    limits: HttpLimits = field(default_factory=HttpLimits)
    hooks: Hooks | None = None
    """Questions to the application; None where it is not asked."""
    new_connection: Callable[[], str] = str
    """Makes the id of a session that is not open yet."""
    check_publish: CheckPublish | None = None
    """Raises `RateLimitedError` where a publisher may not publish so many more; None without a
    limit."""
    check_body: CheckBody | None = None
    """Raises `RateLimitedError` where a publisher may not send so many bytes more; as above."""
    proxies: TrustedProxies = field(default_factory=TrustedProxies)
    """Proxies that name the address of a client."""
    traced: bool = False
    """Whether a publisher's `traceparent` is read."""
    fallback: ASGIApp | None = None
    """Answers paths that the hub does not have; `/` is then its own too."""
