"""The timing of reconnects. No clock, no I/O.

Pauses have full jitter (a uniform draw between zero and a growing limit), because thousands of
clients lose a node in the same moment and less jitter would keep them in step. The window of a
goodbye replaces the draw, because the hub knows how many clients leave at the same time.
"""

import email.utils
import random
from collections.abc import Callable
from dataclasses import dataclass

# The longest pause between two looks for a better transport, in first ones: five minutes.
_BETTER_CAP = 30
# A goodbye's window that is longer is no window: a day.
_MAX_WINDOW_MS = 86_400_000
# A connection that lived this long, in seconds, was a good one: the next trouble is a new
# trouble. Guess, not measured; shorter than any heartbeat interval worth setting.
SETTLED_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ReconnectTiming:
    """All times are in seconds. Defaults are guesses: a restart of a local hub takes about one
    second, and a person looks at a stale page for half a minute."""

    base_seconds: float = 0.5
    cap_seconds: float = 30.0
    open_timeout_seconds: float = 10.0
    """The time from the first packet to the answer to a first ping, for each transport."""
    missed_heartbeats: float = 1.5
    """A silence of so many heartbeat intervals ends a connection (the wire contract)."""
    better_seconds: float = 10.0
    """A connection over a lesser transport lives at least so long before the better ones are tried
    again beside it; after each failure it takes longer, up to 31 times as long."""


def better_timing(timing: ReconnectTiming) -> ReconnectTiming:
    """Return the timing of tries for a better transport, on top of `better_seconds`."""
    return ReconnectTiming(timing.better_seconds, timing.better_seconds * _BETTER_CAP)


class Backoff:
    """Draw the pause before the next attempt to connect."""

    def __init__(
        self, timing: ReconnectTiming, *, draw: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._timing = timing
        self._draw = draw
        self._failures = 0

    def anew(self) -> "Backoff":
        """Return a back-off that has seen no failure."""
        return Backoff(self._timing, draw=self._draw)

    def lived(self, seconds: float) -> None:
        """Note that a welcomed connection ended after `seconds`."""
        if seconds >= SETTLED_SECONDS:
            self._failures = 0

    def next_pause(self) -> float:
        """Return the seconds to wait after a failure; each failure in a row doubles the limit."""
        # The exponent is capped so that a week of failures does not overflow a float.
        limit = self._timing.base_seconds * 2 ** min(self._failures, 32)
        self._failures += 1
        return self._draw(0.0, min(self._timing.cap_seconds, limit))

    def within(self, window_ms: int) -> float:
        """Return the seconds until this client leaves, drawn from a goodbye's window. It is no
        failure."""
        return self._draw(0.0, min(max(0, window_ms), _MAX_WINDOW_MS) / 1000)


def asked_seconds(retry_after: str, *, unix_now: float) -> float:
    """Return the seconds of a Retry-After (RFC 9110 section 10.2.3: a number or a date)."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        moment = email.utils.parsedate_to_datetime(retry_after)
        seconds = moment.timestamp() - unix_now
    except (ValueError, OverflowError):  # a day or a year of twenty digits is no date
        return 0.0
    return max(0.0, seconds)
