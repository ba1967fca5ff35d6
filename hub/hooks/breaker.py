"""A circuit breaker: an application that is down is not waited for by every peer.

After `FAILURES` failures in a row no peer asks for a second. Then one peer may try; its outcome
decides whether all may ask again, or none for two seconds, four, up to `LAST_SECONDS`.
"""

from collections.abc import Callable

# A slow moment of an application is no outage. Guess.
FAILURES = 5
FIRST_SECONDS = 1.0
LAST_SECONDS = 30.0


class Breaker:
    """Owned by one event loop; `clock` is monotonic, in seconds."""

    __slots__ = ("_clock", "_failures", "_opens_for_seconds", "_trying", "_until_seconds")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._opens_for_seconds = FIRST_SECONDS
        self._until_seconds = 0.0
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether failures keep it from asking."""
        return self._failures >= FAILURES

    def may_ask(self) -> bool:
        """Return whether to ask now; a caller that may ask reports the outcome by one of the other
        methods."""
        if not self.is_open:
            return True
        if self._trying or self._clock() < self._until_seconds:
            return False
        self._trying = True
        return True

    def answered(self) -> None:
        self._failures = 0
        self._trying = False
        self._opens_for_seconds = FIRST_SECONDS

    def failed(self) -> bool:
        """Count a failure; return whether it has just opened."""
        was_open, was_trying = self.is_open, self._trying
        self._failures += 1
        self._trying = False
        if not self.is_open or (was_open and not was_trying):
            # Those who were asked before it opened say nothing new.
            return False
        self._until_seconds = self._clock() + self._opens_for_seconds
        self._opens_for_seconds = min(self._opens_for_seconds * 2, LAST_SECONDS)
        return not was_open

    def given_up(self) -> None:
        """Note that the caller does not wait for the answer any more, or could not ask."""
        self._trying = False
