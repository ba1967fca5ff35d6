"""Publications that wait to be written, bounded in number and bytes, each with who waits for it."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from hub.core.options import MIB
from hub.core.ports import PublishRequest, PublishResult
from hub.errors import HubError, NotPublishedError

# Beside what is being written: seconds of the fastest intake.
MAX_WAITING_BYTES = 32 * MIB
MAX_WAITING = 100_000

Outcome = PublishResult | HubError
Settled = Callable[[Outcome], None]


class Ticket(Protocol):
    """A publication that waits."""

    request: PublishRequest

    def settle(self, outcome: Outcome) -> None:
        """Tell whoever waits what became of it."""
        ...


class _Alone:
    """One that somebody waits for."""

    __slots__ = ("_on_settled", "request")

    def __init__(self, request: PublishRequest, on_settled: Settled) -> None:
        self.request = request
        self._on_settled = on_settled

    def settle(self, outcome: Outcome) -> None:
        self._on_settled(outcome)


class Call:
    """Several that somebody waits for together."""

    __slots__ = ("_left", "_on_settled", "_outcomes")

    def __init__(self, count: int, on_settled: Callable[[Sequence[Outcome]], None]) -> None:
        self._left = count
        self._on_settled = on_settled
        self._outcomes: list[Outcome | None] = [None] * count

    def settle(self, place: int, outcome: Outcome) -> None:
        self._outcomes[place] = outcome
        self._left -= 1
        if not self._left:
            self._on_settled([each for each in self._outcomes if each is not None])


class _OfCall:
    """One of them."""

    __slots__ = ("_call", "_place", "request")

    def __init__(self, request: PublishRequest, call: Call, place: int) -> None:
        self.request = request
        self._call = call
        self._place = place

    def settle(self, outcome: Outcome) -> None:
        self._call.settle(self._place, outcome)


class Waiting:
    """One per broker; those that came first are written first."""

    def __init__(self) -> None:
        self.bytes = 0
        """Of payload."""
        self._tickets: deque[Ticket] = deque()

    def __len__(self) -> int:
        return len(self._tickets)

    def refusal(self, count: int, size: int) -> NotPublishedError | None:
        """Why so many more of this size may not wait; None where they may, as the first always."""
        if not self._tickets or (
            self.bytes + size <= MAX_WAITING_BYTES and len(self._tickets) + count <= MAX_WAITING
        ):
            return None
        return NotPublishedError(
            f"{len(self._tickets):,} publications with {self.bytes:,} bytes wait to be written, "
            f"limits are {MAX_WAITING:,} and {MAX_WAITING_BYTES:,}"
        )

    def add(self, request: PublishRequest, on_settled: Settled) -> None:
        self._tickets.append(_Alone(request, on_settled))
        self.bytes += len(request.data)

    def add_many(
        self,
        requests: Sequence[PublishRequest],
        size: int,
        on_settled: Callable[[Sequence[Outcome]], None],
    ) -> None:
        call = Call(len(requests), on_settled)
        self._tickets.extend(_OfCall(each, call, place) for place, each in enumerate(requests))
        self.bytes += size

    def first(self) -> Ticket:
        return self._tickets[0]

    def taken(self) -> None:
        """The first waits no longer."""
        self.bytes -= len(self._tickets.popleft().request.data)

    def refuse(self, error: HubError) -> None:
        """None of them will be written."""
        tickets = tuple(self._tickets)
        self._tickets.clear()
        self.bytes = 0
        for ticket in tickets:
            ticket.settle(error)
