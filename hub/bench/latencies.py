"""A histogram of durations in bounded memory, which two processes can add up.

Log-linear: each power of two is cut in 32 equal buckets, so a percentile is at most 3.2 %
too high (the upper edge of its bucket is given, never a value that is too low).
"""

from collections.abc import Mapping

_CUT_BITS = 5


class Latencies:
    """Count durations in nanoseconds."""

    __slots__ = ("counts", "max_ns")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.max_ns = 0

    def add(self, nanoseconds: int) -> None:
        """Count one duration; below 0 (clocks of two cores) is taken as 0."""
        value = max(nanoseconds, 0)
        shift = max(value.bit_length() - _CUT_BITS - 1, 0)
        bucket = (shift << (_CUT_BITS + 1)) + (value >> shift)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.max_ns = max(self.max_ns, value)

    def merge(self, counts: Mapping[int, int], max_ns: int) -> None:
        """Add the counts of another process."""
        for bucket, count in counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.max_ns = max(self.max_ns, max_ns)

    def percentile_ms(self, share: float) -> float | None:
        """Return the duration that `share` (0 to 1) of all do not exceed, in milliseconds."""
        wanted = share * sum(self.counts.values())
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= wanted:
                return min(_upper_edge(bucket), self.max_ns) / 1e6
        return None


def _upper_edge(bucket: int) -> int:
    shift = bucket >> (_CUT_BITS + 1)
    value: int = bucket & ((1 << (_CUT_BITS + 1)) - 1)
    return ((value + 1) << shift) - 1
