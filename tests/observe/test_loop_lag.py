"""Lag is what the timer is late by, and a callback that holds the loop is caught in the act."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

import pytest
import structlog
from structlog.testing import CapturingLogger
from structlog.typing import FilteringBoundLogger

from hub.observe.loop_lag import MAX_STACK_FRAMES, LoopLag, stack_of

DEADLINE_SECONDS = 20.0


@dataclass
class FakeLoop:
    """A loop whose only timer fires when the test says so, and that knows what time it is."""

    now: float = 1000.0
    waiting: list[tuple[float, Callable[..., object], tuple[object, ...]]] = field(
        default_factory=list
    )

    def call_later(
        self, delay: float, callback: Callable[..., object], *arguments: object
    ) -> "FakeLoop":
        self.waiting.append((self.now + delay, callback, arguments))
        return self

    def cancel(self) -> None:
        self.waiting.clear()

    def fire(self, *, late: float) -> None:
        due, callback, arguments = self.waiting.pop()
        self.now = due + late
        callback(*arguments)

    def as_loop(self) -> asyncio.AbstractEventLoop:
        return cast("asyncio.AbstractEventLoop", self)


@pytest.fixture
def log() -> CapturingLogger:
    return CapturingLogger()


def logger(log: CapturingLogger) -> FilteringBoundLogger:
    return cast("FilteringBoundLogger", structlog.wrap_logger(log, processors=[]))


@pytest.fixture
def fake(log: CapturingLogger) -> Iterator[tuple[FakeLoop, LoopLag]]:
    """A measured fake loop; what its watchdog thread may see of it is not asked for here."""
    loop = FakeLoop()
    lag = LoopLag(
        logger(log),
        interval_seconds=0.25,
        stall_seconds=0.5,
        report_interval_seconds=10.0,
        clock=lambda: loop.now,
    )
    lag.start(loop.as_loop())
    yield loop, lag
    lag.stop()


def events(log: CapturingLogger, name: str) -> list[dict[str, object]]:
    return [call.kwargs for call in log.calls if call.kwargs.get("event") == name]


def test_lag_is_what_the_timer_is_late_by(fake: tuple[FakeLoop, LoopLag]) -> None:
    """The last value, the highest value and all of them are kept."""
    loop, lag = fake

    for late in (0.5, 2.0, 0.25):
        loop.fire(late=late)

    assert (lag.lag_seconds, lag.max_lag_seconds) == (0.25, 2.0)
    assert sum(lag.histogram.buckets) == 3
    assert lag.histogram.sum_seconds == pytest.approx(2.75)


def test_a_timer_that_fires_early_is_no_lag(fake: tuple[FakeLoop, LoopLag]) -> None:
    """uvloop rounds to milliseconds; negative lag means nothing."""
    loop, lag = fake

    loop.fire(late=-0.0005)

    assert lag.lag_seconds == 0.0


def test_there_is_one_timer_and_none_after_stop(fake: tuple[FakeLoop, LoopLag]) -> None:
    """Each firing sets the next, and stopping cancels it; twice does no harm."""
    loop, lag = fake
    loop.fire(late=0.0)
    assert len(loop.waiting) == 1

    lag.stop()
    lag.stop()

    assert not loop.waiting


def test_stalls_are_counted_all_and_logged_at_most_once_per_interval(
    fake: tuple[FakeLoop, LoopLag], log: CapturingLogger
) -> None:
    """The next report says how many were suppressed."""
    loop, lag = fake

    for late in (1.0, 1.0, 1.0, 0.4, 10.0):
        loop.fire(late=late)

    assert lag.stalls == 4
    logged = events(log, "event_loop_resumed")
    assert [(event["lag_seconds"], event["suppressed"]) for event in logged] == [
        (1.0, 0),
        (10.0, 2),
    ]


async def test_a_running_loop_is_measured(log: CapturingLogger) -> None:
    """With the real clock and the real loop."""
    lag = LoopLag(logger(log), interval_seconds=0.001)
    lag.start(asyncio.get_running_loop())
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while sum(lag.histogram.buckets) < 3:
                await asyncio.sleep(0)
    finally:
        lag.stop()

    assert lag.max_lag_seconds >= lag.lag_seconds >= 0.0


def hold_the_loop_until(done: Callable[[], bool]) -> None:
    """A callback that blocks, as a careless application's would."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not done() and time.monotonic() < deadline:
        time.sleep(0.001)


async def test_a_blocking_callback_is_logged_with_its_stack_while_it_blocks(
    log: CapturingLogger,
) -> None:
    """The callback returns only because the log names it: it was caught in the act."""
    lag = LoopLag(logger(log), interval_seconds=0.001, stall_seconds=0.02)
    lag.start(asyncio.get_running_loop())
    try:
        hold_the_loop_until(lambda: bool(events(log, "event_loop_blocked")))
        blocked = events(log, "event_loop_blocked")
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not events(log, "event_loop_resumed"):
                await asyncio.sleep(0)
    finally:
        lag.stop()

    assert "in hold_the_loop_until" in str(blocked[0]["stack"])
    assert cast("float", blocked[0]["late_seconds"]) >= 0.02
    assert lag.stalls >= 1


def deep(calls: int) -> int:
    return 1 if calls == 0 else deep(calls - 1)


def test_the_stack_of_a_thread_that_runs_meanwhile_is_whole() -> None:
    """Its calls begin and end all the time, and threads take turns as often as they can."""
    ends = threading.Event()

    def call_on() -> None:
        while not ends.is_set():
            deep(200)

    thread = threading.Thread(target=call_on)
    interval = sys.getswitchinterval()
    thread.start()
    assert thread.ident is not None
    sys.setswitchinterval(1e-6)
    try:
        stacks = [stack_of(thread.ident) for _ in range(200)]
    finally:
        sys.setswitchinterval(interval)
        ends.set()
        thread.join()

    assert any("in deep" in stack for stack in stacks)
    for stack in stacks:
        lines = stack.splitlines()
        assert 0 < len(lines) <= 2 * MAX_STACK_FRAMES
        assert {line.rpartition(" in ")[2] for line in lines if line.startswith("  File")} <= {
            "deep", "call_on", "run", "_bootstrap", "_bootstrap_inner", "is_set",
        }  # fmt: skip


def watchdogs() -> int:
    return sum(thread.name == "loop-watchdog" for thread in threading.enumerate())


async def test_stop_ends_the_thread_and_start_begins_again(log: CapturingLogger) -> None:
    """Nothing is left behind, and starting twice makes one thread."""
    loop = asyncio.get_running_loop()
    lag = LoopLag(logger(log))

    for _ in range(2):
        lag.start(loop)
        lag.start(loop)
        assert watchdogs() == 1
        lag.stop()
        assert watchdogs() == 0


def test_a_stack_has_the_innermost_20_calls() -> None:
    is_deep, ends = threading.Event(), threading.Event()

    # Two in turn: a call that is repeated is one line.
    def deeper(calls: int) -> None:
        beside(calls - 1)

    def beside(calls: int) -> None:
        if calls:
            deeper(calls)
        is_deep.set()
        ends.wait()

    thread = threading.Thread(target=deeper, args=(30,))
    thread.start()
    is_deep.wait()
    try:
        assert thread.ident is not None
        assert stack_of(thread.ident).count("  File ") == 20
    finally:
        ends.set()
        thread.join()
