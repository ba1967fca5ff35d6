"""A window: so many things are under way at once, and each one beyond waits for its turn.

A turn is waited for as long as things get done. Where nothing gets done for a while, all that wait
are given up in the same moment, and not one window after another.
"""

import asyncio
import contextlib
import time
from collections import deque


class Turns:
    """Used in one event loop. Whoever came first gets the next place."""

    def __init__(self, number: int) -> None:
        """Args:
        number: of places.
        """
        self._free = number
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def all_taken(self) -> bool:
        """Whether somebody who comes now has to wait."""
        return not self._free

    def take(self) -> bool:
        """Take a free place, to be given back by `give_back`; False where there is none."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def wait(self, seconds: float) -> None:
        """Take a place as soon as there is one; raise `TimeoutError` after `seconds`."""
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
        """Hand the place on to whoever waits longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Window:
    """Used in one event loop."""

    def __init__(self, size: int, *, patience_seconds: float) -> None:
        """Args:
        size: how many may be under way.
        patience_seconds: a turn is waited for so long without progress.
        """
        self._turns = Turns(size)
        self._patience_seconds = patience_seconds
        self._progress_at = 0.0

    def progressed(self) -> None:
        """Something got done: it is worth waiting on."""
        self._progress_at = time.monotonic()

    @property
    def is_full(self) -> bool:
        return self._turns.all_taken

    def try_enter(self) -> bool:
        """As `enter`, where nobody has to wait; False where somebody has to."""
        return self._turns.take()

    async def enter(self) -> None:
        """Wait for a turn, to be given back by `leave`; raise `TimeoutError`."""
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
