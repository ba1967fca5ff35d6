"""This machine's own load as a live feed: what `hub serve --demo` publishes.

Real input without another service, sent through the ordinary publish path. Readings are
taken in a thread, because a system call may block (a dead network mount holds `statvfs` up).
The feed knows a `publish` callable and nothing of the hub. The table of processes beside it:
`hub.node.demo_processes`.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import psutil

from hub.errors import HubError

# Four pictures a second look live; the kernel counts CPU time in steps of 10 ms, so a shorter
# interval would show steps of more than 4 %.
INTERVAL_SECONDS = 0.25
# A guess, not measured: far above the 1 ms that a reading takes on a machine in order.
READ_TIMEOUT_SECONDS = 5.0
_READ_ERRORS = (OSError, RuntimeError, psutil.Error)

Publish = Callable[[str, object], Awaitable[object]]


class Log(Protocol):
    def info(self, event: str, **context: object) -> object: ...

    def warning(self, event: str, **context: object) -> object: ...


class Trouble:
    """Says once that readings or publications fail, and once that they do no more.

    Four lines a second would hide everything else.
    """

    def __init__(self, log: Log, *, of: str) -> None:
        self._log = log
        self._of = of
        self._failing = False

    @contextlib.contextmanager
    def survived(self) -> Iterator[None]:
        """Do what may fail; what is known to fail at times is not raised."""
        try:
            yield
        except (HubError, TimeoutError, *_READ_ERRORS) as error:
            if not self._failing:
                kind = type(error).__name__
                self._log.warning("demo_failing", of=self._of, error=str(error), kind=kind)
            self._failing = True

    def over(self) -> None:
        """Something was published."""
        if self._failing:
            self._log.info("demo_recovered", of=self._of)
        self._failing = False


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading. The `_bytes` of disk and network count from the machine's start."""

    cores: tuple[float, ...]
    """Percent busy since the reading before, per core."""
    memory_used_bytes: int
    memory_total_bytes: int
    swap_percent: float
    disk_used_bytes: int
    disk_total_bytes: int
    disk_read_bytes: int
    disk_written_bytes: int
    network_received_bytes: int
    network_sent_bytes: int


def take_reading() -> Reading:
    """Ask the operating system. May block; raises `OSError`, `RuntimeError` or `psutil.Error`."""
    memory, usage = psutil.virtual_memory(), psutil.disk_usage("/")
    # Both are None on machines without disks or interfaces, such as some containers.
    disk, network = psutil.disk_io_counters(), psutil.net_io_counters()
    return Reading(
        cores=tuple(psutil.cpu_percent(percpu=True)),
        memory_used_bytes=memory.total - memory.available,
        memory_total_bytes=memory.total,
        swap_percent=psutil.swap_memory().percent,
        disk_used_bytes=usage.used,
        disk_total_bytes=usage.total,
        disk_read_bytes=disk.read_bytes if disk else 0,
        disk_written_bytes=disk.write_bytes if disk else 0,
        network_received_bytes=network.bytes_recv if network else 0,
        network_sent_bytes=network.bytes_sent if network else 0,
    )


def messages(before: Reading, now: Reading, seconds: float) -> Mapping[str, object]:
    """What to publish on each channel, from two readings `seconds` (above 0) apart."""

    def rate(counter: str) -> int:
        # A counter starts again when a device is unplugged or wraps: never a negative rate.
        change: int = getattr(now, counter) - getattr(before, counter)
        return max(0, round(change / seconds))

    cores = now.cores or (0.0,)
    return {
        "demo.cpu": {"percent": round(sum(cores) / len(cores), 1), "cores": list(now.cores)},
        "demo.memory": {
            "percent": _percent(now.memory_used_bytes, now.memory_total_bytes),
            "used_bytes": now.memory_used_bytes,
            "total_bytes": now.memory_total_bytes,
            "swap_percent": now.swap_percent,
        },
        "demo.disk": {
            "percent": _percent(now.disk_used_bytes, now.disk_total_bytes),
            "used_bytes": now.disk_used_bytes,
            "total_bytes": now.disk_total_bytes,
            "read_bytes_per_second": rate("disk_read_bytes"),
            "written_bytes_per_second": rate("disk_written_bytes"),
        },
        "demo.network": {
            "received_bytes_per_second": rate("network_received_bytes"),
            "sent_bytes_per_second": rate("network_sent_bytes"),
        },
    }


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


async def run_demo(
    publish: Publish,
    *,
    log: Log,
    interval_seconds: float = INTERVAL_SECONDS,
    read: Callable[[], Reading] = take_reading,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Publish on `demo.*` every `interval_seconds` until cancelled, whatever fails meanwhile."""
    before: tuple[Reading, float] | None = None
    trouble = Trouble(log, of="load")
    while True:
        with trouble.survived():
            now = await asyncio.wait_for(asyncio.to_thread(read), READ_TIMEOUT_SECONDS), clock()
            if before is not None and now[1] > before[1]:
                for channel, data in messages(before[0], now[0], now[1] - before[1]).items():
                    await publish(channel, data)
                trouble.over()
            before = now
        await asyncio.sleep(interval_seconds)
