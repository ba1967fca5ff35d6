"""What `POST /api/publish` is to httpx2, for both publishers; also how a publisher is set up."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx2

from hub_client.breaker import Breaker, BreakerPolicy
from hub_client.campaign import Campaign, PublishRetry, Retrying, Rules, Send
from hub_client.collector import Batching
from hub_client.route import HTTP_ERRORS, SOCKS_ERRORS
from hub_client.timing import asked_seconds
from hub_client.tokens import check_secret
from hub_client.transport import check_base_url, public_url

# Errors of a request that cannot have reached the hub, and the one that is our own doing.
_NOT_SENT: tuple[type[Exception], ...] = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
    httpx2.ProxyError,
    *SOCKS_ERRORS,
)
FAILURES: tuple[type[Exception], ...] = (TimeoutError, *HTTP_ERRORS)
"""What a request may end with in place of an answer."""
_NOBODY_THERE = (httpx2.ConnectError, httpx2.ConnectTimeout)
_OURS = (httpx2.PoolTimeout,)
# An answer of 1,000 results is some 200 KiB; what is longer is not the hub's.
MAX_ANSWER_BYTES = 4 * 1024 * 1024
# The share of a request's time that connecting may take: who cannot be reached at all is
# then known to have got nothing.
_CONNECT_SHARE = 0.5

_PATH = "/api/publish"

OnRetry = Callable[[Retrying], None]


def _ignore(_: Retrying) -> None:
    """Nobody asked to be told."""


@dataclass(frozen=True, slots=True)
class PublisherOptions:
    """Settings of a publisher beyond its address and key."""

    retry: PublishRetry = field(default_factory=PublishRetry)
    batching: Batching = field(default_factory=Batching)
    breaker: BreakerPolicy | None = field(default_factory=BreakerPolicy)
    """None: every call tries for as long as `retry` says, however long the hub is away."""
    max_connections: int = 10
    """Kept open, and used at the same time."""
    on_retry: OnRetry = _ignore
    """Told why an attempt failed and when the next one comes, for a log."""

    def rules(self, url: str) -> Rules:
        """For all campaigns of one publisher, with a breaker of its own."""
        breaker = None if self.breaker is None else Breaker(self.breaker)
        hub = public_url(url).removesuffix(_PATH)
        return Rules(self.retry, self.batching, breaker, hub)

    def limits(self) -> httpx2.Limits:
        return httpx2.Limits(max_connections=self.max_connections)

    def timeout(self) -> httpx2.Timeout:
        seconds = self.retry.request_timeout_seconds
        return httpx2.Timeout(
            seconds, connect=seconds * _CONNECT_SHARE, pool=seconds * _CONNECT_SHARE
        )


def publish_url(base_url: str) -> str:
    """Raise `ValueError` when `base_url` is not one of a hub."""
    return check_base_url(base_url) + _PATH


def publish_headers(key: str | None) -> dict[str, str]:
    """Of every request; raise `ValueError` for a key that no header may hold."""
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {check_secret(key, 'key')}"
    return headers


def tell_answered(
    campaign: Campaign, sent: Send, response: httpx2.Response, body: bytes, *, now: float
) -> None:
    """The hub, or something on the way, answered."""
    asked = asked_seconds(response.headers.get("retry-after", ""), unix_now=time.time())
    campaign.answered(sent, response.status_code, body, asked=asked, now=now)


def tell_failed(campaign: Campaign, sent: Send, error: Exception, *, now: float) -> None:
    """No answer came: `TimeoutError`, or one of httpx2."""
    reached = not isinstance(error, _NOT_SENT)
    why = f"{type(error).__name__}: {str(error) or 'no answer in time'}"
    if isinstance(error, _NOBODY_THERE):
        why += "; is a hub running there?"
    campaign.failed(sent, why, reached=reached, ours=isinstance(error, _OURS), now=now)
