"""A node's counters: counts, rates between two moments, and latencies as quantiles."""

from collections import Counter

import pytest

from hub.core.counters import (
    STEP_SECONDS,
    WINDOW_SECONDS,
    Counters,
    Counts,
    Histogram,
    Rates,
    quantile,
)
from tests.core.fakes import FakeClock


def test_a_name_that_was_never_counted_is_counted_zero_times_and_takes_no_place() -> None:
    counts = Counts()
    assert counts["a"] == 0
    assert not counts
    counts["a"] += 1
    counts["a"] += 2
    assert counts == Counter(a=3)
    assert counts.total() == 3


def test_no_two_nodes_count_together() -> None:
    one, other = Counters(), Counters()
    one.opened["sse"] += 1
    assert not other.opened


def test_rates_are_those_of_the_last_whole_window() -> None:
    """There is no rate before the first window has passed, and a count from before
    it does not count again."""
    counters, clock = Counters(), FakeClock()
    counters.publications = 1000
    rates = Rates(counters, clock)
    counters.publications += 10
    counters.deliveries += 100
    clock.advance(WINDOW_SECONDS / 2)
    rates.tick()
    assert (rates.publications_per_second, rates.deliveries_per_second) == (0, 0)
    clock.advance(WINDOW_SECONDS / 2)
    rates.tick()
    assert rates.publications_per_second == 10 / WINDOW_SECONDS
    assert rates.deliveries_per_second == 100 / WINDOW_SECONDS
    clock.advance(2 * WINDOW_SECONDS)
    rates.tick()
    assert (rates.publications_per_second, rates.deliveries_per_second) == (0, 0)


def test_the_window_moves_on_every_step() -> None:
    """A count made in second 7 is in the rate until second 11, and no longer in second 12."""
    counters, clock, seen = Counters(), FakeClock(), []
    rates = Rates(counters, clock)
    for second in range(14):
        if second == 7:
            counters.dropped["drop_oldest"] += 10
            counters.gaps["slow"] += 5
        clock.advance(STEP_SECONDS)
        rates.tick()
        seen.append((rates.dropped_per_second, rates.gaps_per_second))
    there = [second for second, rate in enumerate(seen) if rate == (10 / 5, 5 / 5)]
    assert there == [7, 8, 9, 10, 11]


def test_latencies_are_those_of_the_window_and_absent_where_nothing_was_published() -> None:
    counters, clock = Counters(), FakeClock()
    rates = Rates(counters, clock)
    counters.publish_to_write.observe(0.002, times=99)
    counters.publish_to_write.observe(0.4)
    clock.advance(WINDOW_SECONDS)
    rates.tick()
    assert rates.latency_p50_seconds == pytest.approx(0.00175, abs=0.00075)
    assert rates.latency_p99_seconds == pytest.approx(0.0025)
    clock.advance(WINDOW_SECONDS)
    rates.tick()
    assert (rates.latency_p50_seconds, rates.latency_p99_seconds) == (None, None)


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    """The histogram does not say how far beyond the value is."""
    histogram = Histogram()
    histogram.observe(60.0)
    assert quantile(histogram.buckets, 0.99) == 10.0


def test_a_quantile_is_interpolated_within_its_bucket() -> None:
    """Ten values lie below 0.1 ms and ten from there to 0.25 ms, so three quarters lie below the
    second bucket's middle."""
    histogram = Histogram()
    histogram.observe(0.0001, times=10)
    histogram.observe(0.0002, times=10)
    assert quantile(histogram.buckets, 0.75) == pytest.approx(0.000175)
