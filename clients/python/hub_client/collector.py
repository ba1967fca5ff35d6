"""A queue of publications that wait to travel together. Decisions only: no I/O, no clock, no
lock."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from hub_client.publishing import Outcome, Outgoing


@dataclass(frozen=True, slots=True)
class Batching:
    """The size of one request, and how long a publication waits for others to join it.

    The hub takes 1,000 items and 4 MiB in one request unless set otherwise.
    """

    max_items: int = 250
    max_bytes: int = 1024 * 1024
    max_wait_seconds: float = 0.0
    """With 0 a publication does not wait: those that come at once, or while all connections are
    busy, travel together. A few milliseconds make requests larger under load."""
    max_waiting_items: int = 10_000
    """The bound of memory: a call beyond it waits for its turn, as long as the hub takes any."""


class PendingPublication:
    """One publication and the caller that waits for its outcome."""

    __slots__ = ("_on_outcome", "item", "outcome", "taken")

    def __init__(
        self, item: Outgoing, *, on_outcome: Callable[[Outcome], None] | None = None
    ) -> None:
        self.item = item
        self.outcome: Outcome | None = None
        self.taken = False
        """Whether a request holds the publication: from then on it may happen."""
        self._on_outcome = on_outcome

    def settle(self, outcome: Outcome) -> None:
        """Hand over the outcome."""
        self.outcome = outcome
        if self._on_outcome is not None:
            self._on_outcome(outcome)


class Collector:
    """A queue that returns the publications of one request at a time."""

    def __init__(self, batching: Batching) -> None:
        self._batching = batching
        self._waiting: deque[PendingPublication] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether there is enough for a whole request."""
        limits = self._batching
        return len(self._waiting) >= limits.max_items or self._bytes >= limits.max_bytes

    def add(self, ticket: PendingPublication) -> None:
        """Queue `ticket`."""
        self._waiting.append(ticket)
        self._bytes += ticket.item.size_bytes

    def take(self) -> list[PendingPublication]:
        """Take the publications of one request in their order; at least one where any waits."""
        taken: list[PendingPublication] = []
        room = self._batching.max_bytes
        while self._waiting and len(taken) < self._batching.max_items:
            room -= self._waiting[0].item.size_bytes
            if taken and room < 0:
                break
            ticket = self._waiting.popleft()
            self._bytes -= ticket.item.size_bytes
            ticket.taken = True
            taken.append(ticket)
        return taken

    def withdraw(self, ticket: PendingPublication) -> bool:
        """Take a publication out again; return False when a request has it already."""
        if ticket.taken or ticket not in self._waiting:
            return False
        self._waiting.remove(ticket)
        self._bytes -= ticket.item.size_bytes
        return True
