"""The circuit breaker of a publisher: it decides whether an attempt is worth making. No I/O, no
clock.

A hub that is away for long must not hold up every thread of a web server for half a minute each.
Once the hub has failed often enough for long enough, new publications are refused at once, and
single attempts find out when it is back. A restart is shorter than that: the retries of a call
bridge it, and the breaker stays closed.
"""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

# What an attempt waits for whose turn another one has taken, in seconds. Guess: one round
# trip and a bit, bounded by the time-out of a request.
_PROBE_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """The conditions of opening. Guesses, not measured: a restart of a node takes 1 to 3
    seconds."""

    failures: int = 5
    """The breaker opens after so many failed requests in a row (no answer, or a 5xx), ..."""
    over_seconds: float = 5.0
    """... where the first of them is this long ago."""
    open_seconds: float = 5.0
    """The longest time before one attempt may probe the hub; the shortest is half of it."""


class Breaker:
    """Closed: everything passes. Open: nothing passes. Half-open: one attempt decides.

    Threads may share it; it never waits.
    """

    def __init__(
        self, policy: BreakerPolicy, *, draw: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._policy = policy
        self._draw = draw
        self._lock = threading.Lock()
        self._failures = 0
        self._failing_since = 0.0
        self._open_until: float | None = None
        self._probing = False
        self._why = ""

    @property
    def why(self) -> str:
        """The reason of the last failure."""
        return self._why

    def admit(self, now: float) -> float:
        """Return the seconds until another attempt may be made; 0.0 permits one now.

        The caller that gets a permission reports `succeeded`, `failed` or `abandoned` afterwards.
        """
        with self._lock:
            if self._open_until is None:
                return 0.0
            if now < self._open_until:
                return self._open_until - now
            if self._probing:
                return _PROBE_LOOK_SECONDS
            self._probing = True
            return 0.0

    def succeeded(self) -> None:
        """Note an answer of the hub: the breaker closes."""
        with self._lock:
            self._failures = 0
            self._open_until = None
            self._probing = False

    def failed(self, now: float, why: str) -> None:
        """Note that the hub did not answer, or could not work."""
        with self._lock:
            self._why = why
            self._failures += 1
            if self._failures == 1:
                self._failing_since = now
            if self._open_until is not None or self._is_too_much(now):
                self._probing = False
                open_seconds = self._policy.open_seconds
                # Drawn, so that the processes of a fleet do not look in step.
                self._open_until = now + self._draw(open_seconds / 2, open_seconds)

    def abandoned(self) -> None:
        """Note that the attempt ended without a verdict on the hub; another may probe."""
        with self._lock:
            self._probing = False

    def _is_too_much(self, now: float) -> bool:
        policy = self._policy
        lasting = now - self._failing_since >= policy.over_seconds
        return self._failures >= policy.failures and lasting
