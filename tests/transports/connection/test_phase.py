"""The state of a connection and its deadline, on a fake clock."""

import gc
import weakref
from dataclasses import dataclass, field
from typing import cast

import pytest

from hub.core.time.deadlines import GRANULARITY_SECONDS, Deadlines
from hub.transports.connection.application import ApplicationCall
from hub.transports.connection.arrivals import Arrivals
from hub.transports.connection.phase import (
    Phase,
    StateTimer,
    awaited_state,
    is_last,
    mark_of,
    seconds_in,
)
from hub.transports.connection.reader import RequestReader
from hub.transports.connection.requests import Requests
from hub.transports.connection.states import (
    DISCARD_SECONDS,
    ROWS,
    ConnectionLimits,
    HttpState,
    Incoming,
)
from hub.transports.http.dispatch import Call
from hub.transports.request import Request
from tests.core.fakes import FakeClock

ARRIVAL_SECONDS = 10.0


class Rig:
    """A timer and a phase, and how often each was late."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.deadlines = Deadlines(self.clock())
        self.fired = 0
        self.timer = StateTimer(self.deadlines, self.clock, self.late)
        self.arrivals = Arrivals(self.deadlines, self.clock, ARRIVAL_SECONDS)
        self.phase = Phase(self.arrivals, self.deadlines, self.clock, self.late)

    def late(self) -> None:
        self.fired += 1

    def pass_time(self, seconds: float) -> None:
        """In steps of the node's own ticks."""
        until = self.clock() + seconds
        while self.clock() < until:
            self.clock.advance(GRANULARITY_SECONDS)
            self.deadlines.tick(self.clock())


# -- the timer -------------------------------------------------------------------------------------


def test_a_timer_calls_back_once_when_its_time_has_come_and_not_before() -> None:
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


# -- the phase -------------------------------------------------------------------------------------


def test_a_peer_that_sends_nothing_has_the_time_of_arrivals() -> None:
    rig = Rig()
    rig.phase.arrive()
    assert (rig.phase.state, rig.phase.incoming) == (HttpState.AWAITING_HEAD, Incoming.LOOK)
    rig.pass_time(ARRIVAL_SECONDS - 0.1)
    assert rig.fired == 0
    rig.pass_time(0.2)
    assert rig.fired == 1


def test_a_head_that_comes_in_pieces_has_the_time_from_its_arrival() -> None:
    """The first bytes begin no other wait: to trickle would put the deadline off."""
    rig = Rig()
    rig.phase.arrive()
    rig.pass_time(5)
    assert not rig.phase.enter(HttpState.AWAITING_HEAD, (0, 0), ARRIVAL_SECONDS)
    rig.pass_time(5.1)
    assert rig.fired == 1


def test_the_same_wait_has_one_deadline_and_another_has_its_own() -> None:
    rig = Rig()
    rig.phase.arrive()
    assert rig.phase.enter(HttpState.READING_BODY, (0, 1), 20)
    assert len(rig.arrivals) == 0
    rig.pass_time(15)
    assert not rig.phase.enter(HttpState.READING_BODY, (0, 1), 20)
    assert rig.phase.enter(HttpState.READING_BODY, (1, 2), 20)
    rig.pass_time(19)
    assert rig.fired == 0
    rig.pass_time(1.1)
    assert rig.fired == 1


def test_a_wait_that_begins_again_has_its_whole_time() -> None:
    rig = Rig()
    rig.phase.arrive()
    rig.phase.enter(HttpState.WRITING, (1, 1), 30)
    rig.pass_time(29)
    rig.phase.begin_again(30)
    rig.pass_time(29)
    assert rig.fired == 0
    rig.pass_time(1.1)
    assert rig.fired == 1


def test_each_request_begins_the_time_between_two_anew() -> None:
    rig = Rig()
    rig.phase.arrive()
    for begun in range(1, 4):
        rig.phase.between(begun, begun, 75)
        rig.pass_time(74)
    assert (rig.phase.state, rig.phase.incoming, rig.fired) == (
        HttpState.BETWEEN,
        Incoming.PARSE,
        0,
    )
    assert not rig.phase.enter(HttpState.BETWEEN, (3, 3), 75)
    rig.pass_time(1.1)
    assert rig.fired == 1


@pytest.mark.parametrize("state", ROWS)
def test_a_state_does_what_its_row_says(state: HttpState) -> None:
    rig = Rig()
    rig.phase.arrive()
    rig.phase.enter(state, ("a wait of its own",), 1)
    assert rig.phase.incoming is ROWS[state].incoming
    assert rig.phase.when_late is ROWS[state].late


def test_a_state_without_a_deadline_of_the_connections_own_is_never_late() -> None:
    rig = Rig()
    rig.phase.arrive()
    rig.phase.enter(HttpState.APPLICATION, (1, 1), None)
    rig.pass_time(3600)
    assert rig.fired == 0


