"""Coarse timers fall due once, in order, not before their time; a stall takes no patience."""

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.time.deadlines import (
    GRANULARITY_SECONDS,
    MAX_STEP_SECONDS,
    TICK_SECONDS,
    AwakeClock,
    Deadline,
    Deadlines,
)
from tests.core.fakes import FakeClock

TIMES = st.floats(0, 10_000)


@given(st.lists(TIMES, max_size=20), st.lists(st.floats(0, 3000), min_size=1, max_size=20))
def test_each_falls_due_once_not_early_and_at_most_two_steps_late(
    times: list[float], waits: list[float]
) -> None:
    """Deadlines are kept whatever the rhythm of the ticks."""
    deadlines, called = Deadlines(0.0), list[tuple[float, float]]()
    now = 0.0

    def note(when: float) -> None:
        called.append((when, now))

    for when in times:
        deadlines.at(when, lambda when=when: note(when))  # type: ignore[misc]  # binds the loop's value
    for wait in waits:
        now += wait
        deadlines.tick(now)
    assert all(when <= at for when, at in called)
    due = [when for when in times if when <= now - 2 * GRANULARITY_SECONDS]
    assert sorted(when for when, _ in called)[: len(due)] == sorted(due)
    assert len(called) + len(deadlines) == len(times)


@given(st.floats(0, 100), st.floats(0, 5), st.booleans())
def test_a_deadline_that_is_not_due_within_some_time_is_not_missed_by_a_tick_after_it(
    now: float, ahead: float, punctual: bool
) -> None:
    """A timer that is not due within the time may be skipped by one tick without being late."""
    deadlines, called = Deadlines(now), list[float]()
    deadlines.tick(now)
    add = deadlines.punctually_at if punctual else deadlines.at
    add(now + ahead, lambda: called.append(now))
    if not deadlines.due_within(2 * GRANULARITY_SECONDS):
        deadlines.tick(now + 2 * GRANULARITY_SECONDS - 1e-6)
        assert not called
    else:
        deadlines.tick(now + 4 * GRANULARITY_SECONDS)
        assert called


def test_deadlines_run_in_the_order_of_their_times() -> None:
    """The order holds also when a stall makes several due at once."""
    deadlines, called = Deadlines(0.0), list[str]()
    for when, name in ((3.0, "c"), (1.0, "a"), (2.0, "b")):
        deadlines.at(when, lambda name=name: called.append(name))  # type: ignore[misc]  # binds the loop's value
    deadlines.tick(2.5)
    assert called == ["a", "b"]
    deadlines.tick(1000.0)
    assert called == ["a", "b", "c"]


def test_a_cancelled_one_never_runs_and_holds_nothing() -> None:
    deadlines, called = Deadlines(0.0), list[int]()
    deadline = deadlines.at(1.0, lambda: called.append(1))
    deadline.cancel()
    assert deadline.callback is None
    deadlines.tick(5.0)
    assert called == []
    assert len(deadlines) == 0


@pytest.mark.parametrize("when", [1e300, 1.7976931348623157e308, float("inf"), 1e20])
def test_a_time_too_far_off_is_a_time(when: float) -> None:
    """Times come from outside too; a time that is no number is due at once."""
    deadlines, called = Deadlines(0.0), list[str]()
    deadlines.at(when, lambda: called.append("far"))
    deadlines.at(float("nan"), lambda: called.append("nan"))
    deadlines.at(-when, lambda: called.append("past"))
    deadlines.tick(10.0)
    assert called == ["nan", "past"]
    assert len(deadlines) == 1


def test_a_cancelled_one_keeps_no_place_until_its_time() -> None:
    """A session whose token lasts a year must not leave a deadline behind for a year."""
    deadlines = Deadlines(0.0)
    for when in range(1000, 2000):
        deadlines.at(float(when), lambda: None).cancel()
    deadlines.tick(1.0)
    assert len(deadlines) == 0
    assert not deadlines._patient._buckets


def test_a_deadline_may_cancel_another_that_is_due_with_it() -> None:
    """Which then does not run."""
    deadlines, called = Deadlines(0.0), list[str]()
    later: list[Deadline] = []

    def first() -> None:
        called.append("first")
        for each in later:
            each.cancel()

    deadlines.at(1.0, first)
    later.append(deadlines.at(1.0, lambda: called.append("second")))
    deadlines.tick(2.0)
    assert called == ["first"]
    assert len(deadlines) == 0


