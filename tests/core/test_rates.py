"""A node's counters as rates."""

from hub.core.rates import WINDOW_SECONDS, Rates
from hub.core.tally import Tally
from tests.core.fakes import FakeClock


def test_rates_are_those_of_the_last_whole_window() -> None:
    """Nothing before the first has passed; what was counted before does not count again."""
    tally, clock = Tally(), FakeClock()
    tally.publications = 1000
    rates = Rates(tally, clock)
    tally.publications += 10
    tally.deliveries += 100
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
