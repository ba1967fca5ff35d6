"""The length of a hub's turns of its loop, seen from inside its process.

`python -m hub.bench.loop_watch serve ...` is `hub serve` with a timer in its loop. A long turn of
the loop makes the timer late; each such time is written to a file, beside the time that the loop's
thread had no core. So the machine's part is told from the hub's own: the scheduler counts both in
nanoseconds.
"""

import asyncio
import functools
import os
import runpy
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import uvloop

FILE_VARIABLE = "LOOP_WATCH_FILE"
# 500 timers a second take 0.2 % of a core. A stall is found with up to as much more than it was.
INTERVAL_SECONDS = 0.002
# Shorter ones are no stalls: a slice of a broadcast takes as long.
NOTED_SECONDS = 0.004
WATCHED_COMMAND = (sys.executable, "-m", "hub.bench.loop_watch", "serve")
_RECORD = struct.Struct("=ddd")


@dataclass(frozen=True, slots=True)
class LoopStall:
    """A late turn of the loop."""

    ended_seconds: float
    """The end by the monotonic clock, which all processes of a machine share."""
    seconds: float
    waited_seconds: float
    """The part in which the loop's thread was ready to run and something else had its core."""

    @property
    def own_ms(self) -> float:
        """The part that the hub itself took."""
        return max(0.0, self.seconds - self.waited_seconds) * 1000


class LoopWatch:
    """Note each late turn of one loop, in the process that is watched."""

    def __init__(self, path: str) -> None:
        self._notes = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._schedule = -1
        self._last = 0.0
        self._waited = 0.0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin; called in the loop's thread."""
        self._schedule = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        self._last, self._waited = time.monotonic(), self._read_waited()
        loop.call_later(INTERVAL_SECONDS, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now, waited = time.monotonic(), self._read_waited()
        passed = now - self._last
        if passed >= NOTED_SECONDS:
            os.write(self._notes, _RECORD.pack(now, passed, waited - self._waited))
        self._last, self._waited = now, waited
        loop.call_later(INTERVAL_SECONDS, self._tick, loop)

    def _read_waited(self) -> float:
        # Linux, sched-stats.rst: nanoseconds on a core, nanoseconds on a run queue, time slices.
        return int(os.pread(self._schedule, 64, 0).split()[1]) / 1e9


def stalls_between(path: Path, began_seconds: float, ended_seconds: float) -> list[LoopStall]:
    """Return the stalls between two times of the monotonic clock."""
    raw = path.read_bytes() if path.exists() else b""
    whole = raw[: len(raw) - len(raw) % _RECORD.size]
    noted = [LoopStall(*record) for record in _RECORD.iter_unpack(whole)]
    return [each for each in noted if began_seconds < each.ended_seconds <= ended_seconds]


def _watched_loop(path: str) -> uvloop.Loop:
    loop = uvloop.new_event_loop()
    loop.call_soon(LoopWatch(path).start, loop)
    return loop


if __name__ == "__main__":
    if path := os.environ.get(FILE_VARIABLE):
        # From outside, so that the hub that is measured has nothing of it.
        uvloop.run = functools.partial(
            uvloop.run, loop_factory=functools.partial(_watched_loop, path)
        )
    # As a program: the benchmark knows the hub only by its answers.
    runpy.run_module("hub", run_name="__main__")
