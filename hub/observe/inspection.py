"""A look into a live process: where its tasks wait, its objects, and its allocations for a time.

Names of code, lines and sizes only, never a value. Tasks that wait at the same place are one row.
asyncio does not keep the age of a task, and to keep it would cost every task there is. Python's own
tracing of allocations is on for a bounded time only, because it makes each of them two to six times
as dear (measured). Objects are counted by type.
"""

import asyncio
import gc
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePath
from types import CodeType

import psutil

from hub.core.ports import Spawn
from hub.errors import ConflictError

# 3 to 8 us each, measured, in slices of 1 to 2 ms. To list them takes 10 to 40 ms in one go, which
# only a node has to bear whose sessions cost tasks (`hub.transports.asgi`).
MAX_TASKS = 20_000
_TASKS_AT_ONCE = 250
# Distinct rows, of some 500 bytes; a node has a few dozen.
MAX_ROWS = 200
_MAX_NAMES = 3
# From the task's own coroutine down to the one that waits.
_MAX_DEPTH = 12
# What a coroutine, a generator and an asynchronous generator call it.
_FRAMES = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))


@dataclass(slots=True)
class _Row:
    count: int = 0
    names: list[str] = field(default_factory=list)


async def look_at_tasks() -> Mapping[str, object]:
    """Return rows of the tasks of the running loop; the row with most tasks comes first.

    `looked_at` is below `total` where there are more than `MAX_TASKS`.
    """
    tasks = list(asyncio.all_tasks())
    rows: dict[tuple[str, ...], _Row] = {}
    for number, task in enumerate(tasks[:MAX_TASKS]):
        if number % _TASKS_AT_ONCE == _TASKS_AT_ONCE - 1:
            await asyncio.sleep(0)
        row = rows.setdefault(where_it_waits(task), _Row())
        row.count += 1
        if len(row.names) < _MAX_NAMES:
            row.names.append(task.get_name())
    most = sorted(rows.items(), key=lambda pair: (-pair[1].count, pair[0]))[:MAX_ROWS]
    return {
        "total": len(tasks),
        "looked_at": min(len(tasks), MAX_TASKS),
        "tasks": [
            {"count": row.count, "names": row.names, "coroutine": at[0], "waits_at": list(at[1:])}
            for at, row in most
        ],
    }


def where_it_waits(task: asyncio.Task[object]) -> tuple[str, ...]:
    """Return the task's coroutine, then the lines it is at, from the outermost to the innermost."""
    coroutine: object = task.get_coro()
    found = [getattr(coroutine, "__qualname__", type(coroutine).__name__)]
    while coroutine is not None and len(found) <= _MAX_DEPTH:
        frame, coroutine = _step(coroutine)
        if frame is not None:
            found.append(frame)
    return tuple(found)


def _step(waiting: object) -> tuple[str | None, object]:
    """Return the line that `waiting` is at, and the object it waits for."""
    for frame_name, next_name in _FRAMES:
        if (frame := getattr(waiting, frame_name, None)) is not None:
            return line_of(frame.f_code, frame.f_lineno), getattr(waiting, next_name)
    return None, None


def line_of(code: CodeType, number: int) -> str:
    return f"{short_path(code.co_filename)}:{number} {code.co_qualname}"


@lru_cache(maxsize=1024)
def short_path(filename: str) -> str:
    """Return the end of a path, without the place where the package is installed."""
    return "/".join(PurePath(filename).parts[-3:])


MAX_SECONDS = 60.0
_ROWS = 50
# Counting a million objects takes 0.05 to 0.3 s, measured, in slices of 1 ms; to list them takes
# 20 to 40 ms in one go.
_COUNTING_SECONDS = 5.0
_OBJECTS_AT_ONCE = 5_000


class MemoryTracing:
    """Switches the interpreter's tracing on and off; one per process."""

    def __init__(self, spawn: Spawn, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._spawn = spawn
        self._clock = clock
        self._tracing = False
        self._last: Mapping[str, object] | None = None

    def begin(self, seconds: float) -> Mapping[str, object]:
        """Trace allocations for so long, above 0 and at most `MAX_SECONDS`; returns at once.

        Raises:
            ConflictError: they are being traced already, by this or by somebody else.
        """
        if self._tracing or tracemalloc.is_tracing():
            raise ConflictError("allocations are being traced already")
        self._tracing = True
        self._spawn(self._trace(seconds))
        return {"tracing": True, "seconds": seconds}

    def as_json(self) -> Mapping[str, object]:
        """Return whether it is tracing, and the last result; None before the first."""
        return {"tracing": self._tracing, "rss_bytes": _rss_bytes(), "last": self._last}

    async def _trace(self, seconds: float) -> None:
        at_ms = int(time.time() * 1000)
        try:
            tracemalloc.start()
            try:
                await asyncio.sleep(seconds)
                snapshot = await asyncio.to_thread(tracemalloc.take_snapshot)
            finally:
                tracemalloc.stop()
            allocations = await asyncio.to_thread(_largest, snapshot)
            objects = await count_objects(self._clock)
        finally:
            self._tracing = False
        self._last = {
            "at_ms": at_ms,
            "seconds": seconds,
            "rss_bytes": _rss_bytes(),
            "allocations": allocations,
            **objects,
        }


async def count_objects(clock: Callable[[], float]) -> Mapping[str, object]:
    """Count objects by type: containers that the garbage collector knows, no bytes or numbers."""
    objects = gc.get_objects()
    total, counts = len(objects), Counter[type]()
    until = clock() + _COUNTING_SECONDS
    while objects and clock() < until:
        counts.update(map(type, objects[-_OBJECTS_AT_ONCE:]))
        del objects[-_OBJECTS_AT_ONCE:]
        await asyncio.sleep(0)
    rows = [{"type": _name(kind), "count": count} for kind, count in counts.most_common(_ROWS)]
    return {"objects": rows, "objects_total": total, "objects_counted": total - len(objects)}


def _largest(snapshot: tracemalloc.Snapshot) -> list[Mapping[str, object]]:
    """Return allocations that are still held, by line."""
    mine = tracemalloc.Filter(inclusive=False, filename_pattern=tracemalloc.__file__)
    found = snapshot.filter_traces([mine]).statistics("lineno")[:_ROWS]
    return [
        {
            "line": f"{short_path(each.traceback[0].filename)}:{each.traceback[0].lineno}",
            "bytes": each.size,
            "blocks": each.count,
        }
        for each in found
    ]


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _rss_bytes() -> int:
    return int(psutil.Process().memory_info().rss)
