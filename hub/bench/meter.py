"""What a process used so far: CPU time and memory, read from outside."""

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


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a process: all that is resident, and what it shares with no other."""

    rss_bytes: int
    uss_bytes: int


class ProcessMeter:
    """Reads one process by its id.

    Raises:
        BenchError: There is no such process (any more).
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        with self._alive():
            self._process = psutil.Process(pid)

    def cpu_seconds(self) -> float:
        """User and system time of all its threads.

        From the scheduler's statistics where Linux has them: they count nanoseconds, while
        `cpu_times` counts ticks of 10 ms, a tenth of what 1,000 connects take.
        """
        try:
            return self._scheduled_seconds()
        except (OSError, ValueError, IndexError):
            return self._ticked_seconds()

    def memory(self) -> Memory:
        """Resident and unshared bytes now."""
        with self._alive():
            info = self._process.memory_full_info()
        return Memory(rss_bytes=info.rss, uss_bytes=info.uss)

    def wait_settled(self) -> Memory:
        """Memory once it no longer moves, or after `SETTLE_SECONDS`."""
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

    def _ticked_seconds(self) -> float:
        with self._alive():
            times = self._process.cpu_times()
        return times.user + times.system

    @contextlib.contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except psutil.Error as error:
            raise BenchError(f"process {self._pid} cannot be read: {error}") from error

    def _scheduled_seconds(self) -> float:
        tasks = list(Path(f"/proc/{self._pid}/task").iterdir())
        spent = [int((task / "schedstat").read_text().split()[0]) for task in tasks]
        return sum(spent) / 1e9
