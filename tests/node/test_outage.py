"""Since when a broker's servers are away, what their return cost, and one line in the log each."""

import structlog
from structlog.testing import CapturingLogger
from structlog.typing import FilteringBoundLogger

from hub.core.counters import Counters
from hub.node.stats import HOLD_SECONDS, SETTLED_SECONDS, Outage

WALL_SECONDS = 1_800_000_000.0
DEAD = ("redis://127.0.0.1:6379 (Connection refused)",)


class Watched:
    """An outage with a clock, servers and counters that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.away: tuple[str, ...] = ()
        self.counters = Counters()
        self.log = CapturingLogger()
        bound: FilteringBoundLogger = structlog.wrap_logger(self.log, processors=[])
        self.outage = Outage(
            lambda: self.away,
            counters=self.counters,
            clock=lambda: self.now,
            wall_clock=lambda: WALL_SECONDS + self.now,
            log=bound,
        )

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.05
            self.outage.tick()

    @property
    def events(self) -> list[object]:
        return [call.kwargs["event"] for call in self.log.calls]


def test_a_server_that_is_away_is_told_with_since_when() -> None:
    """As of when it was seen first; once in the log, however long it lasts."""
    watched = Watched()
    watched.pass_time(5)
    assert (watched.outage.servers, watched.outage.since_ms) == ((), 0)
    watched.away = DEAD
    watched.pass_time(HOLD_SECONDS + 60)
    since = watched.outage.since_ms / 1000 - WALL_SECONDS
    assert watched.outage.servers == DEAD
    assert 5 <= since <= 5.5
    assert watched.events == ["broker_away"]


def test_a_connection_that_is_made_anew_at_once_is_no_outage() -> None:
    watched = Watched()
    for _ in range(5):
        watched.away = DEAD
        watched.pass_time(HOLD_SECONDS / 2)
        watched.away = ()
        watched.pass_time(1)
    assert (watched.outage.since_ms, watched.outage.back_ms, watched.events) == (0, 0, [])


def test_after_the_return_it_is_known_how_long_it_was_and_what_was_reset() -> None:
    """Resets from before do not count, and those of the next outage count anew."""
    watched = Watched()
    watched.counters.broker_resets = 7
    for resets in (3, 0):
        watched.away = DEAD
        watched.pass_time(HOLD_SECONDS + 10)
        watched.away = ()
        watched.pass_time(1)
        watched.counters.broker_resets += resets
        assert (watched.outage.servers, watched.outage.since_ms) == ((), 0)
        assert watched.outage.back_ms > 0
        watched.pass_time(SETTLED_SECONDS + 1)
        assert watched.outage.reset_channels == resets
    assert watched.events == [
        *("broker_away", "broker_back", "broker_reset_channels"),
        *("broker_away", "broker_back"),
    ]
    back = watched.log.calls[1].kwargs["away_seconds"]
    assert HOLD_SECONDS + 9 < back < HOLD_SECONDS + 12


def test_a_server_that_was_never_away_reset_nothing() -> None:
    """An epoch may also end where somebody emptied Redis."""
    watched = Watched()
    watched.counters.broker_resets = 2
    watched.pass_time(SETTLED_SECONDS)
    assert watched.outage.reset_channels == 0
