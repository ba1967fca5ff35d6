"""Publications taken in: bounded by what waits to be written, numbered by the broker, counted.

For sessions, the HTTP API and the application in this process alike. Whether a publisher may is
asked before.
"""

from collections.abc import Coroutine, Sequence
from typing import Any, NoReturn

from hub.core.counters import Counters
from hub.core.fanout.fanout import Fanout
from hub.core.ports import (
    Broker,
    OnPublished,
    PublishNow,
    PublishRequest,
    PublishResult,
    PublishSoon,
)
from hub.errors import HubError, UnavailableError


class Publishing:
    """One per node."""

    def __init__(
        self, broker: Broker, fanout: Fanout, counters: Counters, *, max_backlog_bytes: int
    ) -> None:
        self._broker = broker
        self._fanout = fanout
        self._counters = counters
        self._max_backlog_bytes = max_backlog_bytes
        self.publishes_now = broker.answers_at_once and broker.publish_now is not None
        """Whether publications are done in a plain call."""

    def publish(
        self, request: PublishRequest
    ) -> PublishResult | Coroutine[Any, Any, PublishResult]:
        """Publish for a session, the HTTP API or the application in this process.

        It is done when this returns where the broker publishes in a plain call, else when what
        is returned has ended. Calls made one after another are carried out in that order.

        Raises `UnavailableError` while the node has more to write than it may queue, and what
        the broker raises.
        """
        return self._publish_now(request) if self.publishes_now else self._publish_later(request)

    @property
    def publish_now(self) -> PublishNow | None:
        """`publish` where it is always done when it returns; None elsewhere."""
        return self._publish_now if self.publishes_now else None

    def _publish_now(self, request: PublishRequest) -> PublishResult:
        publish_now = self._broker.publish_now
        assert publish_now is not None  # noqa: S101 - `publishes_now` says so
        counters = self._counters
        try:
            if self._fanout.backlog_bytes > self._max_backlog_bytes:
                self._refuse_more()
            result = publish_now(request)
        except HubError as error:
            counters.publish_errors[error.code] += 1
            raise
        if result.duplicate:
            counters.duplicates += 1
        else:
            counters.publications += 1
        return result

    @property
    def publish_soon(self) -> PublishSoon | None:
        """`publish` with a call back; None where the broker has none."""
        return None if self._broker.publish_soon is None else self._publish_soon

    def _publish_soon(self, request: PublishRequest, on_done: OnPublished) -> None:
        publish_soon = self._broker.publish_soon
        assert publish_soon is not None  # noqa: S101 - as above

        def done(outcome: PublishResult | HubError) -> None:
            self._count(outcome)
            on_done(outcome)

        try:
            if self._fanout.backlog_bytes > self._max_backlog_bytes:
                self._refuse_more()
            publish_soon(request, done)
        except HubError as error:
            self._counters.publish_errors[error.code] += 1
            raise

    def publish_many_now(
        self, requests: Sequence[PublishRequest]
    ) -> Sequence[PublishResult | HubError] | None:
        """As `publish` for each in their order, with what it returns or raises.

        None, and nothing is done, where they have to be published one by one: the broker has no
        call for many, or what waits to be written may reach its bound between two of them.
        """
        many = self._broker.publish_many_now if self.publishes_now else None
        size = sum([len(request.data) for request in requests])
        if many is None or self._fanout.backlog_bytes + size > self._max_backlog_bytes:
            return None
        outcomes = many(requests)
        made = duplicates = 0
        for outcome in outcomes:
            if isinstance(outcome, HubError):
                self._counters.publish_errors[outcome.code] += 1
            elif outcome.duplicate:
                duplicates += 1
            else:
                made += 1
        self._counters.publications += made
        self._counters.duplicates += duplicates
        return outcomes

    async def _publish_later(self, request: PublishRequest) -> PublishResult:
        try:
            if self._fanout.backlog_bytes > self._max_backlog_bytes:
                self._refuse_more()
            result = await self._broker.publish(request)
        except HubError as error:
            self._counters.publish_errors[error.code] += 1
            raise
        self._count(result)
        return result

    @property
    def publishes_many(self) -> bool:
        """Whether `publish_many` may be used: the broker takes several as cheaply as one."""
        return self._broker.publish_many is not None

    async def publish_many(
        self, requests: Sequence[PublishRequest]
    ) -> Sequence[PublishResult | HubError]:
        """Publish in this order; each has its result, or why there is none."""
        publish_many = self._broker.publish_many
        assert publish_many is not None  # noqa: S101 - the caller has asked
        outcomes: Sequence[PublishResult | HubError]
        try:
            if self._fanout.backlog_bytes > self._max_backlog_bytes:
                self._refuse_more()
            outcomes = await publish_many(requests)
        except HubError as error:
            outcomes = [error] * len(requests)
        for outcome in outcomes:
            self._count(outcome)
        return outcomes

    def _refuse_more(self) -> NoReturn:
        raise UnavailableError(
            f"{self._fanout.backlog_bytes:,} bytes wait to be written, "
            f"limit is {self._max_backlog_bytes:,}: publish more slowly"
        )

    def _count(self, outcome: PublishResult | HubError) -> None:
        if isinstance(outcome, HubError):
            self._counters.publish_errors[outcome.code] += 1
        elif outcome.duplicate:
            self._counters.duplicates += 1
        else:
            self._counters.publications += 1
