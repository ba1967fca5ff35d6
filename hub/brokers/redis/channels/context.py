"""What every part of a shard is handed, and the work that it runs in the background."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from hub.brokers.redis.options import RedisOptions
from hub.brokers.tracker import HoldBudget
from hub.core.counters import Counters
from hub.core.options import Namespaces
from hub.core.ports import Downstream, Monotonic, Spawn


@dataclass(frozen=True, slots=True)
class ShardContext:
    namespaces: Namespaces
    options: RedisOptions
    downstream: Downstream
    clock: Monotonic
    wall_clock: Callable[[], float]
    """Seconds since 1970 UTC."""
    spawn: Spawn
    """Runs a coroutine until it ends or the shard stops."""
    log: FilteringBoundLogger
    counters: Counters
    hold_budget: HoldBudget


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
