"""`Publisher`: publish over HTTP from asyncio, with retries that never publish twice."""

import asyncio
import functools
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import httpx2

from hub_client.campaign import Campaign, Send
from hub_client.collector import Collector, Ticket
from hub_client.errors import NotPublishedError, PublishError
from hub_client.messages import Published
from hub_client.posting import (
    FAILURES,
    MAX_ANSWER_BYTES,
    PublisherOptions,
    publish_headers,
    publish_url,
    tell_answered,
    tell_failed,
)
from hub_client.publishing import Outcome, Outgoing
from hub_client.route import find_route


class Publisher:
    """Publishes by `POST /api/publish`; used with `async with`, shared by all tasks of a loop.

    Every publication carries an idempotency key, so a retry after a time-out is harmless.
    What several tasks publish at once travels together. Threads and code without a loop take
    `SyncPublisher`.
    """

    def __init__(
        self, url: str, *, key: str | None = None, options: PublisherOptions | None = None
    ) -> None:
        """Keep connections to the hub at `url`; raise `ValueError` when it is not one, or the
        environment says something about the way there that cannot be followed.

        Args:
            url: of the hub, `http` or `https`, with its base path if it has one.
            key: a publisher key, or a token whose grants cover the channels.
            options: retries, batching, the circuit breaker and the number of connections.
        """
        self._options = options or PublisherOptions()
        self._rules = self._options.rules(url)
        self._url = publish_url(url)
        route = find_route(url)
        self._http = httpx2.AsyncClient(
            headers=publish_headers(key),
            proxy=route.httpx_proxy,
            verify=route.verify,
            trust_env=False,
            limits=self._options.limits(),
            timeout=self._options.timeout(),
        )
        self._collector = Collector(self._options.batching)
        self._sending: set[asyncio.Task[None]] = set()
        self._due: asyncio.TimerHandle | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let publications of other tasks end by themselves, unless an error hurries us."""
        if kind is not None:
            self._abandon()
        await self.close()

    async def close(self) -> None:
        """Refuse new publications, wait for those under way (as long as their retries take),
        and disconnect. A cancelled one gives them up. Harmless when called twice."""
        self._closed = True
        try:
            while self._sending or len(self._collector):
                self._send()
                await asyncio.wait(self._sending)
        finally:
            self._abandon()
            if self._sending:
                await asyncio.wait(self._sending)
            await self._http.aclose()

    async def publish(
        self,
        channel: str,
        data: object,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
    ) -> Published:
        """Publish `data`, anything JSON can hold (a `msgspec.Raw` is sent byte for byte).

        Cancelled before it was sent it does not happen; cancelled later it goes on in the
        background, because others may travel with it.

        Raises:
            PublishRefusedError: the hub refuses it; it did not happen.
            NotPublishedError: every attempt failed; it surely did not happen.
            OutcomeUnknownError: every attempt failed; it may have happened. Publishing
                again with the error's `idempotency_key` within 5 minutes is harmless.
            TypeError, ValueError: `data` is nothing that JSON can hold.
        """
        item = Outgoing.of(channel, data, key=key, idempotency_key=idempotency_key)
        self._check_open()
        outcome = await self._outcome(item)
        if isinstance(outcome, PublishError):
            raise outcome
        return outcome

    async def publish_many(self, items: Iterable[Outgoing]) -> tuple[Outcome, ...]:
        """Publish in this order, in as few requests as the limits of `Batching` allow.

        Returns one outcome for each: `Published`, or the `PublishError` that `publish` would
        raise. What fails is tried again without what succeeded, so a retried one may come
        after its successors. Only a publisher that is closed raises.
        """
        self._check_open()
        campaign = Campaign(items, self._rules, now=time.monotonic())
        await self._carry_out(campaign)
        return campaign.outcomes()

    def _check_open(self) -> None:
        if self._closed:
            raise NotPublishedError("closed", "the publisher is closed")

    async def _outcome(self, item: Outgoing) -> Outcome:
        known: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        ticket = Ticket(item, on_outcome=functools.partial(_settle, known))
        self._collector.add(ticket)
        self._wake()
        try:
            return await known
        finally:
            self._collector.withdraw(ticket)

    def _wake(self) -> None:
        """Send soon, if there is something to send and a connection to spare."""
        if not len(self._collector) or len(self._sending) >= self._options.max_connections:
            return
        if self._collector.full:
            self._send()
        elif self._due is None:
            # 0 seconds still wait for what other tasks publish in this turn of the loop.
            delay = self._options.batching.max_wait_seconds
            self._due = asyncio.get_running_loop().call_later(delay, self._send)

    def _send(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if tickets := self._collector.take():
            items = [ticket.item for ticket in tickets]
            campaign = Campaign(items, self._rules, now=time.monotonic())
            job = asyncio.create_task(self._carry_out(campaign))
            self._sending.add(job)
            # Not at the end of the task: one that is cancelled at once never begins.
            job.add_done_callback(functools.partial(self._sent, tickets, campaign))

    def _sent(self, tickets: list[Ticket], campaign: Campaign, job: asyncio.Task[None]) -> None:
        self._sending.discard(job)
        for ticket, outcome in zip(tickets, campaign.outcomes(), strict=True):
            ticket.settle(outcome)
        self._wake()

    async def _carry_out(self, campaign: Campaign) -> None:
        while not self._http.is_closed and (step := campaign.next_step(time.monotonic())):
            if isinstance(step, Send):
                await self._attempt(campaign, step)
            else:
                self._options.on_retry(step.notice)
                await asyncio.sleep(step.notice.pause_seconds)

    async def _attempt(self, campaign: Campaign, sent: Send) -> None:
        try:
            async with asyncio.timeout(self._options.retry.request_timeout_seconds):
                response, body = await self._post(sent.body)
        except FAILURES as error:
            tell_failed(campaign, sent, error, now=time.monotonic())
        except BaseException as error:
            campaign.interrupted(sent)
            # httpx2 says RuntimeError where `close` took the connections away.
            if not (self._http.is_closed and isinstance(error, RuntimeError)):
                raise
        else:
            tell_answered(campaign, sent, response, body, now=time.monotonic())

    async def _post(self, body: bytes) -> tuple[httpx2.Response, bytes]:
        async with self._http.stream("POST", self._url, content=body) as response:
            answer = b""
            async for chunk in response.aiter_bytes():
                answer += chunk
                if len(answer) > MAX_ANSWER_BYTES:
                    break
            return response, answer

    def _abandon(self) -> None:
        for job in self._sending:
            job.cancel()
        while tickets := self._collector.take():
            for ticket in tickets:
                ticket.settle(NotPublishedError("closed", "the publisher was closed before it"))


def _settle(known: "asyncio.Future[Outcome]", outcome: Outcome) -> None:
    if not known.done():
        known.set_result(outcome)
