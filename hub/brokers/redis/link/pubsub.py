"""The connection that pub/sub messages come in on.

Redis-py's `PubSub` reconnects silently, so this reads its own connection: every loss is seen,
and the lost publications are asked for. Subscribing and unsubscribing is collected per
iteration of the event loop and sent in batches.
"""

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Protocol

from redis.asyncio.connection import AbstractConnection

from hub.brokers.redis.link.connection import Connector, connect, pack
from hub.brokers.redis.link.outcomes import LostError, RedisNoAnswerError, RedisNotSentError
from hub.core.eager import NEXT_TURN
from hub.observe.background import until_one_ends

OnMessage = Callable[[bytes], None]


class PubSub(Protocol):
    """The methods of a `PubSubConnection` that others use."""

    def add(self, name: bytes) -> None: ...

    def remove(self, name: bytes) -> None: ...

    def hears(self, name: bytes) -> bool: ...

    async def barrier(self) -> None: ...


class Listeners:
    """Hands the messages of one server to those that listen to a name."""

    def __init__(self, pubsub: PubSub) -> None:
        self._pubsub = pubsub
        self._by_name: dict[bytes, OnMessage] = {}
        self._on_heard: dict[bytes, Callable[[], None]] = {}

    def listen(
        self, name: bytes, on_message: OnMessage, *, on_heard: Callable[[], None] | None = None
    ) -> None:
        """Give `on_message` the messages of `name`. Harmless when repeated.

        `on_heard` is called each time that Redis begins to send it: earlier messages may
        have been missed.
        """
        if name not in self._by_name:
            self._by_name[name] = on_message
            if on_heard is not None:
                self._on_heard[name] = on_heard
            self._pubsub.add(name)

    def ignore(self, name: bytes) -> None:
        """End what `listen` began."""
        if self._by_name.pop(name, None) is not None:
            self._on_heard.pop(name, None)
            self._pubsub.remove(name)

    def heard(self, names: Sequence[bytes]) -> None:
        """Tell the listeners of these names that Redis sends them."""
        for name in names:
            if (on_heard := self._on_heard.get(name)) is not None:
                on_heard()

    def receive(self, name: bytes, raw: bytes) -> bool:
        """Give a message to the listener of `name`; return whether there is one."""
        if (on_message := self._by_name.get(name)) is None:
            return False
        on_message(raw)
        return True


