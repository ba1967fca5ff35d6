"""Where memory goes: what was allocated while one looked, and which objects there are.

Python's own tracing of allocations is on for a bounded time only, because it makes each of them two
to six times as dear, measured. The tracing shows lines of code and sizes; objects are counted by
type. No value is ever read.
"""

import asyncio
import gc
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Mapping

import psutil

from hub.core.ports import Spawn
from hub.errors import ConflictError
from hub.observe.tasks import short_path

MAX_SECONDS = 60.0
_ROWS = 50
# Counting a million objects takes 0.05 to 0.3 s, measured, in slices of 1 ms; to list them takes
# 20 to 40 ms in one go.
_COUNTING_SECONDS = 5.0
_SLICE = 5_000


class MemoryTracing:
    """One per process: what it switches on and off is the interpreter's."""

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

    def told(self) -> Mapping[str, object]:
        """Whether it is tracing, and what came of the last time; None where there was none."""
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
    """By type, of what the garbage collector knows: containers, not bytes, strings or numbers."""
    objects = gc.get_objects()
    total, counts = len(objects), Counter[type]()
    until = clock() + _COUNTING_SECONDS
    while objects and clock() < until:
        counts.update(map(type, objects[-_SLICE:]))
        del objects[-_SLICE:]
        await asyncio.sleep(0)
    rows = [{"type": _name(kind), "count": count} for kind, count in counts.most_common(_ROWS)]
    return {"objects": rows, "objects_total": total, "objects_counted": total - len(objects)}


def _largest(snapshot: tracemalloc.Snapshot) -> list[Mapping[str, object]]:
    """What was allocated and is still held, by line."""
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
