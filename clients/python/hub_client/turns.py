"""So many at once: a semaphore whose free place can be taken without a wait, and in order."""

import asyncio
import contextlib
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
