"""Let threads that publish at the same time share a request, without a thread of our own.

The first thread that finds a free place sends for all that wait, then tells them (a background
thread would not survive a fork, and nobody would notice). Each sender has a call of its own to
serve, so nothing is sent when no call waits.
"""

import threading
from collections.abc import Callable

from hub_client.collector import Batching, Collector, PendingPublication
from hub_client.errors import NotPublishedError, OutcomeUnknownError
from hub_client.publishing import Outcome, Outgoing

Deliver = Callable[[list[Outgoing], Callable[[tuple[Outcome, ...]], None]], None]
"""A function that publishes items and hands their outcomes to the callback, also when it raises."""


class ThreadBatcher:
    """Collect the publications of many threads and let some of these threads send."""

    def __init__(
        self,
        batching: Batching,
        deliver: Deliver,
        *,
        max_senders: int,
        patience_seconds: float,
    ) -> None:
        """Args:
        batching: the bounds of a batch, and how long a publication waits for others.
        deliver: publishes.
        max_senders: how many threads send at the same time.
        patience_seconds: after which a sender that has taken a publication is given up."""
        self._collector = Collector(batching)
        self._deliver = deliver
        self._max_senders = max_senders
        self._max_waiting_items = batching.max_waiting_items
        self._max_wait_seconds = batching.max_wait_seconds
        self._patience_seconds = patience_seconds
        self._changed = threading.Condition()
        self._senders = 0
        self._gathering = False

    def publish(self, item: Outgoing) -> Outcome:
        """Wait for the outcome of `item`, perhaps by sending it together with others.

        Raises:
            NotPublishedError: Too many publications wait already, and the hub takes none.
            BaseException: An interruption of this thread; an item that was not sent is withdrawn.
        """
        ticket = PendingPublication(item)
        with self._changed:
            self._wait_for_room()
            self._collector.add(ticket)
            if self._gathering:
                # The thread that waits for company may have enough of it now.
                self._changed.notify_all()
        try:
            while batch := self._turn(ticket):
                self._send(batch)
        finally:
            with self._changed:
                self._collector.withdraw(ticket)
        return ticket.outcome or _lost(item)

    def _wait_for_room(self) -> None:
        limit = self._max_waiting_items
        if len(self._collector) < limit:
            return
        if not self._changed.wait_for(lambda: len(self._collector) < limit, self._patience_seconds):
            text = f"{limit:,} publications wait for the hub already, and it takes none"
            raise NotPublishedError("overloaded", text, retryable=True)

    def _turn(self, ticket: PendingPublication) -> list[PendingPublication]:
        """Return the tickets that this thread has to send; none when its own one has an outcome."""
        with self._changed:
            while ticket.outcome is None:
                if ticket.taken:
                    self._changed.wait_for(
                        lambda: ticket.outcome is not None, self._patience_seconds
                    )
                    break
                if self._senders < self._max_senders and not self._gathering:
                    return self._gather()
                self._changed.wait(self._patience_seconds)
            return []

    def _gather(self) -> list[PendingPublication]:
        if self._max_wait_seconds:
            self._gathering = True
            try:
                self._changed.wait_for(lambda: self._collector.full, self._max_wait_seconds)
            finally:
                self._gathering = False
                self._changed.notify_all()
        self._senders += 1
        return self._collector.take()

    def _send(self, batch: list[PendingPublication]) -> None:
        def settle(outcomes: tuple[Outcome, ...]) -> None:
            with self._changed:
                self._senders -= 1
                for ticket, outcome in zip(batch, outcomes, strict=True):
                    ticket.settle(outcome)
                self._changed.notify_all()

        self._deliver([ticket.item for ticket in batch], settle)


def _lost(item: Outgoing) -> OutcomeUnknownError:
    text = "the thread that sent it with others' publications never came back"
    return OutcomeUnknownError("outcome_unknown", text, idempotency_key=item.idempotency_key)
