"""The node's two sides of the broker: publications go to it, and come from it into channels.

`Publishing` takes publications from sessions, the HTTP API and the application in this process. It
refuses them while too much waits to be written, has the broker number them, and counts them. Its
callers check before whether the publisher may publish. `ChannelDownstream` adds the
broker's deliveries to the open batches of channels.
"""

from collections.abc import Coroutine, Sequence
from typing import Any, NoReturn

from hub.core.counters import Counters
from hub.core.fanout.fanout import Fanout
from hub.core.fanout.open_channels import OpenChannels
from hub.core.forensics.journal import Journal
from hub.core.ports import (
    Broker,
    OnPublished,
    PublishNow,
    PublishRequest,
    PublishResult,
    PublishSoon,
)
from hub.core.publication import Position, Publication
from hub.core.pushes import Change, Gap, GapReason, PresenceReset
from hub.errors import HubError, UnavailableError


class Publishing:
    """Publishes for the whole node."""

    def __init__(
        self, broker: Broker, fanout: Fanout, counters: Counters, *, max_backlog_bytes: int
    ) -> None:
        self._broker = broker
        self._fanout = fanout
        self._counters = counters
        self._max_backlog_bytes = max_backlog_bytes
        self.publishes_now = broker.answers_at_once and broker.publish_now is not None
        """Whether the broker publishes in a plain call."""

    def publish(
        self, request: PublishRequest
    ) -> PublishResult | Coroutine[Any, Any, PublishResult]:
        """Publish for a session, the HTTP API or the application in this process.

        Where the broker publishes in a plain call, return the result; else return a coroutine to
        await. Calls are carried out in the order in which they were made.

        Raises `UnavailableError` while the node has more to write than it may queue, and any error
        of the broker.
        """
        return self._publish_now(request) if self.publishes_now else self._publish_later(request)

    @property
    def publish_now(self) -> PublishNow | None:
        """`publish` as a plain call; None where the broker has none."""
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
        """`publish` with a callback; None where the broker has none."""
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
        """Publish several in their order; return the result or the error of each.

        Return None and publish nothing where they have to be published one by one: the broker has
        no call for many, or the backlog may reach its bound between two of them.
        """
        many = self._broker.publish_many_now if self.publishes_now else None
        size = sum([request.size_bytes for request in requests])
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
        """Whether `publish_many` may be called: the broker takes several as cheaply as one."""
        return self._broker.publish_many is not None

    async def publish_many(
        self, requests: Sequence[PublishRequest]
    ) -> Sequence[PublishResult | HubError]:
        """Publish several in their order; return the result or the error of each."""
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


class ChannelDownstream:
    """Adds the broker's deliveries to open batches, in their order: `hub.core.ports.Downstream`.

    A delivery for a channel that is not open here is dropped: the broker may learn of an
    unsubscribe later.
    """

    def __init__(
        self, channels: OpenChannels, fanout: Fanout, *, counters: Counters, journal: Journal
    ) -> None:
        self._channels = channels
        self._fanout = fanout
        self._counters = counters
        self._journal = journal

    def deliver(self, publication: Publication) -> None:
        if (channel := self._channels.find(publication.channel)) is not None:
            self._fanout.add(channel, publication)

    def lost(self, gap: Gap) -> None:
        if (channel := self._channels.find(gap.channel)) is not None:
            self._counters.gaps[gap.reason] += len(channel)
            self._journal.lost(gap)
            if gap.first and channel.options.keyed:
                self._fanout.mend_by_state(channel, gap.last)
            self._fanout.add(channel, gap)

    def reset(self, channel: str, head: Position) -> None:
        if (open_channel := self._channels.find(channel)) is not None:
            self._counters.gaps[GapReason.RESET] += len(open_channel)
            self._fanout.reset(open_channel, head)

    def announce(self, channel: str, change: Change | PresenceReset) -> None:
        if (open_channel := self._channels.find(channel)) is not None:
            self._fanout.announce(open_channel, change)
