"""The signals of a server that somebody else runs, shared with it.

A server such as uvicorn waits for its connections before it ends the lifespan. A stream ends only
when the hub says so, and the hub is told by the lifespan: they would wait for each other for ever,
and a WebSocket would be cut without a goodbye. So the hub drains first and hands the signal on
afterwards. A server that has given its handler to the event loop (hypercorn, granian) is told at
the same time, whatever is done here. Such a server cuts connections soon, so everybody is told at
once.

Nothing is taken where there is no handler of the server's: the signal keeps its own meaning there.
"""

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Protocol

_Handler = Callable[[int, FrameType | None], object]
# Whose placeholder stands for a handler that was given to the event loop.
_LOOPS = frozenset({"asyncio", "uvloop", "rloop"})


class Drain(Protocol):
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

    def __init__(self, *, drain: Drain, hurry: Callable[[], None]) -> None:
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
        """Called between two instructions of the main thread: it only leaves word."""
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
