"""A window: so many things are under way at once, and each one beyond waits for its turn.

A turn is waited for as long as things get done. Where nothing gets done for a while, all that wait
are given up in the same moment, and not one window after another.
"""

import asyncio
import contextlib
import time


class Window:
    """Used in one event loop."""

    def __init__(self, size: int, *, patience_seconds: float) -> None:
        """Args:
        size: how many may be under way.
        patience_seconds: a turn is waited for so long without progress.
        """
        self._turns = asyncio.Semaphore(size)
        self._patience_seconds = patience_seconds
        self._progress_at = 0.0

    def progressed(self) -> None:
        """Something got done: it is worth waiting on."""
        self._progress_at = time.monotonic()

    @property
    def is_full(self) -> bool:
        return self._turns.locked()

    async def enter(self) -> None:
        """Wait for a turn, to be given back by `leave`; raise `TimeoutError`."""
        if not self.is_full:
            await self._turns.acquire()
            return
        since = time.monotonic()
        while True:
            until = max(since, self._progress_at) + self._patience_seconds
            if (seconds := until - time.monotonic()) <= 0:
                raise TimeoutError
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._turns.acquire()
                    return

    def leave(self) -> None:
        self._turns.release()
