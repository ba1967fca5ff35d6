"""Read the application's answers, and remember some of them for a while."""

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec

from hub.core.identity import MAX_SUBJECT_LENGTH

_MAX_REASON_CHARACTERS = 200
_MAX_REMEMBERED = 10_000
_MAX_REMEMBERED_BYTES = 16 * 1024 * 1024
# Of an answer's objects beside its bytes. Guess.
_ANSWER_BYTES = 500


class HookAnswer(msgspec.Struct, frozen=True):
    """The application's answer. Further fields are ignored."""

    allow: bool
    sub: str | None = None
    grants: dict[str, Any] | None = None
    expires_in_seconds: float | None = None
    data: msgspec.Raw = msgspec.Raw(b"")
    """The data as it came: with `publish` the data to be published instead, else the data for the
    peer; empty where there is none."""
    reason: str = ""
    size: int = 0
    """The size of its body in bytes."""


def read_answer(body: bytes) -> HookAnswer:
    """Return the answer; raise `ValueError` where the body is none."""
    try:
        answer = msgspec.json.decode(body, type=HookAnswer)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if answer.sub is not None and not 0 < len(answer.sub) <= MAX_SUBJECT_LENGTH:
        raise ValueError(f"sub must be 1 to {MAX_SUBJECT_LENGTH} characters")
    seconds = answer.expires_in_seconds
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise ValueError("expires_in_seconds must be a number above 0")
    # A copy: the body that it is a part of need not stay.
    # Null is what many libraries write of a field that is not set.
    data = msgspec.Raw(b"") if bytes(answer.data) in {b"", b"null"} else answer.data.copy()
    reason = answer.reason[:_MAX_REASON_CHARACTERS]
    return msgspec.structs.replace(answer, data=data, reason=reason, size=len(body))


class Remembered:
    """Answers by their question; bounded in number and bytes, the oldest go first.

    Args:
        seconds: How long an answer is valid; 0 remembers none.
        clock: Monotonic, in seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        # Plain dictionaries look for their oldest entry among all that were before it.
        self._answers: OrderedDict[bytes, tuple[HookAnswer, float, int]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, asked: bytes) -> HookAnswer | None:
        found = self._answers.get(asked)
        if found is None:
            return None
        if self._clock() >= found[1]:
            self._forget(asked)
            return None
        return found[0]

    def take(self, asked: bytes, answer: HookAnswer) -> None:
        """Remember what the application answered."""
        if not self._seconds:
            return
        self._forget(asked)
        seconds = min(self._seconds, answer.expires_in_seconds or self._seconds)
        size = answer.size + len(asked) + _ANSWER_BYTES
        self._answers[asked] = answer, self._clock() + seconds, size
        self.bytes += size
        while len(self._answers) > _MAX_REMEMBERED or self.bytes > _MAX_REMEMBERED_BYTES:
            self._forget(next(iter(self._answers)))

    def _forget(self, asked: bytes) -> None:
        if (found := self._answers.pop(asked, None)) is not None:
            self.bytes -= found[2]
