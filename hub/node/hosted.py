"""A hub inside another server, such as uvicorn: the signals and the other workers of that server.

A server such as uvicorn waits for its connections before it ends the lifespan. A stream ends only
when the hub ends it, and the hub learns of the end by the lifespan: they would wait for each other
for ever, and a WebSocket would be cut without a goodbye. So the hub drains first and hands the
signal on afterwards (`HostSignals`). A server that has given its handler to the event loop
(hypercorn, granian) gets the signal at the same time, whatever is done here. Such a server cuts
connections soon, so all sessions are told at once. A signal for which the server has no handler
keeps its own meaning.

A server with `--workers 4` runs an application, and a hub embedded in it, in four processes. With
the memory broker these are four hubs that know nothing of each other
(`should_warn_of_siblings`). No interface tells what another process is, so it is seen from outside:
a worker has the same parent as the others and the same command line, or that of
`multiprocessing`'s children.
"""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

import psutil

# An argument of multiprocessing's children (spawn), but not of its own helpers.
_SPAWNED = "--multiprocessing-fork"
SIBLINGS_WARNING = (
    "several workers each hold a hub of their own, and with HUB_BROKER=memory:// a message reaches "
    "the subscribers of one of them only: run one worker, or set HUB_BROKER=redis://..."
)


@dataclass(frozen=True, slots=True)
class ServerProcess:
    pid: int
    started_at: float
    command: tuple[str, ...]


def is_second_of_several(
    own_pid: int | None = None,
    *,
    children_of_parent: Callable[[], Iterable[ServerProcess]] | None = None,
) -> bool:
    """Return whether exactly one worker like this one was there before: one of all logs the
    warning.

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
    """Return whether this process is a child of a Python program: multiprocessing's,
    or a fork of a parent with the same command line (gunicorn, uWSGI)."""
    if multiprocessing.parent_process() is not None:
        return True
    try:
        parent = psutil.Process().parent()
        return parent is not None and parent.cmdline() == psutil.Process().cmdline()
    except (psutil.Error, OSError):
        return False


def _kind(process: ServerProcess) -> tuple[str, ...]:
    return (_SPAWNED,) if _SPAWNED in process.command else process.command


def _children_of_parent() -> list[ServerProcess]:
    parent = psutil.Process().parent()
    found: list[ServerProcess] = []
    for child in () if parent is None else parent.children():
        try:
            found.append(ServerProcess(child.pid, child.create_time(), tuple(child.cmdline())))
        except psutil.Error:
            continue  # it has just ended, or is not ours to look at
    return found


def should_warn_of_siblings(broker: str) -> bool:
    """Return whether this process is the one that logs `SIBLINGS_WARNING`."""
    if broker != "memory://" or sys.platform == "win32":
        return False
    return is_worker() and is_second_of_several()


_Handler = Callable[[int, FrameType | None], object]
# Modules whose placeholder stands for a handler that was given to the event loop.
_LOOPS = frozenset({"asyncio", "uvloop", "rloop"})


class BeginDrain(Protocol):
    """Begins the drain, if it has not begun; the task is done when the sessions are gone."""

    def __call__(self, *, at_once: bool = False) -> asyncio.Task[None]: ...


class HostSignals:
    """Begins a drain at the first SIGTERM or SIGINT, and then lets the server have it.

    The second signal is the server's at once. Owned by the event loop of the main thread; does
    nothing in another thread, where no handler can be set.

    Args:
        drain: begins the drain.
        hurry: ends it.
    """

    def __init__(self, *, drain: BeginDrain, hurry: Callable[[], None]) -> None:
        self._drain = drain
        self._hurry = hurry
        self._loop = asyncio.get_running_loop()
        self._servers: dict[int, _Handler] = {}
        self._asked = False
        self._handed_on = False

    def take(self) -> None:
        """Stand before the handlers that the server has set."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            handler = signal.getsignal(number)
            # Python's own handler for SIGINT means that nobody asked for another.
            if callable(handler) and handler is not signal.default_int_handler:
                self._servers[number] = handler
                signal.signal(number, self._on_signal)

    def give_back(self) -> None:
        """Leave the handlers as they were, except where another came after this one."""
        for number, handler in self._servers.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Note the signal for the loop; called between two instructions of the main thread."""
        if self._asked or self._loop.is_closed():
            self._handed_on = True
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._hurry)
            self._servers[number](number, frame)
            return
        self._asked = True
        self._loop.call_soon_threadsafe(self._begin, number)

    def _begin(self, number: int) -> None:
        draining = self._drain(at_once=_is_loops(self._servers[number]))
        draining.add_done_callback(lambda _: self._hand_on(number))

    def _hand_on(self, number: int) -> None:
        if not self._handed_on:
            self._handed_on = True
            self._servers[number](number, None)


def _is_loops(handler: _Handler) -> bool:
    return str(getattr(handler, "__module__", "")).partition(".")[0] in _LOOPS
