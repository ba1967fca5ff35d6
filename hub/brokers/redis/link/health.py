"""The health of one Redis, checked again and again: it carries messages, and it takes writes.

The canary is a small message that travels publish -> Redis -> deliver. A frozen Redis gives neither
message nor error, a demoted one answers and has nothing to send, and a connection may be open at
one end only. So only a canary that arrives shows that the server carries messages. A node where
none has arrived for `canary_deadline_seconds` is not ready: at another node one may arrive.

The write check calls a function that may write and does nothing. A Redis whose memory is full
(OOM), that cannot save its data (MISCONF) or lacks the replicas it should have (NOREPLICAS) answers
everything else. Publishers get 503, and the node stays *ready*: all nodes share that Redis, so
sending subscribers away from one node, or from all, would help nobody, and would end sessions that
go on reading. Operators see the refusal in the node's record, the dashboard and `hub nodes`, as a
metric with an alert, and in the log.
"""

import asyncio
import contextlib
import secrets

from structlog.typing import FilteringBoundLogger

from hub.brokers.redis.link.calls import CallConnection
from hub.brokers.redis.link.outcomes import (
    REFUSE_WRITING,
    RedisCallError,
    RedisNotSentError,
    RefusedError,
)
from hub.brokers.redis.link.pubsub import PubSubConnection
from hub.brokers.redis.options import RedisOptions
from hub.core.ports import Monotonic


class Canary:
    """Sends canaries through one subscriber connection, which has to subscribe to `name`."""

    def __init__(
        self,
        *,
        calls: CallConnection,
        pubsub: PubSubConnection,
        options: RedisOptions,
        clock: Monotonic,
    ) -> None:
        self._calls = calls
        self._pubsub = pubsub
        self._options = options
        self._clock = clock
        self.name = options.keys.canary(secrets.token_hex(8)).encode()
        self._number = 0
        self._sent_at_seconds = 0.0
        self._began_at_seconds = clock()
        self._heard_at_seconds: float | None = None
        self._unheard_since_seconds: float | None = None
        """When the oldest canary was sent since the last one was heard."""
        self.round_trip_seconds: float | None = None
        """Round trip of the newest canary that was heard."""
        self._now = asyncio.Event()

    @property
    def age_seconds(self) -> float:
        """Return the seconds since a canary was heard, or since the start."""
        heard = self._heard_at_seconds
        return self._clock() - (self._began_at_seconds if heard is None else heard)

    @property
    def is_late(self) -> bool:
        """Return whether a canary should have been heard by now."""
        return self.age_seconds > self._options.canary_deadline_seconds

    def problem(self) -> str | None:
        """Return why this connection cannot be relied on; None when it carries messages."""
        if self._heard_at_seconds is None:
            return "no canary was heard yet"
        if self.is_late:
            return f"no canary was heard for {self.age_seconds:.1f} s"
        return None

    def hear(self, message: bytes) -> None:
        """Take a canary that arrived."""
        self._heard_at_seconds = self._clock()
        self._unheard_since_seconds = None
        if message == b"%d" % self._number:
            self.round_trip_seconds = self._heard_at_seconds - self._sent_at_seconds

    def hurry(self) -> None:
        """Send the next canary now: there is a new connection."""
        self._now.set()

    async def run(self) -> None:
        """Send canaries, for ever; drop the subscriber's connection when it is deaf."""
        while True:
            await self._send()
            if self._is_overdue():
                self._pubsub.drop("deaf: no canary was heard on it")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.canary_seconds):
                    await self._now.wait()
            self._now.clear()

    async def _send(self) -> None:
        listening = self._pubsub.hears(self.name)
        connects = self._pubsub.connects
        self._number += 1
        self._sent_at_seconds = self._clock()
        try:
            receivers = await self._calls.call("PUBLISH", self.name, self._number)
        except RedisNotSentError:
            return
        except RedisCallError:
            self._note_unheard()
            return
        self._note_unheard()
        if receivers == 0 and listening and connects == self._pubsub.connects:
            # The two connections lead to different servers, or one end of the pub/sub connection is
            # gone. SUBSCRIBE may also just be on its way: the barrier tells, because it stands
            # behind it.
            await self._ask_again()

    def _note_unheard(self) -> None:
        """Wait for the canary that was sent, unless it came back already."""
        heard = self._heard_at_seconds
        if self._unheard_since_seconds is None and (heard is None or heard < self._sent_at_seconds):
            self._unheard_since_seconds = self._sent_at_seconds

    async def _ask_again(self) -> None:
        try:
            await self._pubsub.barrier()
            receivers = await self._calls.call("PUBLISH", self.name, self._number)
        except RedisCallError:
            return
        if receivers == 0:
            self._pubsub.drop("deaf: Redis does not know its subscription")

    def _is_overdue(self) -> bool:
        since = self._unheard_since_seconds
        if since is None or not self._pubsub.up.is_set():
            return False
        # A new connection has its own time to show what it can do.
        since = max(since, self._pubsub.connected_at_seconds)
        return self._clock() - since > self._options.canary_deadline_seconds


class WriteCheck:
    """Asks one server again and again whether it takes writes."""

    def __init__(
        self, *, calls: CallConnection, options: RedisOptions, log: FilteringBoundLogger
    ) -> None:
        self._calls = calls
        self._options = options
        self._log = log
        self.refusal = ""
        """Why Redis takes no writes, in its words; empty where it does, or cannot be asked."""

    async def run(self) -> None:
        """Check again and again, for ever."""
        while True:
            self._set(await self._ask())
            await asyncio.sleep(self._options.canary_seconds)

    async def _ask(self) -> str:
        try:
            await self._calls.run_function("writable", (), (self._options.keys.stem("x"),))
        except RefusedError as error:
            return str(error) if error.code in REFUSE_WRITING else ""
        except RedisCallError:
            return ""
        return ""

    def _set(self, refusal: str) -> None:
        if bool(refusal) != bool(self.refusal):
            if refusal:
                self._log.warning("redis_takes_no_publications", reason=refusal)
            else:
                self._log.info("redis_takes_publications_again")
        self.refusal = refusal