def test_a_deadline_that_is_due_already_runs_at_the_next_tick() -> None:
    """A deadline that another one sets while it runs waits for the next tick too."""
    deadlines, called = Deadlines(0.0), list[str]()

    def outer() -> None:
        deadlines.at(0.5, lambda: called.append("inner"))

    deadlines.at(1.0, outer)
    deadlines.tick(10.0)
    assert called == []
    deadlines.tick(10.0 + 2 * GRANULARITY_SECONDS)
    assert called == ["inner"]


def test_a_deadline_that_fails_does_not_take_the_others_with_it() -> None:
    """The others are due at the next tick, whatever their time was."""
    deadlines, called = Deadlines(0.0), list[int]()

    def fail() -> None:
        raise RuntimeError("a fault")

    deadlines.at(1.0, fail)
    for when in (1.0, 1.5, 2.0):
        deadlines.at(when, lambda: called.append(1))
    with pytest.raises(RuntimeError, match="a fault"):
        deadlines.tick(3.0)
    deadlines.tick(3.1)
    assert called == [1, 1, 1]
    assert len(deadlines) == 0


def test_thousands_that_are_due_together_run_in_many_ticks() -> None:
    """Other work goes on between the ticks, and the order of the deadlines stays."""
    clock = FakeClock()
    deadlines, called = Deadlines(0.0, clock=clock), list[int]()

    def call(number: int) -> None:
        called.append(number)
        clock.advance(TICK_SECONDS / 9.5)

    for number in range(100):
        # In two wheels, in one bucket and in several.
        at = deadlines.punctually_at if number < 30 else deadlines.at
        at(1.0 if number < 60 else 1.0 + number / 100, partial(call, number))
    ticks = 0
    done = False
    while not done:
        before = len(called)
        done = deadlines.tick(10.0)
        assert len(called) - before <= 11
        ticks += 1
    assert ticks >= 10
    assert called == list(range(100))
    assert len(deadlines) == 0


def test_a_deadline_set_between_two_ticks_of_a_crowd_runs_in_its_turn() -> None:
    clock = FakeClock()
    deadlines, called = Deadlines(0.0, clock=clock), list[str]()

    def slow(name: str) -> None:
        called.append(name)
        clock.advance(2 * TICK_SECONDS)

    for name in "ab":
        deadlines.at(1.0, partial(slow, name))
    assert not deadlines.tick(10.0)
    deadlines.at(0.5, partial(slow, "c"))
    assert deadlines.due_within(0.1)
    while not deadlines.tick(10.0):
        pass
    assert called == ["a", "b", "c"]


def test_a_crowd_goes_on_in_the_loops_next_turns() -> None:
    clock, turns = FakeClock(), list[Callable[[], None]]()
    deadlines, called = Deadlines(0.0, clock=clock, defer=turns.append), list[int]()

    def slow(number: int) -> None:
        called.append(number)
        clock.advance(2 * TICK_SECONDS)

    for number in range(5):
        deadlines.at(1.0, partial(slow, number))
    deadlines.tick(10.0)
    deadlines.tick(10.0)
    assert (len(called), len(turns)) == (2, 1)
    while turns:
        turns.pop()()
    assert called == list(range(5))


def test_the_awake_clock_follows_the_true_clock_while_the_node_ticks_in_time() -> None:
    """The two clocks differ only by the rounding of floats."""
    clock = FakeClock(100.0)
    awake = AwakeClock(clock)
    for _ in range(200):
        clock.advance(GRANULARITY_SECONDS)
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
    clock.advance(GRANULARITY_SECONDS)
    assert awake.tick()
    assert awake.stall_seconds == 0
    assert awake() == pytest.approx(100 + MAX_STEP_SECONDS + GRANULARITY_SECONDS)


def test_a_node_that_is_always_late_still_judges() -> None:
    """Otherwise no dead peer would ever be cut off there."""
    clock = FakeClock()
    awake = AwakeClock(clock)
    judged = 0
    for _ in range(10):
        clock.advance(1.0)
        judged += awake.tick()
    assert judged == 9


@given(st.lists(st.floats(0, 100), max_size=30))
def test_the_awake_clock_never_goes_back_and_never_ahead_of_the_true_clock(
    waits: list[float],
) -> None:
    """This holds whatever the rhythm of the ticks, and whenever it is asked."""
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
    """A deadline that is set in the first moment after the stall has its whole time, too."""
    clock = FakeClock(100.0)
    awake = AwakeClock(clock)
    deadlines = Deadlines(clock(), behind_seconds=awake.behind_seconds)
    called: list[str] = []

    def run(seconds: float) -> None:
        for _ in range(round(seconds / GRANULARITY_SECONDS)):
            clock.advance(GRANULARITY_SECONDS)
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
