"""This machine's load and its busiest processes, published by `hub serve --demo`.

The load is real input without another service, sent through the ordinary publish path. Readings are
taken in a thread, because a system call may block (a dead network mount holds `statvfs` up).

Processes are a table that stays current: each process is a row of the keyed channel
`demo:processes`. The rows that the hub has are compared with a reading, and the difference is
published: a row that is new or has changed, and the removal of one that is no longer among the
busiest. So rows of an earlier run go as well, where the hub keeps them in a file or in Redis. Keys
begin with the node's name, because nodes on one Redis share the table: each removes its own rows
alone, and the rows of a node that is gone expire.

Only facts that every user of the machine may see are read: number, name, CPU and memory. Command
lines and environments hold secrets, so neither is read. A program may write its arguments into its
own name: of a name only the first word is shown.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson
import psutil

from hub.core.ports import StatePage
from hub.errors import HubError
from hub.settings import Settings
from hub.settings.tables import NamespaceChanges

# Four pictures a second look live; the kernel counts CPU time in steps of 10 ms, so a shorter
# interval would show steps of more than 4 %.
LOAD_SECONDS = 0.25
# A guess, not measured: far above the 1 ms that a reading takes on a machine in order.
READ_TIMEOUT_SECONDS = 5.0
_READ_ERRORS = (OSError, RuntimeError, psutil.Error)

Publish = Callable[[str, object], Awaitable[object]]


class DemoLog(Protocol):
    def info(self, event: str, **context: object) -> object: ...

    def warning(self, event: str, **context: object) -> object: ...


class Trouble:
    """Says once that readings or publications fail, and once that they do no more.

    Four lines a second would hide everything else.
    """

    def __init__(self, log: DemoLog, *, of: str) -> None:
        self._log = log
        self._of = of
        self._failing = False

    @contextlib.contextmanager
    def survived(self) -> Iterator[None]:
        """Run the block; catch the errors that readings and publications have at times."""
        try:
            yield
        except (HubError, TimeoutError, *_READ_ERRORS) as error:
            if not self._failing:
                kind = type(error).__name__
                self._log.warning("demo_failing", of=self._of, error=str(error), kind=kind)
            self._failing = True

    def over(self) -> None:
        """Note that a publication succeeded."""
        if self._failing:
            self._log.info("demo_recovered", of=self._of)
        self._failing = False


@dataclass(frozen=True, slots=True)
class MachineSample:
    """A reading of the machine. The `_bytes` of disk and network count from its start."""

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


def take_reading() -> MachineSample:
    """Ask the operating system. May block; raises `OSError`, `RuntimeError` or `psutil.Error`."""
    memory, usage = psutil.virtual_memory(), psutil.disk_usage("/")
    # Both are None on machines without disks or interfaces, such as some containers.
    disk, network = psutil.disk_io_counters(), psutil.net_io_counters()
    return MachineSample(
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


def messages(before: MachineSample, now: MachineSample, seconds: float) -> Mapping[str, object]:
    """Return the data for each channel, from two readings `seconds` (above 0) apart."""

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
    log: DemoLog,
    interval_seconds: float = LOAD_SECONDS,
    read: Callable[[], MachineSample] = take_reading,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Publish on `demo.*` every `interval_seconds` until cancelled, whatever fails meanwhile."""
    before: tuple[MachineSample, float] | None = None
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


CHANNEL = "demo:processes"
TABLE_SECONDS = 1.0
ROWS = 12
"""Rows of one node: as many as a screen shows beside the rest of the page."""
# Linux keeps so much of a name (TASK_COMM_LEN). psutil completes a longer one from the command
# line.
_NAME_CHARACTERS = 15
# After so long the rows of a node that was killed go. A guess.
_ROW_SECONDS = 60.0
# A pause is at least so many times as long as the reading before it took. Of 100 processes that is
# 12 ms (measured), most of it with the interpreter's lock; with thousands readings come less often.
_REST = 20
# More rows than the nodes of a demo have.
_MOST_ROWS = 1000
# Memory is shown in such steps, so that the row of a process that rests does not change.
_MEMORY_STEP_BYTES = 100_000


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """A process, as of one reading."""

    pid: int
    name: str
    cpu_percent: float
    """Percent of one core, since the reading before."""
    memory_bytes: int


