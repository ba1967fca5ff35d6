"""Background work that its owner can end before the node ends everything."""

import asyncio
from collections.abc import Coroutine

from hub.core.ports import Spawn


class Tasks:
    """Runs coroutines by the node's `spawn` until they end or `stop` ends them."""

    def __init__(self, spawn: Spawn) -> None:
        self._spawn = spawn
        self._running: set[asyncio.Task[object]] = set()

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """A `hub.core.ports.Spawn`."""
        self._spawn(self._run(work))

    async def _run(self, work: Coroutine[object, object, None]) -> None:
        if (task := asyncio.current_task()) is not None:
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        await work

    async def stop(self) -> None:
        """Cancel what runs and wait for its end."""
        for task in tuple(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
