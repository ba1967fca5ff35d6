"""The numbers of the process on the metrics page: memory, CPU, start and open files.

They are those of the Prometheus library's `ProcessCollector`, by the same names. That one lists all
open files to count them, one for each connection: 12 ms of the loop with 15,000 (measured).
"""

import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_STAT = Path("/proc/self/stat")
_LIMITS = Path("/proc/self/limits")
_BOOT = Path("/proc/stat")
_OPEN_FILES = "/proc/self/fd"


def open_files() -> int:
    """Return how many files this process has open."""
    # Linux says it as the folder's size from 6.2 on; before, the size is 0.
    return os.stat(_OPEN_FILES).st_size or len(os.listdir(_OPEN_FILES))  # noqa: PTH116, PTH208


def _value_of(path: Path, name: bytes) -> bytes:
    """Return the first value of the line that begins with `name`."""
    for line in path.read_bytes().splitlines():
        if line.startswith(name):
            return line[len(name) :].split()[0]
    raise OSError(f"{path} has no line {name!r}")


class ProcessNumbers(Collector):
    """Reads them from /proc; there are none where the system has no such folder."""

    def collect(self) -> Iterator[Metric]:
        try:
            # The name of the program may hold spaces and brackets.
            parts = _STAT.read_bytes().rpartition(b")")[2].split()
            boot = float(_value_of(_BOOT, b"btime "))
            most, now = _value_of(_LIMITS, b"Max open files"), open_files()
        except OSError:
            return
        ticks = os.sysconf("SC_CLK_TCK")
        memory, resident = int(parts[20]), int(parts[21]) * os.sysconf("SC_PAGESIZE")
        cpu = (int(parts[11]) + int(parts[12])) / ticks
        began = boot + int(parts[19]) / ticks
        for name, text, value in (
            ("virtual_memory_bytes", "Virtual memory size in bytes.", memory),
            ("resident_memory_bytes", "Resident memory size in bytes.", resident),
            ("start_time_seconds", "Start time of the process since unix epoch in seconds.", began),
            ("open_fds", "Number of open file descriptors.", now),
            (
                "max_fds",
                "Maximum number of open file descriptors.",
                float(most.replace(b"unlimited", b"inf")),
            ),
        ):
            yield GaugeMetricFamily(f"process_{name}", text, value=value)
        text = "Total user and system CPU time spent in seconds."
        yield CounterMetricFamily("process_cpu_seconds_total", text, value=cpu)
