"""The steady pace of a node's housekeeping: one timer of the event loop, which goes on by itself.

A task that sleeps takes a future and two turns of the loop for each tick, which is a third of what
the tick of an idle node takes.
"""

import asyncio
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from hub.core.time.deadlines import GRANULARITY_SECONDS


class Ticks:
    """Calls `tick` every `GRANULARITY_SECONDS` from `start` to `stop`, counted from its end.

    What it raises is logged, and the next one comes all the same.
    """

    def __init__(self, tick: Callable[[], object], log: FilteringBoundLogger) -> None:
        self._tick = tick
        self._log = log
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin; call it once, in the event loop."""
        self._timer = asyncio.get_running_loop().call_later(GRANULARITY_SECONDS, self._on_time)

    def stop(self) -> None:
        """Call no more; harmless where it has not begun."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        try:
            self._tick()
        except Exception:  # noqa: BLE001 - the border: logged with traceback, and the next comes
            self._log.exception("tick_failed")
        if self._timer is not None:
            self.start()
