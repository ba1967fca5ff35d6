"""The clock of a node's patience: a stall takes no time on it, and nobody is judged right after."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.time.deadlines import MAX_STEP_SECONDS, AwakeClock, Deadlines
from tests.core.fakes import FakeClock

TICK_SECONDS = 0.05


def test_it_goes_with_the_true_clock_while_the_node_ticks_in_time() -> None:
    """To within the rounding of floats."""
    clock = FakeClock(100.0)
    awake = AwakeClock(clock)
    for _ in range(200):
        clock.advance(TICK_SECONDS)
        assert awake.tick()
    assert awake() == pytest.approx(110.0)
    assert awake.behind_seconds() == pytest.approx(0.0)


def test_a_stall_takes_a_step_and_who_looks_right_after_it_sees_nobody() -> None:
    """The tick after that may judge again: the loop has read what came meanwhile."""
    clock = FakeClock(100.0)
    awake = AwakeClock(clock)
    clock.advance(60)
    assert awake() == 100 + MAX_STEP_SECONDS
    assert awake.behind_seconds() == 60 - MAX_STEP_SECONDS
    assert not awake.tick()
    assert awake.stall_seconds == 60 - MAX_STEP_SECONDS
    clock.advance(TICK_SECONDS)
    assert awake.tick()
    assert awake.stall_seconds == 0
    assert awake() == pytest.approx(100 + MAX_STEP_SECONDS + TICK_SECONDS)


def test_a_node_that_is_always_late_still_judges() -> None:
    """Or nobody who is dead would ever be cut there."""
    clock = FakeClock()
    awake = AwakeClock(clock)
    judged = 0
    for _ in range(10):
        clock.advance(1.0)
        judged += awake.tick()
    assert judged == 9


@given(st.lists(st.floats(0, 100), max_size=30))
def test_it_never_goes_back_and_never_ahead_of_the_true_clock(waits: list[float]) -> None:
    """Whatever the rhythm of the ticks, and whenever it is asked."""
    clock = FakeClock(0.0)
    awake = AwakeClock(clock)
    before = awake()
    for wait in waits:
        clock.advance(wait)
        for told in (awake(), (awake.tick(), awake())[1]):
            assert before <= told <= clock()
            assert told - before <= MAX_STEP_SECONDS + 1e-9
            before = told
        assert awake() + awake.behind_seconds() == pytest.approx(clock())


def test_a_deadline_for_a_peer_is_as_far_off_after_a_stall_as_before_it() -> None:
    """One that is set in the first moment after the stall has its whole time, too."""
    clock = FakeClock(100.0)
    awake = AwakeClock(clock)
    deadlines = Deadlines(clock(), behind_seconds=awake.behind_seconds)
    called: list[str] = []

    def run(seconds: float) -> None:
        for _ in range(round(seconds / TICK_SECONDS)):
            clock.advance(TICK_SECONDS)
            if awake.tick():
                deadlines.tick(clock())

    deadlines.at(clock() + 10, lambda: called.append("handshake"))
    deadlines.punctually_at(clock() + 20, lambda: called.append("token"))
    run(9)
    clock.advance(60)
    deadlines.at(clock() + 10, lambda: called.append("new"))
    if awake.tick():
        deadlines.tick(clock())
    assert called == []
    run(0.1)
    assert called == ["token"]
    run(0.9)
    assert called == ["token", "handshake"]
    run(8.5)
    assert called == ["token", "handshake"]
    run(0.7)
    assert called == ["token", "handshake", "new"]
