"""This machine's busiest processes as a table that stays current: `hub serve --demo`.

Each process is a row of the keyed channel `demo:processes`, by its number. The rows that the hub
has are compared with a reading, and what differs is published: a row that is new or has changed,
and the removal of one that is no longer among the busiest. So rows of an earlier run go as well,
where the hub keeps them in a file or in Redis.

Only what every user of the machine may see is read: number, name, CPU and memory. Command lines
and environments hold secrets, so neither is asked for. A program may write what it was given into
its own name: of a name only the first word is shown.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson
import psutil

from hub.core.ports import StatePage
from hub.node.demo import READ_TIMEOUT_SECONDS, Log, Trouble
from hub.settings import Settings
from hub.settings.tables import NamespaceChanges

CHANNEL = "demo:processes"
INTERVAL_SECONDS = 1.0
ROWS = 12
"""As many as a screen shows beside the rest of the page."""
# What the kernel keeps of a name on Linux (TASK_COMM_LEN). psutil completes a longer one from the
# command line.
_NAME_CHARACTERS = 15
# A pause is at least so many times as long as the reading before it took. Of 100 processes that is
# 12 ms (measured), most of it with the interpreter's lock; with thousands readings come less often.
_REST = 20
# More than there are, unless somebody else publishes there.
_MOST_ROWS = 1000
# Memory is shown in such steps, so that the row of a process that rests does not change.
_MEMORY_STEP_BYTES = 100_000


@dataclass(frozen=True, slots=True)
class Process:
    """One process, as of one reading."""

    pid: int
    name: str
    cpu_percent: float
    """Of one core, since the reading before."""
    memory_bytes: int


class Table(Protocol):
    """What is used of `hub.app.Hub`."""

    async def publish(
        self, channel: str, data: object, *, key: str | None = None, remove: bool = False
    ) -> object: ...

    async def state(self, channel: str, after: str = "", limit: int = 100) -> StatePage: ...


def demo_settings(settings: Settings) -> Settings:
    """With a keyed namespace `demo`, whatever else is said of it."""
    changes = settings.namespace_changes
    said = changes.get("demo", NamespaceChanges.model_validate({}))
    keyed = said.model_copy(update={"keyed": True})
    return settings.model_copy(update={"namespace_changes": {**changes, "demo": keyed}})


def take_processes() -> list[Process]:
    """Ask the operating system for all of them. May block; raises `OSError` or `psutil.Error`.

    What this user may not see of one is 0.
    """
    wanted = ["pid", "name", "cpu_percent", "memory_info"]
    return [
        Process(
            pid=found["pid"],
            name=shown_name(found["name"] or ""),
            cpu_percent=found["cpu_percent"] or 0.0,
            memory_bytes=found["memory_info"].rss if found["memory_info"] else 0,
        )
        for found in (process.info for process in psutil.process_iter(wanted))
    ]


def shown_name(name: str) -> str:
    """The first word of a name: some programs write what they do behind it.

    Example: PostgreSQL calls the process of a connection `postgres: ada shop 10.0.0.7`.
    """
    words = name[:_NAME_CHARACTERS].split(maxsplit=1)
    return words[0].rstrip(":") if words else "?"


def rows_of(processes: Iterable[Process], most: int = ROWS) -> Mapping[str, bytes]:
    """The busiest by CPU, then by memory, as rows by key.

    Figures are rounded, so that the row of a process that rests does not change.
    """
    rounded = [
        (round(each.cpu_percent, 1), _rounded(each.memory_bytes), each) for each in processes
    ]
    busiest = sorted(rounded, key=lambda row: (-row[0], -row[1], row[2].pid))[:most]
    return {
        str(each.pid): orjson.dumps(
            {
                "pid": each.pid,
                "name": each.name,
                "cpu_percent": cpu,
                "memory_bytes": memory,
            }
        )
        for cpu, memory, each in busiest
    }


def _rounded(memory_bytes: int) -> int:
    return round(memory_bytes / _MEMORY_STEP_BYTES) * _MEMORY_STEP_BYTES


async def run_processes(
    hub: Table,
    *,
    log: Log,
    interval_seconds: float = INTERVAL_SECONDS,
    read: Callable[[], Sequence[Process]] = take_processes,
) -> None:
    """Keep the table every `interval_seconds`, or less often, until cancelled."""
    trouble = Trouble(log, of="processes")
    took = 0.0
    while True:
        with trouble.survived():
            reading = asyncio.to_thread(_measured, read)
            found, took = await asyncio.wait_for(reading, READ_TIMEOUT_SECONDS)
            await _publish_changes(hub, rows_of(found))
            trouble.over()
        await asyncio.sleep(max(interval_seconds, _REST * took))


def _measured(read: Callable[[], Sequence[Process]]) -> tuple[Sequence[Process], float]:
    """A reading, and how many seconds of CPU it took; waiting for a busy machine is not counted."""
    began = time.thread_time()
    return read(), time.thread_time() - began


async def _publish_changes(hub: Table, rows: Mapping[str, bytes]) -> None:
    held = {
        row.key: row.data for row in (await hub.state(CHANNEL, limit=_MOST_ROWS)).rows if row.key
    }
    for key in held.keys() - rows.keys():
        await hub.publish(CHANNEL, None, key=key, remove=True)
    for key, data in rows.items():
        if held.get(key) != data:
            await hub.publish(CHANNEL, data, key=key)
