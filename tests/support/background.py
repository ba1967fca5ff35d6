"""Background work that goes on beside a test, from `async with` to its end."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Self


async def run_until(enough: Callable[[], bool], work: Coroutine[None, None, None]) -> None:
    """Run work that does not end by itself until `enough()`, then cancel it."""
    task = asyncio.create_task(work)
    async with asyncio.timeout(30):
        while not enough() and not task.done():
            await asyncio.sleep(0)
    assert not task.done(), task
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


class Background:
    """Runs `run` in a task of its own; a subclass defines `run`."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        raise NotImplementedError

    async def begin(self) -> None:
        """Does what is needed before the block begins; nothing by default."""

    async def __aenter__(self) -> Self:
        await self.begin()
        self._task = asyncio.create_task(self.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def finished(self) -> None:
        """Wait until `run` ends by itself; raise what it raised."""
        assert self._task is not None
        await self._task
