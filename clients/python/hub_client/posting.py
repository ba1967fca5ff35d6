"""The options of both publishers, and their log lines."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hub_client.answer import HttpResponse, PostFailedError, PostTarget
from hub_client.async_post import AsyncPost
from hub_client.blocking_post import BlockingPost
from hub_client.breaker import Breaker, BreakerPolicy
from hub_client.campaign import Campaign, PublishRetry, Retrying, Rules, Send
from hub_client.collector import Batching
from hub_client.proxied_post import HttpxSettings, ProxiedAsyncPost, ProxiedBlockingPost
from hub_client.route import OutboundRoute
from hub_client.timing import asked_seconds
from hub_client.tokens import check_secret
from hub_client.transport import check_base_url, public_url

_LOG = logging.getLogger("hub_client")
# The share of a request's time that connecting may take: a hub that cannot be reached at all is
# then known to have got nothing.
_CONNECT_SHARE = 0.5

_PATH = "/api/publish"

OnRetry = Callable[[Retrying], None]


@dataclass(frozen=True, slots=True)
class PublisherOptions:
    """Settings of a publisher beyond its address and key."""

    retry: PublishRetry = field(default_factory=PublishRetry)
    batching: Batching = field(default_factory=Batching)
    breaker: BreakerPolicy | None = field(default_factory=BreakerPolicy)
    """With None every call tries for as long as `retry` says, however long the hub is away."""
    max_connections: int = 10
    """The number of connections that are kept open and used at the same time."""
    on_retry: OnRetry | None = None
    """The publisher calls it with the reason of a failed attempt and the time of the next, for a
    log of your own. With None the publisher logs an outage once, as a warning of the logger
    `hub_client`."""

    def rules(self, url: str) -> Rules:
        """Return the rules of all campaigns of one publisher, with a breaker of its own."""
        breaker = None if self.breaker is None else Breaker(self.breaker)
        hub = public_url(url).removesuffix(_PATH)
        return Rules(self.retry, self.batching, breaker, hub)

    @property
    def patience_seconds(self) -> float:
        """The longest time of one call without progress."""
        return self.retry.for_seconds + 2 * self.retry.request_timeout_seconds

    def blocking_post(
        self, url: str, headers: dict[str, str], route: OutboundRoute
    ) -> "PostsBlocking":
        if route.proxy is not None:
            return ProxiedBlockingPost(url, headers, self._way(route))
        return BlockingPost(
            PostTarget.of(url, headers),
            tls=route.tls,
            max_connections=self.max_connections,
            connect_seconds=self._connect_seconds,
        )

    def async_post(self, url: str, headers: dict[str, str], route: OutboundRoute) -> "PostsAsync":
        if route.proxy is not None:
            return ProxiedAsyncPost(url, headers, self._way(route))
        return AsyncPost(
            PostTarget.of(url, headers),
            tls=route.tls,
            max_connections=self.max_connections,
            connect_seconds=self._connect_seconds,
        )

    @property
    def _connect_seconds(self) -> float:
        return self.retry.request_timeout_seconds * _CONNECT_SHARE

    def _way(self, route: OutboundRoute) -> HttpxSettings:
        return HttpxSettings(
            route,
            max_connections=self.max_connections,
            seconds=self.retry.request_timeout_seconds,
            connect_seconds=self._connect_seconds,
        )


PostsBlocking = BlockingPost | ProxiedBlockingPost
PostsAsync = AsyncPost | ProxiedAsyncPost


class Attempts:
    """The steps around an attempt that both publishers share: they tell its campaign, and the
    log."""

    def __init__(self, options: PublisherOptions) -> None:
        self._on_retry = options.on_retry
        self._away = False

    def answered(self, campaign: Campaign, sent: Send, answer: HttpResponse) -> None:
        """Take an answer of the hub, or of something on the way."""
        asked = 0.0
        if answer.retry_after:
            asked = asked_seconds(answer.retry_after, unix_now=time.time())
        now = time.monotonic()
        if campaign.answered(sent, answer.status, answer.body, asked=asked, now=now):
            self._is_back(campaign.hub)

    def failed(self, campaign: Campaign, sent: Send, error: PostFailedError) -> None:
        """Take the failure of an attempt without an answer."""
        if error.untrusted:
            campaign.untrusted(sent, str(error))
            return
        now = time.monotonic()
        campaign.failed(sent, str(error), reached=error.reached, ours=error.ours, now=now)

    def retrying(self, notice: Retrying) -> None:
        """Tell of another attempt."""
        if self._on_retry is not None:
            self._on_retry(notice)
        elif not self._away:
            self._away = True
            text = "cannot publish at %s (%s); trying again for a while"
            _LOG.warning(text, notice.hub, notice.why)

    def _is_back(self, hub: str) -> None:
        if self._away:
            self._away = False
            _LOG.info("publishing at %s again", hub)


def publish_url(base_url: str) -> str:
    """Return the endpoint's URL; raise `ValueError` when `base_url` is no URL of a hub."""
    return check_base_url(base_url) + _PATH


def publish_headers(key: str | None) -> dict[str, str]:
    """Return the headers of every request; raise `ValueError` for a key that no header may hold."""
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {check_secret(key, 'key')}"
    return headers
