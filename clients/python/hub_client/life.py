"""One connection's own state, from its welcome to its end."""

import asyncio
import time

from hub_client.opening import Opened
from hub_client.session import Leaving
from hub_client.timing import ReconnectTiming
from hub_client.transport import ABNORMAL_CLOSE, DisconnectedError


class Life:
    """One connection from its welcome to its end."""

    def __init__(self, opened: Opened) -> None:
        self.connection = opened.connection
        self.heartbeat_seconds = opened.welcome.heartbeat_seconds
        self.outgoing: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self.answered = asyncio.Event()
        """The hub has shown that it hears this side too."""
        self.goodbye: Leaving | None = None
        self.leave_at: float | None = None
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def until_leaving(self) -> float | None:
        """Seconds until the moment drawn from the goodbye's window; None without one."""
        return None if self.leave_at is None else max(0.0, self.leave_at - time.monotonic())

    def patience(self, timing: ReconnectTiming) -> tuple[float, str]:
        """Seconds to wait for the next frame, and why the connection ends without one."""
        silence = timing.missed_heartbeats * self.heartbeat_seconds
        leaving = self.until_leaving()
        if leaving is not None and leaving < silence:
            return leaving, "left as asked"
        return silence, f"no frame in {silence:g} seconds"

    def verdict(self, end: DisconnectedError) -> DisconnectedError:
        """The goodbye's code where the transport has no close codes of its own."""
        if self.goodbye is None or end.code != ABNORMAL_CLOSE:
            return end
        return DisconnectedError(self.goodbye.code, self.goodbye.reason)