class PubSubConnection:
    """Receives the pub/sub messages of one server.

    Args:
        on_message: gets the pub/sub channel and the message.
        on_subscribed: gets the pub/sub channels that Redis confirmed since the last call.
    """

    def __init__(
        self,
        connector: Connector,
        *,
        on_message: Callable[[bytes, bytes], None],
        on_subscribed: Callable[[Sequence[bytes]], None],
    ) -> None:
        self._connector = connector
        self._options = connector.options
        self._on_message = on_message
        self._on_subscribed = on_subscribed
        self._wanted: dict[bytes, None] = {}
        self._asked: set[bytes] = set()
        """Names that Redis was last told to send on this connection."""
        self._heard: set[bytes] = set()
        """Those of them that Redis has confirmed."""
        self._changed: dict[bytes, None] = {}
        self._confirmed: list[bytes] = []
        self._wake = asyncio.Event()
        self._dropped = asyncio.Event()
        self._why_dropped = ""
        self._barriers: dict[bytes, asyncio.Future[None]] = {}
        self._to_ping: list[bytes] = []
        self._barrier_number = 0
        self.up = asyncio.Event()
        self.connects = 0
        self.connected_at_seconds = 0.0

    def add(self, name: bytes) -> None:
        """Subscribe, now or when there is a connection, and again on each new one."""
        self._wanted[name] = None
        if name in self._heard:
            # It was removed a moment ago, and Redis was not told: it will confirm nothing.
            self._confirm(name)
        self._change(name)

    def remove(self, name: bytes) -> None:
        self._wanted.pop(name, None)
        self._change(name)

    def hears(self, name: bytes) -> bool:
        """Return whether Redis has confirmed on this connection that it sends the channel."""
        return name in self._heard

    def drop(self, why: str) -> None:
        """Give this connection up and make a new one."""
        self._why_dropped = why
        self._dropped.set()

    async def barrier(self) -> None:
        """Return when all messages that Redis had published before have been delivered here.

        An answer to PING stands behind all messages that were written before it. Raises
        `RedisNotSentError` when the connection is not there or is lost before, `RedisNoAnswerError`
        after `command_timeout_seconds`.
        """
        if not self.up.is_set():
            raise RedisNotSentError("the subscriber is not connected")
        self._barrier_number += 1
        token = b"%d" % self._barrier_number
        passed = self._barriers[token] = asyncio.get_running_loop().create_future()
        self._to_ping.append(token)
        self._wake.set()
        try:
            async with asyncio.timeout(self._options.command_timeout_seconds):
                await passed
        except TimeoutError:
            raise RedisNoAnswerError("the subscriber's connection does not answer") from None
        finally:
            self._barriers.pop(token, None)

    # -- the connection's life ---------------------------------------------------------------

    async def run(self) -> None:
        """Be connected, for ever."""
        await self._connector.keep_up(self._use, role="subscriber", on_lost=self._on_lost)

    async def _use(self, connection: AbstractConnection) -> None:
        async with asyncio.timeout(self._options.connect_timeout_seconds):
            await connect(connection)
        self._on_up()
        await until_one_ends(
            self._write(connection),
            self._read(connection),
            self._drop(),
            self._connector.endpoint.left(connection),
        )

    def _on_up(self) -> None:
        self._dropped.clear()
        self._asked.clear()
        self._changed = dict(self._wanted)
        self.connects += 1
        self._connector.counters.broker_connects["subscriber"] += 1
        self.connected_at_seconds = self._connector.clock()
        self.up.set()
        self._wake.set()

    def _on_lost(self, why: str) -> None:
        self.up.clear()
        self._asked.clear()
        self._heard.clear()
        self._changed.clear()
        self._to_ping.clear()
        for passed in self._barriers.values():
            if not passed.done():
                passed.set_exception(
                    RedisNotSentError(f"the subscriber lost its connection: {why}")
                )

    async def _drop(self) -> None:
        await self._dropped.wait()
        raise LostError(self._why_dropped)

    # -- commands ----------------------------------------------------------------------------

    def _change(self, name: bytes) -> None:
        # A new connection subscribes to the names wanted by then: no change waits for it.
        if self.up.is_set():
            self._changed[name] = None
            self._wake.set()

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._changed or self._to_ping:
                pings, self._to_ping = self._to_ping, []
                for command in self._calls(self._some_changed()):
                    await connection.send_packed_command(command, check_health=False)
                for token in pings:
                    await connection.send_packed_command(pack("PING", token), check_health=False)
                await NEXT_TURN

    def _some_changed(self) -> Sequence[bytes]:
        """Take changed names for one turn, oldest first. A new connection changes all of them."""
        some = tuple(islice(self._changed, self._options.batch_size))
        for name in some:
            del self._changed[name]
        return some

    def _calls(self, changed: Sequence[bytes]) -> Iterator[bytes]:
        """Yield the commands that make Redis send the wanted channels, and no others."""
        start = [name for name in changed if name in self._wanted and name not in self._asked]
        stop = [name for name in changed if name not in self._wanted and name in self._asked]
        self._asked.update(start)
        self._asked.difference_update(stop)
        self._heard.difference_update(stop)
        for verb, names in (("SUBSCRIBE", start), ("UNSUBSCRIBE", stop)):
            if names:
                yield pack(verb, *names)

    # -- messages ----------------------------------------------------------------------------

    async def _read(self, connection: AbstractConnection) -> None:
        replies = 0
        while True:
            reply = await connection.read_response(timeout=math.inf, disconnect_on_error=False)
            replies += 1
            if replies % self._options.replies_at_once == 0:
                await NEXT_TURN
            if reply[0] == b"message":
                self._message(reply[1], reply[2])
            elif reply[0] == b"subscribe":
                self._subscribed(reply[1])
            elif reply[0] == b"pong" and reply[1] in self._barriers:
                self._passed(self._barriers[reply[1]])

    @staticmethod
    def _passed(barrier: asyncio.Future[None]) -> None:
        if not barrier.done():
            barrier.set_result(None)

    def _message(self, name: bytes, message: bytes) -> None:
        try:
            self._on_message(name, message)
        except Exception:
            self._connector.log.exception("redis_message_failed")

    def _subscribed(self, name: bytes) -> None:
        if name in self._asked:
            self._heard.add(name)
        self._confirm(name)

    def _confirm(self, name: bytes) -> None:
        if not self._confirmed:
            asyncio.get_running_loop().call_soon(self._flush_confirmed)
        self._confirmed.append(name)

    def _flush_confirmed(self) -> None:
        confirmed, self._confirmed = self._confirmed, []
        self._on_subscribed(confirmed)
