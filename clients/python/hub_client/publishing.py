"""What becomes of a batch over several attempts. Decisions only: no I/O, no clock.

For each publication it keeps the one thing that matters at the end: whether it happened,
surely did not happen, or may have happened.
"""

import uuid
from dataclasses import dataclass, field

import msgspec

from hub_client.errors import NotPublishedError, OutcomeUnknownError, ProtocolError, PublishError
from hub_client.frames import Problem, published, read_problem, split_array
from hub_client.messages import Published

Outcome = Published | PublishError

# Error codes by which the hub vouches that the broker did not take the publication.
_SURELY_NOT = frozenset({"not_published", "unavailable", "rate_limited"})
# RFC 9110 section 15.5.9, RFC 8470 section 5.2, RFC 6585 section 4: try again.
_TRANSIENT_STATUS = frozenset({408, 425, 429})
_OK = range(200, 300)


def _new_key() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One publication to be made."""

    channel: str
    data: bytes
    """JSON, sent byte for byte."""
    key: str | None = None
    """Newer publications with the same key may replace this one for slow readers."""
    idempotency_key: str = field(default_factory=_new_key)
    """The same for every attempt, so that a retry never publishes twice."""


class Batch:
    """Publications that travel together, and what is known of each."""

    def __init__(self, items: tuple[Outgoing, ...]) -> None:
        self._items = items
        self._outcomes: dict[int, Outcome] = {}
        self._may_have_happened: set[int] = set()
        self._last_problem = "nothing was tried"

    @property
    def pending(self) -> list[int]:
        """Which publications still have no outcome, in their order."""
        return [index for index in range(len(self._items)) if index not in self._outcomes]

    def body(self, indices: list[int]) -> bytes:
        """The request for these publications: always an array, so that each is answered."""
        return msgspec.json.encode([_fields(self._items[index]) for index in indices])

    def answered(self, indices: list[int], status: int, body: bytes) -> None:
        """A response came for these publications."""
        answers = split_array(body)
        if answers is None or len(answers) != len(indices):
            problem = read_problem(body)
            for index in indices:
                self._problem(index, status, problem)
            return
        for index, answer in zip(indices, answers, strict=True):
            self._answer(index, answer)

    def failed(self, indices: list[int], why: str, *, sent: bool) -> None:
        """No response came; `sent` says whether the hub may have read the request."""
        self._last_problem = why
        if sent:
            self._may_have_happened.update(indices)

    def outcomes(self) -> tuple[Outcome, ...]:
        """One per publication; what is pending has failed for good."""
        return tuple(
            self._outcomes.get(index) or self._given_up(index) for index in range(len(self._items))
        )

    def _answer(self, index: int, answer: msgspec.Raw) -> None:
        problem = read_problem(bytes(answer))
        if problem.status:
            self._problem(index, problem.status, problem)
            return
        try:
            self._outcomes[index] = published(answer)
        except ProtocolError as error:
            self.failed([index], str(error), sent=True)

    def _problem(self, index: int, status: int, problem: Problem) -> None:
        transient = problem.retryable or status in _TRANSIENT_STATUS or status >= 500
        text = f"HTTP {status}: {problem.detail}" if problem.detail else f"HTTP {status}"
        if transient or status in _OK:
            # An answer of success that is not the hub's says nothing about the publication.
            self.failed([index], text, sent=problem.code not in _SURELY_NOT)
        elif index in self._may_have_happened:
            self._outcomes[index] = self._unknown(index, problem.code, text)
        else:
            self._outcomes[index] = PublishError(problem.code, text)

    def _given_up(self, index: int) -> PublishError:
        if index in self._may_have_happened:
            return self._unknown(index, "outcome_unknown", self._last_problem)
        return NotPublishedError("not_published", self._last_problem, retryable=True)

    def _unknown(self, index: int, code: str, text: str) -> OutcomeUnknownError:
        return OutcomeUnknownError(code, text, idempotency_key=self._items[index].idempotency_key)


def _fields(item: Outgoing) -> dict[str, object]:
    fields: dict[str, object] = {"channel": item.channel, "data": msgspec.Raw(item.data)}
    if item.key is not None:
        fields["key"] = item.key
    return {**fields, "idempotency_key": item.idempotency_key}
