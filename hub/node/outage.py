"""Since when servers of the broker are away, and what their return cost: said once in the log.

What the broker says at a moment has no memory, and lines about single connections come by the
dozen. An operator asks something else: what is away since when, and is it over. No I/O.
"""

from collections.abc import Callable, Sequence

from structlog.typing import FilteringBoundLogger

from hub.core.counters import Counters
from hub.core.ports import Monotonic

# Guesses, not measured. A connection that is made anew at once is no outage; channels are compared
# within some seconds of a server's return.
HOLD_SECONDS = 1.0
_LOOK_SECONDS = 0.25
SETTLED_SECONDS = 10.0


class Outage:
    """One per node; `tick` is called many times a second.

    Args:
        away: servers that cannot be reached now, each with the reason.
        clock: seconds that only rise.
        wall_clock: seconds since 1970 UTC.
    """

    def __init__(
        self,
        away: Callable[[], Sequence[str]],
        *,
        counters: Counters,
        clock: Monotonic,
        wall_clock: Callable[[], float],
        log: FilteringBoundLogger,
    ) -> None:
        self._away = away
        self._counters = counters
        self._clock = clock
        self._wall_clock = wall_clock
        self._log = log
        self._looked_at = clock()
        self._troubled_at: float | None = None
        """When the first was seen to be away; None while all are there."""
        self._troubled_ms = 0
        self._back_at: float | None = None
        """When all were back; None once it was told what that cost."""
        self._resets_before = 0
        self.servers: tuple[str, ...] = ()
        """Those that have been away for a while, each with the reason."""
        self.since_ms = 0
        """Since when the first of them is away, since 1970 UTC; 0 where none is."""
        self.back_ms = 0
        """When they were back last; 0 where none was ever away."""

    @property
    def reset_channels(self) -> int:
        """How many channels began a new epoch here since they were away last."""
        ever = self.since_ms or self.back_ms
        return self._counters.broker_resets - self._resets_before if ever else 0

    def tick(self) -> None:
        """Look, where it is time to."""
        now = self._clock()
        if now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        if away := tuple(self._away()):
            self._is_away(away, now)
        else:
            self._is_there(now)

    def _is_away(self, away: tuple[str, ...], now: float) -> None:
        if self._troubled_at is None:
            self._troubled_at, self._troubled_ms = now, int(self._wall_clock() * 1000)
        if self.since_ms:
            self.servers = away
        elif now - self._troubled_at >= HOLD_SECONDS:
            self.servers, self.since_ms = away, self._troubled_ms
            self._resets_before, self._back_at = self._counters.broker_resets, None
            self._log.warning("broker_away", servers=list(away), since_ms=self.since_ms)

    def _is_there(self, now: float) -> None:
        if self._troubled_at is not None and self.since_ms:
            self.servers, self.since_ms = (), 0
            self.back_ms, self._back_at = int(self._wall_clock() * 1000), now
            self._log.warning("broker_back", away_seconds=round(now - self._troubled_at, 1))
        self._troubled_at = None
        if self._back_at is not None and now - self._back_at >= SETTLED_SECONDS:
            self._back_at = None
            if self.reset_channels:
                self._log.warning("broker_reset_channels", channels=self.reset_channels)
