"""The CPU time and memory that a process has used, read from outside."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from hub.bench.plan import BenchError

SETTLE_SECONDS = 5.0
SETTLE_STEP_SECONDS = 0.2
SETTLED_BYTES = 64 * 1024
"""Three readings within this far of each other are a settled process: 16 pages."""
DISTURBED_SHARE = 0.05
"""A guess: a twentieth of the time or of the publications moves figures by about as much."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The bytes of a process: all that is resident, and the part that it shares with no other."""

    rss_bytes: int
    uss_bytes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """The seconds of a process since its start."""

    cpu_seconds: float
    waited_seconds: float | None
    """The time in which it was ready to run while something else had its core; None where unknown.
    """

    def since(self, before: "Usage") -> "Usage":
        """Return the usage between two readings."""
        waited = None
        if self.waited_seconds is not None and before.waited_seconds is not None:
            waited = self.waited_seconds - before.waited_seconds
        return Usage(self.cpu_seconds - before.cpu_seconds, waited)

    def disturbed(self, seconds: float) -> bool:
        """Return whether the process had to wait for its core for much of these seconds."""
        return (self.waited_seconds or 0.0) > DISTURBED_SHARE * seconds


class ProcessMeter:
    """Read one process by its id.

    Raises:
        BenchError: There is no such process (any more).
    """

    def __init__(self, pid: int) -> None:
        self._pid = self.pid = pid
        with self._alive():
            self._process = psutil.Process(pid)

    def usage(self) -> Usage:
        """Return user and system time of all its threads, and how long they waited for a core.

        The times come from the scheduler's statistics where Linux has them: they count nanoseconds,
        while `cpu_times` counts ticks of 10 ms, a tenth of the cost of 1,000 connects.
        """
        try:
            return self._scheduled()
        except (OSError, ValueError, IndexError):
            return self._ticked()

    def memory(self) -> Memory:
        """Return resident and unshared bytes now."""
        with self._alive():
            info = self._process.memory_full_info()
        return Memory(rss_bytes=info.rss, uss_bytes=info.uss)

    def wait_settled(self) -> Memory:
        """Return the memory once it no longer moves, or after `SETTLE_SECONDS`."""
        deadline = time.monotonic() + SETTLE_SECONDS
        readings = [self._rss()]
        while time.monotonic() < deadline:
            time.sleep(SETTLE_STEP_SECONDS)
            readings = [*readings[-2:], self._rss()]
            if len(readings) == 3 and max(readings) - min(readings) <= SETTLED_BYTES:
                break
        return self.memory()

    def _rss(self) -> int:
        with self._alive():
            return self._process.memory_info().rss

    def _ticked(self) -> Usage:
        with self._alive():
            times = self._process.cpu_times()
        return Usage(times.user + times.system, None)

    @contextlib.contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except psutil.Error as error:
            raise BenchError(f"process {self._pid} cannot be read: {error}") from error

    def _scheduled(self) -> Usage:
        """Return fields 1 and 2 of schedstat: nanoseconds on a core and on a run queue."""
        tasks = list(Path(f"/proc/{self._pid}/task").iterdir())
        lines = [(task / "schedstat").read_text().split() for task in tasks]
        return Usage(*(sum(int(line[field]) for line in lines) / 1e9 for field in (0, 1)))
