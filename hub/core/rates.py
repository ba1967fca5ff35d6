"""How much a node does now: its counters as rates and quantiles of latency.

Figures only. What a peer may do in a second is judged in `hub.core.limits`.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from hub.core.counters import LATENCY_BOUNDS, Counters
from hub.core.ports import Monotonic

# Long enough for a steady figure, short enough to be "now". Guess, not measured.
WINDOW_SECONDS = 5.0
# How often the window moves on; five samples of it are kept.
STEP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Sample:
    at_seconds: float
    counts: tuple[int, int, int, int]
    latencies: tuple[int, ...]


class Rates:
    """Of the last window; 0 before a whole one has passed. Call `tick` at least once a second."""

    def __init__(self, counters: Counters, clock: Monotonic) -> None:
        self._counters = counters
        self._clock = clock
        self._samples = deque([self._sample()])
        self.publications_per_second = 0.0
        self.deliveries_per_second = 0.0
        self.dropped_per_second = 0.0
        self.gaps_per_second = 0.0
        self.latency_p50_seconds: float | None = None
        """From the broker's delivery to the last write; None where nothing was published."""
        self.latency_p99_seconds: float | None = None

    def _sample(self) -> _Sample:
        counters = self._counters
        dropped, gaps = counters.dropped.total(), counters.gaps.total()
        return _Sample(
            self._clock(),
            (counters.publications, counters.deliveries, dropped, gaps),
            tuple(counters.publish_to_write.buckets),
        )

    def tick(self) -> None:
        samples, now = self._samples, self._clock()
        if now - samples[-1].at_seconds < STEP_SECONDS:
            return
        samples.append(self._sample())
        while len(samples) > 2 and now - samples[1].at_seconds >= WINDOW_SECONDS:
            samples.popleft()
        if now - samples[0].at_seconds >= WINDOW_SECONDS:
            self._show(samples[0], samples[-1])

    def _show(self, first: _Sample, last: _Sample) -> None:
        elapsed = last.at_seconds - first.at_seconds
        pairs = zip(first.counts, last.counts, strict=True)
        rates = [round((after - before) / elapsed, 2) for before, after in pairs]
        self.publications_per_second, self.deliveries_per_second = rates[0], rates[1]
        self.dropped_per_second, self.gaps_per_second = rates[2], rates[3]
        pairs = zip(first.latencies, last.latencies, strict=True)
        buckets = [after - before for before, after in pairs]
        self.latency_p50_seconds = quantile(buckets, 0.5)
        self.latency_p99_seconds = quantile(buckets, 0.99)


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """Below which `share` (0 to 1) of a histogram's observations lie, in seconds.

    Interpolated within its bucket as Prometheus does; what lies beyond the last bound counts as
    that bound. None without observations.
    """
    if not (total := sum(buckets)):
        return None
    rank, below, lower = share * total, 0, 0.0
    for bound, count in zip(LATENCY_BOUNDS, buckets, strict=False):
        if count and below + count >= rank:
            return lower + (bound - lower) * (rank - below) / count
        below, lower = below + count, bound
    return lower
