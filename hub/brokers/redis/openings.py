"""Who waits for a channel to be opened."""

import asyncio

from hub.brokers.redis.tracking import Tracker
from hub.core.ports import OnOpen


class Openings:
    """One of the callers of each channel is given its head, then all of them go on."""

    def __init__(self) -> None:
        self._waiting: dict[Tracker, dict[asyncio.Future[None], OnOpen]] = {}

    def waits(self, tracker: Tracker) -> bool:
        return tracker in self._waiting

    async def wait(self, tracker: Tracker, on_open: OnOpen) -> None:
        """Return once the channel is open; a caller that is cancelled is as if never there."""
        done = asyncio.get_running_loop().create_future()
        callers = self._waiting.setdefault(tracker, {})
        callers[done] = on_open
        try:
            await done
        finally:
            callers.pop(done, None)
            if not callers:
                self._waiting.pop(tracker, None)

    def opened(self, tracker: Tracker) -> None:
        """The tracker knows its head."""
        living = [pair for pair in self._waiting.get(tracker, {}).items() if not pair[0].done()]
        if living:
            living[0][1](tracker.position)
        for done, _ in living:
            done.set_result(None)

    def fail(self, tracker: Tracker, error: Exception) -> None:
        """It will not be opened here."""
        for done in self._waiting.get(tracker, {}):
            if not done.done():
                done.set_exception(error)
