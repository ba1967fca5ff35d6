"""The numbers of the process on the metrics page: memory, CPU, start and open files.

They are those of the Prometheus library's `ProcessCollector`, by the same names. That one lists all
open files to count them, one for each connection: 12 ms of the loop with 15,000 (measured).
"""

import os
import resource
from collections.abc import Iterator
from math import inf

import psutil
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_OPEN_FILES = "/proc/self/fd"


def open_files() -> int:
    """Return how many files this process has open; raise `OSError` on a system without /proc."""
    # Linux says it as the folder's size from 6.2 on; before, the size is 0.
    return os.stat(_OPEN_FILES).st_size or len(os.listdir(_OPEN_FILES))  # noqa: PTH116, PTH208


class ProcessNumbers(Collector):
    """Reads the numbers; there are none on a system without /proc."""

    def collect(self) -> Iterator[Metric]:
        try:
            now = open_files()
        except OSError:
            return
        process = psutil.Process()
        memory, cpu, began = process.memory_info(), process.cpu_times(), process.create_time()
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = inf if limit == resource.RLIM_INFINITY else limit
        for name, text, value in (
            ("virtual_memory_bytes", "Virtual memory size in bytes.", memory.vms),
            ("resident_memory_bytes", "Resident memory size in bytes.", memory.rss),
            ("start_time_seconds", "Start time of the process since unix epoch in seconds.", began),
            ("open_fds", "Number of open file descriptors.", now),
            ("max_fds", "Maximum number of open file descriptors.", most),
        ):
            yield GaugeMetricFamily(f"process_{name}", text, value=value)
        text = "Total user and system CPU time spent in seconds."
        yield CounterMetricFamily("process_cpu_seconds_total", text, value=cpu.user + cpu.system)
