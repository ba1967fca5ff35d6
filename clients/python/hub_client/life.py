"""One connection's own state, from its welcome to its end."""

import asyncio
import time
from collections import deque

from hub_client.opening import Opened
from hub_client.session import Leaving
from hub_client.timing import ReconnectTiming
from hub_client.transport import ABNORMAL_CLOSE, DisconnectedError

# Where a welcome tells none: the hub's default.
_HEARTBEAT_SECONDS = 25.0


class Life:
    """One connection from its welcome to its end."""

    def __init__(self, opened: Opened) -> None:
        self.connection = opened.connection
        told = opened.welcome.heartbeat_seconds
        self.heartbeat_seconds = told if told > 0 else _HEARTBEAT_SECONDS
        self.goodbye: Leaving | None = None
        self.leave_at: float | None = None
        self._started = time.monotonic()
        self._outgoing: deque[tuple[int, bytes]] = deque()
        self._may_send = True
        self._changed = asyncio.Event()
        self._held = deque(opened.held)
        self._receiving: asyncio.Task[bytes] | None = None

    async def receive(self) -> bytes:
        """The next frame, b"" for a sign of life; raise `DisconnectedError` at the end."""
        if self._held:
            return self._held.popleft()
        if self._receiving is None:
            return await self.connection.receive()
        frame = await self._receiving
        self._receiving = None
        return frame

    async def look(self, seconds: float) -> bytes | None:
        """As `receive`, or None where nothing comes in time. A `receive` that is cancelled
        may cut a stream short; this is for whoever wants to look again."""
        if self._held:
            return self._held.popleft()
        if self._receiving is None:
            self._receiving = asyncio.create_task(self.connection.receive())
        await asyncio.wait({self._receiving}, timeout=seconds)
        if not self._receiving.done():
            return None
        ended, self._receiving = self._receiving, None
        return ended.result()

    def hold(self, frames: list[bytes]) -> None:
        """What `look` gave, to come again before all else."""
        self._held.extendleft(reversed(frames))

    @property
    def may_send(self) -> bool:
        """False while another connection is about to go on for this one."""
        return self._may_send

    @may_send.setter
    def may_send(self, may_send: bool) -> None:
        self._may_send = may_send
        self._changed.set()

    def queue(self, command: tuple[int, bytes]) -> None:
        """An id and the bytes to send."""
        self._outgoing.append(command)
        self._changed.set()

    async def next_command(self) -> tuple[int, bytes]:
        """What to send now. Until it returns the command is among those of `unsent`."""
        while not self._may_send or not self._outgoing:
            self._changed.clear()
            await self._changed.wait()
        return self._outgoing.popleft()

    @property
    def unsent(self) -> tuple[tuple[int, bytes], ...]:
        """The commands that wait here."""
        return tuple(self._outgoing)

    async def close(self) -> None:
        """End the connection in bounded time; raises nothing. Harmless when called twice."""
        try:
            if self._receiving is not None:
                self._receiving.cancel()
                # Its outcome is taken, or asyncio would complain that nobody did.
                await asyncio.gather(self._receiving, return_exceptions=True)
        finally:
            await self.connection.close()

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
