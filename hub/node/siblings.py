"""Whether this process is one of several workers of somebody else's server, such as uvicorn's.

A server with `--workers 4` runs an application, and a hub embedded in it, in four processes. With
the memory broker these are four hubs that know nothing of each other. What another process is, no
interface says, so it is seen: a worker has the same parent as the others and the same command
line, or that of `multiprocessing`'s children.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psutil

# What multiprocessing starts its children with (spawn), but not its own helpers.
_SPAWNED = "--multiprocessing-fork"
WARNING = (
    "several workers each hold a hub of their own, and with HUB_BROKER=memory:// a message reaches "
    "the subscribers of one of them only: run one worker, or set HUB_BROKER=redis://..."
)


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    started_at: float
    command: tuple[str, ...]


def is_second_of_several(
    own_pid: int | None = None, *, children_of_parent: Callable[[], Iterable[Process]] | None = None
) -> bool:
    """Whether exactly one worker like this one was there before: so one of them all says so.

    False where that cannot be seen.
    """
    pid = os.getpid() if own_pid is None else own_pid
    try:
        beside = list((children_of_parent or _children_of_parent)())
    except (psutil.Error, OSError):
        return False
    own = next((each for each in beside if each.pid == pid), None)
    if own is None or not own.command:
        return False
    alike = [each for each in beside if _kind(each) == _kind(own)]
    older = [each for each in alike if (each.started_at, each.pid) < (own.started_at, own.pid)]
    return len(older) == 1


def is_worker() -> bool:
    """Whether this process is a child of a program that is itself one in Python: multiprocessing's,
    or a fork of a parent with the same command line (gunicorn, uWSGI)."""
    if multiprocessing.parent_process() is not None:
        return True
    try:
        parent = psutil.Process().parent()
        return parent is not None and parent.cmdline() == psutil.Process().cmdline()
    except (psutil.Error, OSError):
        return False


def _kind(process: Process) -> tuple[str, ...]:
    return (_SPAWNED,) if _SPAWNED in process.command else process.command


def _children_of_parent() -> list[Process]:
    parent = psutil.Process().parent()
    found: list[Process] = []
    for child in () if parent is None else parent.children():
        try:
            found.append(Process(child.pid, child.create_time(), tuple(child.cmdline())))
        except psutil.Error:
            continue  # it has just ended, or is not ours to look at
    return found


def warns(broker: str) -> bool:
    """Whether this process is the one that is to say `WARNING`."""
    if broker != "memory://" or sys.platform == "win32":
        return False
    return is_worker() and is_second_of_several()