@pytest.mark.parametrize("begun", [False, True])
def test_a_closed_phase_is_never_late_and_keeps_nobody_alive(*, begun: bool) -> None:
    rig = Rig()
    phase, owner = rig.phase, weakref.ref(rig)
    phase.arrive()
    if begun:
        phase.enter(HttpState.ANSWERING, (1, 1), 60)
    phase.close()
    assert len(rig.arrivals) == 0
    rig.pass_time(61)
    assert rig.fired == 0
    del rig
    gc.collect()
    assert owner() is None


def test_a_stream_has_deadlines_of_its_own() -> None:
    rig = Rig()
    rig.phase.arrive()
    rig.phase.leave()
    rig.phase.close()
    rig.pass_time(ARRIVAL_SECONDS + 1)
    assert (rig.phase.state, rig.fired) == (HttpState.STREAMING, 0)


# -- which state, and how long --------------------------------------------------------------------


@dataclass
class Standing:
    """Requests and their reader, as far as a state is chosen by them."""

    reading: Call | None = None
    answering: Call | None = None
    begun: int = 0
    stopping: bool = False
    peer_done: bool = False
    in_head: bool = False
    messages: int = 0
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)

    @property
    def parts(self) -> tuple[Requests, RequestReader]:
        return cast("Requests", self), cast("RequestReader", self)


class Uploading(ApplicationCall):
    """An application's request whose body is on its way."""

    is_full = False

    def __init__(self, size: int, *, is_full: bool = False) -> None:
        Call.__init__(self, Request())
        self.size, self.is_full = size, is_full


def call() -> Call:
    return Call(Request())


@pytest.mark.parametrize(
    ("standing", "blocked", "state"),
    [
        (Standing(), False, HttpState.AWAITING_HEAD),
        (Standing(begun=1), False, HttpState.BETWEEN),
        (Standing(begun=1, in_head=True), False, HttpState.AWAITING_HEAD),
        (Standing(reading=call()), False, HttpState.READING_BODY),
        (Standing(answering=call()), False, HttpState.ANSWERING),
        (Standing(answering=call(), reading=call()), False, HttpState.ANSWERING),
        (Standing(answering=Uploading(0)), False, HttpState.APPLICATION),
        (Standing(answering=Uploading(0)), True, HttpState.WRITING),
        (Standing(reading=call()), True, HttpState.WRITING),
    ],
)
def test_requests_and_reader_say_the_state(
    standing: Standing, state: HttpState, *, blocked: bool
) -> None:
    assert awaited_state(*standing.parts, blocked=blocked) is state


@pytest.mark.parametrize(
    "state", [HttpState.AWAITING_HEAD, HttpState.BETWEEN, HttpState.READING_BODY]
)
def test_nothing_is_waited_for_from_a_peer_that_has_ended(state: HttpState) -> None:
    assert is_last(state, Standing(peer_done=True).parts[0])
    assert not is_last(HttpState.ANSWERING, Standing(peer_done=True).parts[0])


def test_a_listener_that_stops_waits_for_no_other_request() -> None:
    assert is_last(HttpState.BETWEEN, Standing(stopping=True).parts[0])
    assert not is_last(HttpState.AWAITING_HEAD, Standing(stopping=True).parts[0])
    assert not is_last(HttpState.BETWEEN, Standing().parts[0])


def test_each_part_of_an_applications_body_is_a_wait_of_its_own() -> None:
    """Of the hub's own routes the whole body has one deadline."""
    some, more = (Standing(reading=Uploading(size)).parts for size in (10, 20))
    assert mark_of(HttpState.APPLICATION, *some) != mark_of(HttpState.APPLICATION, *more)
    assert mark_of(HttpState.READING_BODY, *some) == mark_of(HttpState.READING_BODY, *more)


@pytest.mark.parametrize(
    ("state", "standing", "seconds"),
    [
        (HttpState.AWAITING_HEAD, Standing(), 10),
        (HttpState.READING_BODY, Standing(), 30),
        (HttpState.WRITING, Standing(), 30),
        (HttpState.CLOSING, Standing(), 30),
        (HttpState.BETWEEN, Standing(), 75),
        (HttpState.DISCARDING, Standing(), DISCARD_SECONDS),
        (HttpState.ANSWERING, Standing(answering=call()), None),
        (HttpState.APPLICATION, Standing(), None),
        (HttpState.APPLICATION, Standing(reading=Uploading(1)), 30),
        (HttpState.APPLICATION, Standing(reading=Uploading(1, is_full=True)), None),
    ],
)
def test_a_state_has_the_time_that_its_limit_says(
    state: HttpState, standing: Standing, seconds: float | None
) -> None:
    assert seconds_in(state, standing.parts[0], standing.limits) == seconds
