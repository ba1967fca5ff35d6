"""All attempts to make some publications: the next step, and the end. No I/O, no clock.

`Publisher` and `SyncPublisher` differ only in how they sleep and post; this module decides when.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hub_client.answer import UNTRUSTED
from hub_client.breaker import Breaker
from hub_client.collector import Batching
from hub_client.publishing import Outcome, Outgoing, PublishBatch
from hub_client.timing import Backoff, ReconnectTiming

# The hub's memory of an idempotency key (clients/PROTOCOL.md): an attempt that could arrive
# later than this after the first one might publish again.
KEY_HOLDS_SECONDS = 300.0
_NOTHING_TRIED = "it ended before anything was sent"


@dataclass(frozen=True, slots=True)
class PublishRetry:
    """The time for which one call goes on trying, in seconds. Guesses, not measured: half a minute
    covers the restart of a node with its drain, and is below the hub's 5 minutes for idempotency
    keys."""

    for_seconds: float = 30.0
    """The time without progress; 0 makes one attempt. A call ends at most `request_timeout_seconds`
    later. A publication that may have happened is never repeated after the hub's 5 minutes."""
    base_seconds: float = 0.2
    cap_seconds: float = 5.0
    request_timeout_seconds: float = 10.0
    """The time of one request, from connecting to the last byte of its answer."""


@dataclass(frozen=True, slots=True)
class Retrying:
    """An attempt failed and another will be made; for a log or a status line."""

    attempt: int
    """The number of attempts so far."""
    why: str
    pause_seconds: float
    pending: int
    """The number of publications that wait for the next attempt."""
    hub: str
    """The hub's URL without a user's name and password."""


@dataclass(frozen=True, slots=True)
class Send:
    """Post this, then report the outcome."""

    indices: tuple[int, ...]
    body: bytes
    at: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Sleep for `notice.pause_seconds`, then ask again."""

    notice: Retrying


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that all campaigns of a publisher share."""

    retry: PublishRetry
    batching: Batching
    breaker: Breaker | None
    hub: str
    """The hub's URL as errors may show it."""
    draw: Callable[[float, float], float] = random.uniform


class Campaign:
    """One call's publications, from the first attempt to the last outcome.

    Ask `next_step` until it returns None; after each `Send` call exactly one of `answered`,
    `failed`, `untrusted` and `interrupted`.
    """

    def __init__(self, items: Iterable[Outgoing], rules: Rules, *, now: float) -> None:
        retry, batching = rules.retry, rules.batching
        self._retry = retry
        self._breaker = rules.breaker
        self._hub = rules.hub
        self._batch = PublishBatch(
            tuple(items), max_items=batching.max_items, max_bytes=batching.max_bytes
        )
        timing = ReconnectTiming(retry.base_seconds, retry.cap_seconds)
        self._backoff = Backoff(timing, draw=rules.draw)
        self._deadline = now + retry.for_seconds
        self._attempts = 0
        self._started = now
        self._pause: float | None = None
        self._why = _NOTHING_TRIED

    def next_step(self, now: float) -> Send | Wait | None:
        """Return the next step; None when every publication has its outcome."""
        if self._batch.may_have_happened_already:
            oldest = now + self._retry.request_timeout_seconds - KEY_HOLDS_SECONDS
            self._batch.give_up_sent_before(oldest, self._report(now))
        if not self._batch.pending:
            return None
        if self._pause is not None:
            return self._wait(now)
        closed_for = 0.0 if self._breaker is None else self._breaker.admit(now)
        if closed_for:
            return self._hold(now, closed_for)
        indices = self._batch.next_request()
        self._attempts += 1
        return Send(indices, self._batch.body(indices), now)

    def answered(self, sent: Send, status: int, body: bytes, *, asked: float, now: float) -> bool:
        """Take a response, which asked for `asked` seconds of patience (Retry-After).

        Returns whether every publication of the request has its outcome, or the request is only
        split in halves.
        """
        pending = self._batch.pending
        why = self._batch.answered(sent.indices, status, body, at=sent.at)
        self._tell_breaker(status, why, now)
        if self._batch.pending < pending:
            # Progress: the hub works, and a long list may take longer than one publication.
            self._deadline = now + self._retry.for_seconds
            self._backoff = self._backoff.anew()
        if why:
            self._retry_after(why, asked)
        return not why

    @property
    def hub(self) -> str:
        return self._hub

    def failed(self, sent: Send, why: str, *, reached: bool, ours: bool, now: float) -> None:
        """No response came.

        Args:
            sent: the attempt.
            why: for the error's message.
            reached: whether the hub may have read the request.
            ours: whether it is no fault of the hub (no connection was free).
            now: on the clock of `next_step`.
        """
        if reached:
            self._batch.may_have_happened(sent.indices, at=sent.at)
        if self._breaker is not None:
            self._breaker.abandoned() if ours else self._breaker.failed(now, why)
        self._retry_after(why, 0.0)

    def untrusted(self, _: Send, why: str) -> None:
        """Fail all: the hub's certificate is not trusted, so nothing was sent and nothing will
        be."""
        if self._breaker is not None:
            self._breaker.abandoned()
        self._batch.give_up(why, code=UNTRUSTED, retryable=False)

    def interrupted(self, sent: Send) -> None:
        """Note that the attempt was cancelled: the hub may have read the request."""
        self._batch.may_have_happened(sent.indices, at=sent.at)
        self._why = "it was interrupted"
        if self._breaker is not None:
            self._breaker.abandoned()

    def outcomes(self) -> tuple[Outcome, ...]:
        """Return one outcome per publication; pending ones have failed for good."""
        self._batch.give_up(self._why)
        return self._batch.outcomes()

    def _retry_after(self, why: str, asked: float) -> None:
        self._why = why
        # On top of the time that the hub asks for: many publishers get the same one.
        self._pause = asked + self._backoff.next_pause()

    def _wait(self, now: float) -> Wait | None:
        pause, self._pause = self._pause or 0.0, None
        if now + pause >= self._deadline:
            self._batch.give_up(self._report(now))
            return None
        return Wait(Retrying(self._attempts, self._why, pause, self._batch.pending, self._hub))

    def _hold(self, now: float, closed_for: float) -> Wait | None:
        """Hold on while the breaker is open: a new call fails at once, an older one waits."""
        breaker = self._breaker
        if breaker is not None and not self._attempts:
            why = f"{self._hub} has failed for a while, asked again later; last: {breaker.why}"
            self._batch.give_up(why, code="circuit_open")
            return None
        self._pause = closed_for + self._backoff.next_pause()
        return self._wait(now)

    def _tell_breaker(self, status: int, why: str, now: float) -> None:
        if self._breaker is None:
            return
        if status >= 500:
            self._breaker.failed(now, why)
        else:
            self._breaker.succeeded()

    def _report(self, now: float) -> str:
        attempts = f"{self._attempts} attempt{'' if self._attempts == 1 else 's'}"
        return f"{self._why} ({attempts} in {now - self._started:.1f} s at {self._hub})"
