"""The lag of the event loop, and the stack that held it up.

Two parts. A timer in the loop measures how much later than asked it fires. A daemon thread
beside the loop notices when that timer is overdue and logs the stack of the loop's thread
*while* it is held up, which the loop itself never could: afterwards the stack is gone.

The timer fires every 0.25 s, so a callback that blocks for `stall_seconds` plus 0.25 s is
always noticed, and a shorter one (longer than `stall_seconds`) when the timer falls due in
its first part. Code that holds the interpreter lock keeps the thread from running as well:
that stall is counted and logged without a stack once the loop resumes. A stack in the loop's
own waiting call means that the process was suspended or got no CPU.
"""

import asyncio
import faulthandler
import re
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from hub.core.counters import Histogram

# A guess, not measured: four samples a second cost nothing visible.
INTERVAL_SECONDS = 0.25
# asyncio's own debug mode calls a callback slow from 0.1 s (`loop.slow_callback_duration`).
STALL_SECONDS = 0.1
# A loop that stalls again and again would otherwise fill the log with the same stack.
REPORT_INTERVAL_SECONDS = 10.0
# The innermost calls; above them is only the loop's own start.
MAX_STACK_FRAMES = 20
# A line of faulthandler's for each call, the innermost first.
_CALL = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)
# Each is some 2 KB with its stack.
MAX_RECENT = 50
# The thread sleeps on an event that `stop` sets, so it is gone at once unless it is logging.
JOIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Stall:
    """A time that the loop ran late."""

    at_ms: int
    """When it went on: milliseconds since 1970 UTC."""
    lag_seconds: float
    stack: str
    """The stack that held it, innermost call last; empty where it could not be seen."""


class _Throttle:
    """Lets one report through per interval and counts the rest."""

    def __init__(self, interval_seconds: float, clock: Callable[[], float]) -> None:
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._next = -float("inf")
        self._suppressed = 0

    def admit(self) -> int | None:
        """None to stay silent, else how many reports were held back since the last one."""
        now = self._clock()
        if now < self._next:
            self._suppressed += 1
            return None
        suppressed, self._suppressed = self._suppressed, 0
        self._next = now + self._interval_seconds
        return suppressed


class LoopLag:
    """Measures one event loop from `start` to `stop`. Holds one timer and one daemon thread.

    Everything but the thread's own method is called in the loop's thread. The thread reads
    `_due` and writes `_caught`, single attributes, which need no lock.
    """

    def __init__(
        self,
        log: FilteringBoundLogger,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        stall_seconds: float = STALL_SECONDS,
        report_interval_seconds: float = REPORT_INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the logger, the interval of measuring, the length of a stall, and the interval of
        log lines."""
        self.lag_seconds = 0.0
        """Lag of the last measurement."""
        self.max_lag_seconds = 0.0
        """The greatest lag since the start."""
        self.stalls = 0
        """Measurements later than `stall_seconds`."""
        self.histogram = Histogram()
        """A histogram of all measurements."""
        self.recent: deque[Stall] = deque(maxlen=MAX_RECENT)
        """The stalls that came last, also those that were not logged; the newest at the end."""
        self._log = log
        self._interval_seconds = interval_seconds
        self._stall_seconds = stall_seconds
        self._clock = clock
        self._blocked = _Throttle(report_interval_seconds, clock)
        self._resumed = _Throttle(report_interval_seconds, clock)
        self._due = 0.0
        self._caught = (0.0, "")
        """The last stack that the thread took, and for which firing of the timer."""
        self._timer: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin; to be called in `loop`'s thread. Does nothing when it runs already."""
        if self._thread is not None:
            return
        self._stopping = threading.Event()
        self._schedule(loop)
        # Daemon: a process that dies without `stop` must not hang on its watchdog.
        self._thread = threading.Thread(
            target=self._watch,
            args=(threading.get_ident(), self._stopping),
            name="loop-watchdog",
            daemon=True,
        )
        self._thread.start()

    def stop(self) -> None:
        """End both parts; waits for the thread, at most one second. May be called twice."""
        if self._timer is not None:
            self._timer.cancel()
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(JOIN_SECONDS)
        self._timer = self._thread = None

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not loop.time(): uvloop's is the cached time of the iteration, in milliseconds.
        self._due = self._clock() + self._interval_seconds
        self._timer = loop.call_later(self._interval_seconds, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        # uvloop rounds timers to milliseconds and may fire a fraction early.
        due = self._due
        lag = max(0.0, self._clock() - due)
        self._schedule(loop)
        self.lag_seconds = lag
        self.max_lag_seconds = max(self.max_lag_seconds, lag)
        self.histogram.observe(lag)
        if lag >= self._stall_seconds:
            self._count_stall(lag, due)

    def _count_stall(self, lag: float, due: float) -> None:
        self.stalls += 1
        caught, stack = self._caught
        at_ms = int(time.time() * 1000)
        self.recent.append(Stall(at_ms, round(lag, 3), stack if caught == due else ""))
        suppressed = self._resumed.admit()
        if suppressed is not None:
            self._log.warning(
                "event_loop_resumed", lag_seconds=round(lag, 3), suppressed=suppressed
            )

    def _watch(self, loop_thread: int, stopping: threading.Event) -> None:
        """The thread: wake when the timer would be overdue, and look whether it is."""
        reported = None
        while not stopping.wait(self._until_overdue()):
            due = self._due
            late = self._clock() - due
            if late >= self._stall_seconds and due != reported:
                reported = due
                stack = stack_of(loop_thread)
                self._caught = (due, stack)
                self._report(late, stack)

    def _until_overdue(self) -> float:
        remaining = self._due + self._stall_seconds - self._clock()
        # Overdue already means reported already: look again after as long as a stall takes.
        return remaining if remaining > 0 else self._stall_seconds

    def _report(self, late: float, stack: str) -> None:
        suppressed = self._blocked.admit()
        if suppressed is not None:
            self._log.warning(
                "event_loop_blocked",
                late_seconds=round(late, 3),
                suppressed=suppressed,
                stack=stack,
            )


def stack_of(thread: int) -> str:
    """Return the stack of a running thread, innermost call last; empty where it cannot be had.

    faulthandler writes it while it holds the interpreter lock. Python code that walks the frames
    of a running thread may be interrupted, and then reads frames that are gone already (seen on
    Python 3.11 on a busy machine). Source lines only, no values: a payload or token in a local
    never gets here.

    Args:
        thread: The thread's `threading.get_ident()`.
    """
    try:
        # Not a pipe: a full one would wait for its reader with the lock held.
        with tempfile.TemporaryFile() as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            dump = file.read().decode("ascii", "replace")
    except OSError:
        return ""
    _, _, behind = dump.partition(f"Thread 0x{thread:016x} ")
    calls = [match.groups() for match in _CALL.finditer(behind.partition("\n\n")[0])]
    innermost = [(file, int(line), name) for file, line, name in calls[:MAX_STACK_FRAMES]]
    return "".join(
        traceback.format_list([traceback.FrameSummary(*each) for each in innermost[::-1]])
    )
