"""The one deadline of a connection: it moves often and is looked at rarely."""

import gc
import weakref

from hub.core.time.deadlines import GRANULARITY_SECONDS, Deadlines
from hub.transports.connection.phase import StateTimer
from tests.core.fakes import FakeClock


class Rig:
    """A timer, and how often it was late."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.deadlines = Deadlines(self.clock())
        self.fired = 0
        self.timer = StateTimer(self.deadlines, self.clock, self.late)

    def late(self) -> None:
        self.fired += 1

    def pass_time(self, seconds: float) -> None:
        """In steps of the node's own ticks."""
        until = self.clock() + seconds
        while self.clock() < until:
            self.clock.advance(GRANULARITY_SECONDS)
            self.deadlines.tick(self.clock())


def test_it_calls_back_once_when_its_time_has_come_and_not_before() -> None:
    rig = Rig()
    rig.timer.begin(10)
    rig.pass_time(9.9)
    assert rig.fired == 0
    rig.pass_time(0.2)
    assert rig.fired == 1
    rig.pass_time(60)
    assert rig.fired == 1


def test_a_deadline_that_moves_away_needs_no_second_entry() -> None:
    """Many thousand requests a second move it."""
    rig = Rig()
    for _ in range(1000):
        rig.timer.begin(10)
        rig.clock.advance(0.001)
    assert len(rig.deadlines) == 1
    rig.pass_time(9.9)
    assert rig.fired == 0
    rig.pass_time(0.2)
    assert rig.fired == 1


def test_a_deadline_that_comes_nearer_holds() -> None:
    rig = Rig()
    rig.timer.begin(60)
    rig.timer.begin(1)
    rig.pass_time(1.1)
    assert rig.fired == 1
    rig.pass_time(60)
    assert rig.fired == 1


def test_nothing_comes_of_a_timer_that_was_cancelled_or_has_no_time() -> None:
    rig = Rig()
    rig.timer.begin(1)
    rig.timer.cancel()
    rig.pass_time(2)
    rig.timer.begin(1)
    rig.timer.begin(None)
    rig.pass_time(2)
    assert rig.fired == 0
    rig.timer.begin(1)
    rig.pass_time(1.1)
    assert rig.fired == 1


def test_a_closed_timer_keeps_nobody_alive() -> None:
    """Its connection is gone, and may have been large."""
    rig = Rig()
    timer, owner = rig.timer, weakref.ref(rig)
    timer.begin(3600)
    timer.close()
    del rig
    gc.collect()
    assert owner() is None
