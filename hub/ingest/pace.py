"""A bounded rate, spread evenly; an unused part is not saved up."""

import asyncio
import time
from collections.abc import Awaitable, Callable

# Ten requests a second at any rate below 2,500/s; above it 250 lines fill a request.
_REQUESTS_PER_SECOND = 10
MAX_LINES = 250


class Pace:
    """Let `rate` lines a second through.

    Args:
        rate: Lines per second, above 0.
        clock: Seconds that only rise.
        sleep: As `asyncio.sleep`.
    """

    def __init__(
        self,
        rate: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._next_at = clock()

    @property
    def lines(self) -> int:
        """The number of lines in one request."""
        return max(1, min(MAX_LINES, int(self._rate / _REQUESTS_PER_SECOND)))

    async def wait(self, lines: int) -> None:
        """Wait until `lines` more may go."""
        wait_seconds = self._next_at - self._clock()
        if wait_seconds > 0:
            await self._sleep(wait_seconds)
        self._next_at = max(self._next_at, self._clock()) + lines / self._rate
