"""A window: a bounded number of operations is under way, and each one beyond waits for its turn.

An operation waits for its turn as long as others make progress. Without progress for a while, all
that wait fail in the same moment, and not one window after another.
"""

import asyncio
import contextlib
import time
from collections import deque


class FairSemaphore:
    """A semaphore whose places are given in order, and without a wait where one is free. One event
    loop uses it."""

    def __init__(self, number: int) -> None:
        """Args:
        number: of places.
        """
        self._free = number
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def all_taken(self) -> bool:
        """Whether a caller would have to wait now."""
        return not self._free

    def take(self) -> bool:
        """Take a free place, to be returned by `give_back`; return False where there is none."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def wait(self, seconds: float) -> None:
        """Take a place as soon as one is free; raise `TimeoutError` after `seconds`."""
        if self.take():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(seconds):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                # The place was handed over in the same turn of the loop.
                self.give_back()
            else:
                with contextlib.suppress(ValueError):
                    self._waiting.remove(turn)
            raise

    def give_back(self) -> None:
        """Return the place, or hand it to the caller that waits longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Window:
    """Turns with patience that lasts while there is progress. One event loop uses it."""

    def __init__(self, size: int, *, patience_seconds: float) -> None:
        """Args:
        size: how many may be under way.
        patience_seconds: a turn is waited for so long without progress.
        """
        self._turns = FairSemaphore(size)
        self._patience_seconds = patience_seconds
        self._progress_at = 0.0

    def progressed(self) -> None:
        """Note progress, which extends the patience of those that wait."""
        self._progress_at = time.monotonic()

    @property
    def is_full(self) -> bool:
        return self._turns.all_taken

    def try_enter(self) -> bool:
        """Enter without a wait; return False where that is not possible."""
        return self._turns.take()

    async def enter(self) -> None:
        """Wait for a turn, to be returned by `leave`; raise `TimeoutError`."""
        if self._turns.take():
            return
        since = time.monotonic()
        while True:
            until = max(since, self._progress_at) + self._patience_seconds
            if (seconds := until - time.monotonic()) <= 0:
                raise TimeoutError
            with contextlib.suppress(TimeoutError):
                await self._turns.wait(seconds)
                return

    def leave(self) -> None:
        self._turns.give_back()
