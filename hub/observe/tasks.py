"""What the tasks of the event loop are doing: which coroutine, and where it waits.

Names of code and lines only, never a value. Tasks that wait at the same place are one row. How
long a task lives asyncio does not keep, and to keep it would cost every task there is.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePath
from types import CodeType

# 3 to 8 us each, measured, in slices of 1 to 2 ms. To list them takes 10 to 40 ms in one go, which
# only a node has to bear whose sessions cost tasks (`hub.transports.asgi`).
MAX_TASKS = 20_000
_SLICE = 250
# Distinct rows, of some 500 bytes; a node has a few dozen.
MAX_ROWS = 200
_MAX_NAMES = 3
# From the task's own coroutine down to what it waits for.
_MAX_DEPTH = 12
# What a coroutine, a generator and an asynchronous generator call it.
_FRAMES = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))


@dataclass(slots=True)
class _Row:
    count: int = 0
    names: list[str] = field(default_factory=list)


async def look_at_tasks() -> Mapping[str, object]:
    """Every task of the running loop; those that most others are like come first.

    `looked_at` is below `total` where there are more than `MAX_TASKS`.
    """
    tasks = list(asyncio.all_tasks())
    rows: dict[tuple[str, ...], _Row] = {}
    for number, task in enumerate(tasks[:MAX_TASKS]):
        if number % _SLICE == _SLICE - 1:
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
    """The task's coroutine, then the lines it is at, from the outermost to the innermost."""
    coroutine: object = task.get_coro()
    found = [getattr(coroutine, "__qualname__", type(coroutine).__name__)]
    while coroutine is not None and len(found) <= _MAX_DEPTH:
        frame, coroutine = _step(coroutine)
        if frame is not None:
            found.append(frame)
    return tuple(found)


def _step(waiting: object) -> tuple[str | None, object]:
    """The line that `waiting` is at, and what it waits for."""
    for frame_name, next_name in _FRAMES:
        if (frame := getattr(waiting, frame_name, None)) is not None:
            return line_of(frame.f_code, frame.f_lineno), getattr(waiting, next_name)
    return None, None


def line_of(code: CodeType, number: int) -> str:
    return f"{short_path(code.co_filename)}:{number} {code.co_qualname}"


@lru_cache(maxsize=1024)
def short_path(filename: str) -> str:
    """The end of it, which says enough: where it is installed concerns nobody."""
    return "/".join(PurePath(filename).parts[-3:])
