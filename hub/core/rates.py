"""How much a node does now: the counters of its tally as rates."""

from hub.core.ports import Monotonic
from hub.core.tally import Tally

# Long enough for a steady figure, short enough to be "now". Guess, not measured.
WINDOW_SECONDS = 5.0


class Rates:
    """Of the last whole window; 0 before there is one. Call `tick` at least once a second."""

    def __init__(self, tally: Tally, clock: Monotonic) -> None:
        self._tally = tally
        self._clock = clock
        self._from_seconds = clock()
        self._from = (tally.publications, tally.deliveries)
        self.publications_per_second = 0.0
        self.deliveries_per_second = 0.0

    def tick(self) -> None:
        now = self._clock()
        if (elapsed := now - self._from_seconds) < WINDOW_SECONDS:
            return
        counted = (self._tally.publications, self._tally.deliveries)
        self.publications_per_second = round((counted[0] - self._from[0]) / elapsed, 2)
        self.deliveries_per_second = round((counted[1] - self._from[1]) / elapsed, 2)
        self._from_seconds, self._from = now, counted
