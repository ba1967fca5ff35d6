"""`Publisher`: publish over HTTP from a backend, with retries that never publish twice."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import httpx

from hub_client.errors import PublishError
from hub_client.frames import encode
from hub_client.messages import Published
from hub_client.publishing import Batch, Outcome, Outgoing
from hub_client.timing import Backoff, ReconnectTiming
from hub_client.transport import check_base_url

# Errors of a request that cannot have reached the hub.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


@dataclass(frozen=True, slots=True)
class PublishRetry:
    """How long one call goes on trying; in seconds. Guesses, not measured: half a minute is
    the restart of a node with its drain, and below the hub's 5 minutes for idempotency."""

    for_seconds: float = 30.0
    base_seconds: float = 0.2
    cap_seconds: float = 5.0
    request_timeout_seconds: float = 10.0


class Publisher:
    """Publishes by `POST /api/publish`; used with `async with`, shared by all tasks.

    Every publication carries an idempotency key, so a retry after a time-out is harmless.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        retry: PublishRetry | None = None,
        max_connections: int = 10,
    ) -> None:
        """Keep connections to the hub at `url`; raise `ValueError` when it is not one.

        Args:
            url: of the hub, `http` or `https`, with its base path if it has one.
            key: a publisher key, or a token whose grants cover the channels.
            retry: how long a call goes on trying.
            max_connections: kept open and used at the same time.
        """
        self._retry = retry or PublishRetry()
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        self._url = check_base_url(url) + "/api/publish"
        limits = httpx.Limits(max_connections=max_connections)
        timeout = httpx.Timeout(self._retry.request_timeout_seconds)
        self._http = httpx.AsyncClient(headers=headers, limits=limits, timeout=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
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

        Raises:
            NotPublishedError: every attempt failed; it surely did not happen.
            OutcomeUnknownError: every attempt failed; it may have happened. Publishing
                again with the error's `idempotency_key` within 5 minutes is harmless.
            PublishError: the hub refuses it; it did not happen.
        """
        item = Outgoing(channel, encode(data), key)
        if idempotency_key is not None:
            item = Outgoing(channel, item.data, key, idempotency_key)
        (outcome,) = await self.publish_many([item])
        if isinstance(outcome, PublishError):
            raise outcome
        return outcome

    async def publish_many(self, items: Iterable[Outgoing]) -> tuple[Outcome, ...]:
        """Publish in this order, in one request; one outcome for each, nothing is raised.

        What fails is tried again without what succeeded, so a retried one may come after
        its successors. The hub takes 1,000 items and 1 MiB in one request.
        """
        batch = Batch(tuple(items))
        backoff = Backoff(ReconnectTiming(self._retry.base_seconds, self._retry.cap_seconds))
        deadline = time.monotonic() + self._retry.for_seconds
        while pending := batch.pending:
            asked_pause = await self._attempt(batch, pending)
            pause = max(asked_pause, backoff.next_pause())
            if not batch.pending or time.monotonic() + pause >= deadline:
                break
            await asyncio.sleep(pause)
        return batch.outcomes()

    async def _attempt(self, batch: Batch, indices: list[int]) -> float:
        """One request; how many seconds the hub asks to wait before another."""
        try:
            async with asyncio.timeout(self._retry.request_timeout_seconds):
                response = await self._http.post(self._url, content=batch.body(indices))
        except TimeoutError:
            seconds = self._retry.request_timeout_seconds
            batch.failed(indices, f"no answer in {seconds:g} seconds", sent=True)
        except httpx.HTTPError as error:
            sent = not isinstance(error, _NOT_SENT)
            batch.failed(indices, f"{type(error).__name__}: {error}", sent=sent)
        else:
            batch.answered(indices, response.status_code, response.content)
            return self._asked_pause(response)
        return 0.0

    def _asked_pause(self, response: httpx.Response) -> float:
        text = response.headers.get("retry-after", "")
        plain = text.isascii() and text.isdigit()
        return min(float(text), self._retry.cap_seconds) if plain else 0.0
