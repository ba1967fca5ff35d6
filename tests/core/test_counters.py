"""What has happened, as plain counters."""

from collections import Counter

from hub.core.counters import Counters, Counts


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
