"""A node on a history file, without a hub around it."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Self

import structlog

from hub.brokers.sqlite.broker import SqliteBroker
from hub.brokers.sqlite.context import SqliteContext, SqliteOptions
from hub.core.counters import Counters
from hub.core.options import Namespaces
from tests.brokers.conftest import NAMESPACES
from tests.brokers.rig import Rig
from tests.core.fakes import FakeClock

OPTIONS = SqliteOptions(
    path="",
    position_ttl_seconds=7 * 86400,
    idempotency_ttl_seconds=300,
    idempotency_max_keys=1000,
    max_channels=100,
    history_total_bytes=1 << 30,
)


class StoredNode(Rig):
    """Notes what the broker hands down, and what it logs."""

    def __init__(
        self,
        path: Path,
        *,
        clock: FakeClock | None = None,
        namespaces: Namespaces = NAMESPACES,
        **options: float,
    ) -> None:
        super().__init__(clock or FakeClock())
        self.logged = structlog.testing.LogCapture()
        self.counters = Counters()
        self._tasks: set[asyncio.Task[None]] = set()
        self.broker = self.stored = SqliteBroker(
            SqliteContext(
                downstream=self,
                namespaces=namespaces,
                clock=self.clock,
                wall_clock=self.clock.wall,
                spawn=self._spawn,
                log=structlog.wrap_logger(None, processors=[self.logged]),
                counters=self.counters,
                options=replace(OPTIONS, path=str(path), **options),  # type: ignore[arg-type]  # numbers
            )
        )
        self.forget = self._forget

    def a_second_passes(self) -> None:
        """Call `sweep` as often as a node does in a second."""
        for _ in range(20):
            self.stored.sweep()

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _forget(self, channel: str) -> None:
        memory = self.stored._commits.memory
        assert memory is not None
        memory._forget(memory._logs[channel])

    async def __aenter__(self) -> Self:
        await self.stored.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stored.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def events(self) -> list[str]:
        return [entry["event"] for entry in self.logged.entries]
