"""A small message that travels publish -> Redis -> deliver, again and again.

A frozen Redis gives neither message nor error, a demoted one answers and has nothing to send,
and a connection may be open at one end only. What was heard tells; nothing else does.
"""

import asyncio
import contextlib
import secrets

from hub.brokers.redis.commands import Commands
from hub.brokers.redis.failures import CallError, NotSentError
from hub.brokers.redis.options import RedisOptions
from hub.brokers.redis.subscriber import Subscriber
from hub.core.ports import Monotonic


class Canary:
    """One per subscriber connection. `name` is to be subscribed there."""

    def __init__(
        self,
        *,
        commands: Commands,
        subscriber: Subscriber,
        options: RedisOptions,
        clock: Monotonic,
    ) -> None:
        self._commands = commands
        self._subscriber = subscriber
        self._options = options
        self._clock = clock
        self.name = options.keys.canary(secrets.token_hex(8)).encode()
        self._number = 0
        self._sent_at_seconds = 0.0
        self._began_at_seconds = clock()
        self._heard_at_seconds: float | None = None
        self._unheard_since_seconds: float | None = None
        """When the oldest was sent of those that were sent since the last one was heard."""
        self.round_trip_seconds: float | None = None
        """Of the newest one that was heard."""
        self._now = asyncio.Event()

    @property
    def age_seconds(self) -> float:
        """Since one was heard, or since there was nothing to hear."""
        heard = self._heard_at_seconds
        return self._clock() - (self._began_at_seconds if heard is None else heard)

    def problem(self) -> str | None:
        """Why nothing should rely on this connection; None when it carries."""
        if self._heard_at_seconds is None:
            return "no canary was heard yet"
        if self.age_seconds > self._options.canary_deadline_seconds:
            return f"no canary was heard for {self.age_seconds:.1f} s"
        return None

    def hear(self, message: bytes) -> None:
        """One arrived."""
        self._heard_at_seconds = self._clock()
        self._unheard_since_seconds = None
        if message == b"%d" % self._number:
            self.round_trip_seconds = self._heard_at_seconds - self._sent_at_seconds

    def hurry(self) -> None:
        """Send the next one now: there is a new connection."""
        self._now.set()

    async def run(self) -> None:
        """Send them, for ever; drop the subscriber's connection when it is deaf."""
        while True:
            await self._send()
            if self._is_overdue():
                self._subscriber.drop("deaf: no canary was heard on it")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.canary_seconds):
                    await self._now.wait()
            self._now.clear()

    async def _send(self) -> None:
        listening = self._subscriber.hears(self.name)
        connects = self._subscriber.connects
        self._number += 1
        self._sent_at_seconds = self._clock()
        try:
            receivers = await self._commands.call("PUBLISH", self.name, self._number)
        except NotSentError:
            return
        except CallError:
            self._note_unheard()
            return
        self._note_unheard()
        if receivers == 0 and listening and connects == self._subscriber.connects:
            # Commands and subscriber are connected to different servers, or one end of the
            # subscriber's connection is gone. SUBSCRIBE may also just be on its way: the
            # barrier tells, because it stands behind it.
            await self._ask_again()

    def _note_unheard(self) -> None:
        """It was sent; unless it came back already it is being waited for."""
        heard = self._heard_at_seconds
        if self._unheard_since_seconds is None and (heard is None or heard < self._sent_at_seconds):
            self._unheard_since_seconds = self._sent_at_seconds

    async def _ask_again(self) -> None:
        try:
            await self._subscriber.barrier()
            receivers = await self._commands.call("PUBLISH", self.name, self._number)
        except CallError:
            return
        if receivers == 0:
            self._subscriber.drop("deaf: Redis does not know its subscription")

    def _is_overdue(self) -> bool:
        since = self._unheard_since_seconds
        if since is None or not self._subscriber.up.is_set():
            return False
        # A new connection has its own time to show what it can do.
        since = max(since, self._subscriber.connected_at_seconds)
        return self._clock() - since > self._options.canary_deadline_seconds
