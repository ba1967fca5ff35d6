"""`Publisher` publishes over HTTP from asyncio, with retries that never publish twice."""

import asyncio
import functools
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self, Unpack, overload

from hub_client.campaign import Campaign
from hub_client.collector import Collector, PendingPublication
from hub_client.delivery import Delivery, PublishSender
from hub_client.errors import NotPublishedError, PublishError
from hub_client.messages import ManyChannels, Published
from hub_client.posting import Attempts, PublisherOptions, publish_headers, publish_url
from hub_client.publishing import Outcome, Outgoing, PublishOptions
from hub_client.route import find_route
from hub_client.window import Window


class Publisher:
    """Publish by `POST /api/publish`; used with `async with`, shared by all tasks of a loop.

    Every publication carries an idempotency key, so a retry after a time-out is harmless.
    Publications that several tasks make at the same time travel together. Threads and code without
    a loop use `SyncPublisher`.
    """

    def __init__(
        self, url: str, *, key: str | None = None, options: PublisherOptions | None = None
    ) -> None:
        """Keep connections to the hub at `url`.

        Args:
            url: The hub's URL, `http` or `https`, with its base path if it has one.
            key: A publisher key, or a token whose grants cover the channels.
            options: Retries, batching, the circuit breaker and the number of connections.

        Raises:
            ValueError: `url` is no URL of a hub, or the environment names a proxy or certificates
                that cannot be used.
        """
        self._options = options or PublisherOptions()
        self._rules = self._options.rules(url)
        self._post = self._options.async_post(
            publish_url(url), publish_headers(key), find_route(url)
        )
        self._window = Window(
            self._options.batching.max_waiting_items,
            patience_seconds=self._options.patience_seconds,
        )
        self._carrier = PublishSender(
            self._post,
            Attempts(self._options),
            request_timeout_seconds=self._options.retry.request_timeout_seconds,
            on_progress=self._window.progressed,
        )
        self._collector = Collector(self._options.batching)
        self._sending: set[Delivery] = set()
        self._ended = asyncio.Event()
        """The event is set when one of `_sending` has ended."""
        self._due: asyncio.Handle | None = None
        self._calls = 0
        """The number of `publish` calls without an outcome."""
        self._closed = False
        self._abandoned = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let publications of other tasks end by themselves, unless an error ends the block."""
        if kind is not None:
            self._abandon()
        await self.close()

    async def close(self) -> None:
        """Refuse new publications, wait for those under way (as long as their retries take), and
        disconnect.

        A cancelled `close` gives them up. It is harmless when called twice.
        """
        self._closed = True
        try:
            while self._sending or self._calls:
                self._send()
                # Those that wait for a turn come in the next turn of the loop.
                await (self._one_ended() if self._sending else asyncio.sleep(0))
        finally:
            self._abandon()
            while self._sending:
                await self._one_ended()
            await self._post.close()

    @overload
    async def publish(
        self, channel: str, data: object, **options: Unpack[PublishOptions]
    ) -> Published: ...

    @overload
    async def publish(
        self, channel: ManyChannels, data: object, **options: Unpack[PublishOptions]
    ) -> tuple[Outcome, ...]: ...

    async def publish(
        self, channel: str | ManyChannels, data: object, **options: Unpack[PublishOptions]
    ) -> Published | tuple[Outcome, ...]:
        """Publish `data`, anything JSON can hold (a `msgspec.Raw` is sent byte for byte).

        In a list of channels it is published in each of them, with one payload and one request for
        100 of them. What became of it in each is told as `publish_many` tells it, in their order.

        Cancelled before it was sent it does not happen; cancelled later it goes on in the
        background, because others may travel with it.

        Args:
            channel: one channel, or a list of them.
            data: the payload.
            key: the row of a keyed channel; newer ones with the same key may replace it for slow
                readers.
            idempotency_key: of your own, for a publication that you may repeat by yourself.
            tags: what filters look at, at most 16.
            remove: it takes the row of its key away.
            end: it is the last one of its channel.
            ttl_seconds: history holds it no longer; None: as long as its channel's does.
            history: whether history holds it at all.

        Raises:
            PublishRefusedError: the hub refuses it; it did not happen.
            NotPublishedError: every attempt failed; it surely did not happen.
            OutcomeUnknownError: every attempt failed; it may have happened. Publishing
                again with the error's `idempotency_key` within 5 minutes is harmless.
            TypeError, ValueError: `data` is nothing that JSON can hold; a channel is named twice.
        """
        if not isinstance(channel, str):
            return await self.publish_many(Outgoing.to_each(channel, data, **options))
        item = Outgoing.of(channel, data, **options)
        self._check_open()
        self._calls += 1
        try:
            if not self._window.try_enter():
                await self._turn()
            try:
                outcome = await self._outcome(item)
            finally:
                self._window.leave()
        finally:
            self._calls -= 1
        if isinstance(outcome, PublishError):
            raise outcome
        return outcome

    async def publish_many(self, items: Iterable[Outgoing]) -> tuple[Outcome, ...]:
        """Publish in this order, in as few requests as the limits of `Batching` allow.

        Returns one outcome for each: `Published`, or the `PublishError` that `publish` would raise.
        The publisher tries failed publications again without those that succeeded, so a publication
        that was retried may come after its successors. Only a publisher that is closed raises.
        """
        self._check_open()
        campaign = Campaign(items, self._rules, now=time.monotonic())
        await self._carrier.carry_out(campaign, self._carrier.next_step(campaign))
        return campaign.outcomes()

    def _check_open(self) -> None:
        if self._closed:
            raise NotPublishedError("closed", "the publisher is closed")

    async def _turn(self) -> None:
        """Wait for a place among the publications that wait for the hub, so that memory is
        bounded."""
        self._wake()
        try:
            await self._window.enter()
        except TimeoutError:
            limit = self._options.batching.max_waiting_items
            text = f"{limit:,} publications wait for the hub already, and it takes none"
            raise NotPublishedError("overloaded", text, retryable=True) from None

    async def _outcome(self, item: Outgoing) -> Outcome:
        known: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if self._abandoned:
            return _closed_before()
        ticket = PendingPublication(item, on_outcome=functools.partial(_settle, known))
        self._collector.add(ticket)
        self._wake()
        try:
            return await known
        finally:
            self._collector.withdraw(ticket)

    def _wake(self) -> None:
        """Send soon, where a publication waits and a connection is free."""
        if not len(self._collector) or len(self._sending) >= self._options.max_connections:
            return
        if self._collector.full or self._window.is_full:
            # Nobody else comes before something has left.
            self._send()
        elif self._due is None:
            # 0 seconds still wait for what other tasks publish in this turn of the loop.
            delay = self._options.batching.max_wait_seconds
            loop = asyncio.get_running_loop()
            self._due = loop.call_later(delay, self._send) if delay else loop.call_soon(self._send)

    def _send(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if tickets := self._collector.take():
            items = [ticket.item for ticket in tickets]
            campaign = Campaign(items, self._rules, now=time.monotonic())
            delivery = Delivery(tickets, campaign, self._carrier, self._sent)
            self._sending.add(delivery)
            delivery.begin()

    def _sent(self, delivery: Delivery) -> None:
        self._sending.discard(delivery)
        self._wake()
        self._ended.set()

    async def _one_ended(self) -> None:
        self._ended.clear()
        await self._ended.wait()

    def _abandon(self) -> None:
        self._abandoned = True
        for delivery in tuple(self._sending):
            delivery.cancel()
        while tickets := self._collector.take():
            for ticket in tickets:
                ticket.settle(_closed_before())


def _closed_before() -> NotPublishedError:
    return NotPublishedError("closed", "the publisher was closed before it")


def _settle(known: "asyncio.Future[Outcome]", outcome: Outcome) -> None:
    if not known.done():
        known.set_result(outcome)
