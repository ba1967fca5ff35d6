"""A window: so many things are under way at once, and each one beyond waits for its turn.

A turn is waited for as long as things get done. Where nothing gets done for a while, all that wait
are given up in the same moment, and not one window after another.
"""

import contextlib
import time

from hub_client.turns import Turns


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
