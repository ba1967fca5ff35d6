"""`SyncPublisher` publishes over HTTP from threads: Django, Flask, Celery, scripts."""

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Self, Unpack, overload

from hub_client.answer import PostFailedError
from hub_client.campaign import Campaign, Send
from hub_client.errors import NotPublishedError, PublishError
from hub_client.grouping import ThreadBatcher
from hub_client.messages import ManyChannels, Published
from hub_client.posting import (
    Attempts,
    PostsBlocking,
    PublisherOptions,
    publish_headers,
    publish_url,
)
from hub_client.publishing import Outcome, Outgoing, PublishOptions
from hub_client.route import find_route


class SyncPublisher:
    """Publish by `POST /api/publish`, from any thread, also after a fork.

    Make one per process when it starts, or one at import time: it connects when first used, and a
    forked worker gets connections of its own. Every publication carries an idempotency key, so a
    retry after a time-out is harmless. A call blocks its thread for at most about
    `retry.for_seconds` + `retry.request_timeout_seconds`.
    """

    def __init__(
        self, url: str, *, key: str | None = None, options: PublisherOptions | None = None
    ) -> None:
        """Remember the hub's address.

        Args:
            url: The hub's URL, `http` or `https`, with its base path if it has one.
            key: A publisher key, or a token whose grants cover the channels.
            options: Retries, batching, the circuit breaker and the number of connections.

        Raises:
            ValueError: `url` is no URL of a hub, or the environment names a proxy or certificates
                that cannot be used.
        """
        self._url = publish_url(url)
        self._route = find_route(url)
        self._headers = publish_headers(key)
        self._options = options or PublisherOptions()
        self._process = self._new_process()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Refuse new publications and disconnect; those under way in other threads end as
        `OutcomeUnknownError`. It is harmless when called twice."""
        self._closed = True
        self._here().close()

    @overload
    def publish(
        self, channel: str, data: object, **options: Unpack[PublishOptions]
    ) -> Published: ...

    @overload
    def publish(
        self, channel: ManyChannels, data: object, **options: Unpack[PublishOptions]
    ) -> tuple[Outcome, ...]: ...

    def publish(
        self, channel: str | ManyChannels, data: object, **options: Unpack[PublishOptions]
    ) -> Published | tuple[Outcome, ...]:
        """Publish `data`, anything JSON can hold (a `msgspec.Raw` is sent byte for byte).

        In a list of channels it is published in each of them, with one payload and one request for
        100 of them. What became of it in each is told as `publish_many` tells it, in their order.

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
            return self.publish_many(Outgoing.to_each(channel, data, **options))
        item = Outgoing.of(channel, data, **options)
        outcome = self._open().group.publish(item)
        if isinstance(outcome, PublishError):
            raise outcome
        return outcome

    def publish_many(self, items: Iterable[Outgoing]) -> tuple[Outcome, ...]:
        """Publish in this order, in as few requests as the limits of `Batching` allow.

        Returns one outcome for each: `Published`, or the `PublishError` that `publish` would raise.
        The publisher tries failed publications again without those that succeeded, so a publication
        that was retried may come after its successors. Only a publisher that is closed raises.
        """
        return self._open().publish_many(items)

    def _open(self) -> "_Process":
        if self._closed:
            raise NotPublishedError("closed", "the publisher is closed")
        return self._here()

    def _here(self) -> "_Process":
        """Return the state of this process.

        A forked child does not use its parent's sockets and locks: two processes on one connection
        would read each other's answers, and a lock that another thread held at the fork is never
        released in the child.
        """
        if self._process.pid != os.getpid():
            self._process = self._new_process(inherited=self._process)
        return self._process

    def _new_process(self, *, inherited: "_Process | None" = None) -> "_Process":
        post = self._options.blocking_post(self._url, self._headers, self._route)
        return _Process(post, self._url, self._options, inherited=inherited)


class _Process:
    """The connections, the queue and the breaker of one process."""

    def __init__(
        self,
        post: PostsBlocking,
        url: str,
        options: PublisherOptions,
        *,
        inherited: "_Process | None",
    ) -> None:
        self.pid = os.getpid()
        # Kept from being collected: closing the parent's pool may wait for such a lock.
        self._inherited = inherited
        self._post = post
        self._options = options
        self._rules = options.rules(url)
        self._closed = threading.Event()
        # Nobody has to close a publisher that lives as long as its module.
        weakref.finalize(self, _close_own, post, self.pid)
        self._attempts = Attempts(options)
        self.group = ThreadBatcher(
            options.batching,
            self._deliver,
            max_senders=options.max_connections,
            patience_seconds=options.patience_seconds,
        )

    def close(self) -> None:
        self._closed.set()
        self._post.close()

    def publish_many(self, items: Iterable[Outgoing]) -> tuple[Outcome, ...]:
        campaign = Campaign(items, self._rules, now=time.monotonic())
        self._carry_out(campaign)
        return campaign.outcomes()

    def _deliver(
        self, items: list[Outgoing], settle: Callable[[tuple[Outcome, ...]], None]
    ) -> None:
        campaign = Campaign(items, self._rules, now=time.monotonic())
        try:
            self._carry_out(campaign)
        finally:
            # Also when a signal's exception (Celery's soft time limit) ends this thread's
            # call: other threads wait for what travels with it.
            settle(campaign.outcomes())

    def _carry_out(self, campaign: Campaign) -> None:
        while not self._closed.is_set() and (step := campaign.next_step(time.monotonic())):
            if isinstance(step, Send):
                self._attempt(campaign, step)
            else:
                self._attempts.retrying(step.notice)
                self._closed.wait(step.notice.pause_seconds)

    def _attempt(self, campaign: Campaign, sent: Send) -> None:
        seconds = self._options.retry.request_timeout_seconds
        try:
            answer = self._post.post(sent.body, seconds=seconds)
        except PostFailedError as error:
            self._attempts.failed(campaign, sent, error)
        except BaseException as error:
            campaign.interrupted(sent)
            # httpx2 says RuntimeError where `close` took the connections away.
            if not (self._closed.is_set() and isinstance(error, Exception)):
                raise
        else:
            self._attempts.answered(campaign, sent, answer)


def _close_own(post: PostsBlocking, pid: int) -> None:
    if pid == os.getpid():
        post.close()
