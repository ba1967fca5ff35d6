"""The histogram: percentiles in bounded memory, close to the truth and never below it."""

import math

from hypothesis import given
from hypothesis import strategies as st

from hub.bench.latencies import Latencies


@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_a_percentile_is_at_most_one_bucket_above_the_true_one(
    values: list[int], share: float
) -> None:
    """A bucket is 3.2 % wide; the answer is its upper edge."""
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    true = sorted(values)[math.ceil(share * len(values)) - 1]

    found = latencies.percentile_ms(share)

    assert found is not None
    assert true <= found * 1e6 + 1e-3
    assert found * 1e6 <= true * (1 + 1 / 32) + 1e-3


@given(st.lists(st.integers(0, 10**9)), st.lists(st.integers(0, 10**9), min_size=1))
def test_merged_histograms_are_the_histogram_of_all(one: list[int], other: list[int]) -> None:
    """Two reader processes add up to one."""
    left, right, both = Latencies(), Latencies(), Latencies()
    for value in one:
        left.add(value)
    for value in other:
        right.add(value)
    for value in one + other:
        both.add(value)

    left.merge(right.counts, right.max_ns)

    assert (left.counts, left.max_ns) == (both.counts, both.max_ns)
    assert left.percentile_ms(1.0) == max(one + other) / 1e6


def test_nothing_counted_has_no_percentile() -> None:
    """No number is better than a made-up one."""
    assert Latencies().percentile_ms(0.5) is None