class Table(Protocol):
    """The calls of `hub.app.Hub` that are used here."""

    async def publish(
        self, channel: str, data: object, *, key: str | None = None, remove: bool = False
    ) -> object: ...

    async def state(self, channel: str, after: str = "", limit: int = 100) -> StatePage: ...


def demo_settings(settings: Settings) -> Settings:
    """Return `settings` with a keyed namespace `demo`, whatever else they say of it.

    Rows expire where the settings do not say when. A row whose process rests is published again.
    """
    changes = settings.namespace_changes
    given = changes.get("demo", NamespaceChanges.model_validate({}))
    life = _ROW_SECONDS if given.state_ttl_seconds is None else given.state_ttl_seconds
    keyed = given.model_copy(update={"keyed": True, "state_ttl_seconds": life})
    return settings.model_copy(update={"namespace_changes": {**changes, "demo": keyed}})


def take_processes() -> list[ProcessSample]:
    """Ask the operating system for all of them. May block; raises `OSError` or `psutil.Error`.

    A figure that this user may not see is 0.
    """
    wanted = ["pid", "name", "cpu_percent", "memory_info"]
    return [
        ProcessSample(
            pid=found["pid"],
            name=shown_name(found["name"] or ""),
            cpu_percent=found["cpu_percent"] or 0.0,
            memory_bytes=found["memory_info"].rss if found["memory_info"] else 0,
        )
        for found in (process.info for process in psutil.process_iter(wanted))
    ]


def shown_name(name: str) -> str:
    """Return the first word of a name: some programs write their work behind it.

    Example: PostgreSQL calls the process of a connection `postgres: ada shop 10.0.0.7`.
    """
    words = name[:_NAME_CHARACTERS].split(maxsplit=1)
    return words[0].rstrip(":") if words else "?"


def rows_of(
    processes: Iterable[ProcessSample], *, node: str, most: int = ROWS
) -> Mapping[str, bytes]:
    """Return the busiest by CPU, then by memory, as rows by key: `node:pid`.

    Figures are rounded, so that the row of a process that rests does not change.
    """
    rounded = [
        (round(each.cpu_percent, 1), _rounded(each.memory_bytes), each) for each in processes
    ]
    busiest = sorted(rounded, key=lambda row: (-row[0], -row[1], row[2].pid))[:most]
    return {
        f"{_own(node)}{each.pid}": orjson.dumps(
            {
                "node": node,
                "pid": each.pid,
                "name": each.name,
                "cpu_percent": cpu,
                "memory_bytes": memory,
            }
        )
        for cpu, memory, each in busiest
    }


def _own(node: str) -> str:
    """Return the beginning of the keys of a node's rows; no node's name holds a colon."""
    return f"{node}:"


def _rounded(memory_bytes: int) -> int:
    return round(memory_bytes / _MEMORY_STEP_BYTES) * _MEMORY_STEP_BYTES


async def run_processes(
    hub: Table,
    *,
    node: str,
    log: DemoLog,
    interval_seconds: float = TABLE_SECONDS,
    read: Callable[[], Sequence[ProcessSample]] = take_processes,
) -> None:
    """Keep the rows of `node` every `interval_seconds`, or less often, until cancelled."""
    trouble = Trouble(log, of="processes")
    took = 0.0
    while True:
        with trouble.survived():
            reading = asyncio.to_thread(_measured, read)
            found, took = await asyncio.wait_for(reading, READ_TIMEOUT_SECONDS)
            await _publish_changes(hub, rows_of(found, node=node), _own(node))
            trouble.over()
        await asyncio.sleep(max(interval_seconds, _REST * took))


def _measured(read: Callable[[], Sequence[ProcessSample]]) -> tuple[Sequence[ProcessSample], float]:
    """Return a reading, and the seconds of CPU it took, without waits for a busy machine."""
    began = time.thread_time()
    return read(), time.thread_time() - began


async def _publish_changes(hub: Table, rows: Mapping[str, bytes], own: str) -> None:
    """Make `rows` the rows with keys that begin with `own`."""
    page = await hub.state(CHANNEL, after=own, limit=_MOST_ROWS)
    held = {row.key: row.data for row in page.rows if row.key and row.key.startswith(own)}
    for key in held.keys() - rows.keys():
        await hub.publish(CHANNEL, None, key=key, remove=True)
    for key, data in rows.items():
        if held.get(key) != data:
            await hub.publish(CHANNEL, data, key=key)
