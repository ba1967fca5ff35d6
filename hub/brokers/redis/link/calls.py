"""The connection for calls and their answers.

Calls of one iteration of the event loop travel in one write. This module knows of each call whether
it was handed to the socket, so a publisher learns whether its publication may have been made. While
there is no connection every call fails at once, and none waits for a Redis that is away.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from hub.brokers.redis.link.connection import Connector, connect, pack
from hub.brokers.redis.link.library import Argument, Command
from hub.brokers.redis.link.outcomes import (
    Answer,
    LostError,
    RedisCall,
    RedisCallError,
    RedisNoAnswerError,
    RedisNotSentError,
    RefusedError,
)
from hub.brokers.redis.link.replication import ReplicationLine
from hub.core.eager import NEXT_TURN
from hub.observe.background import until_one_ends

# Calls are searched for others about the same key; behind more of them none waits. A guess.
_LOOKED_THROUGH = 100
_ASKING = pack("ASKING")
_PING = pack("PING")
# A full Redis refuses every publication: its error is logged so often at most. A guess.
_SECONDS_BETWEEN_WARNINGS = 60.0


class CallConnection:
    """Calls one server. `call` from the loop that `run` runs in.

    Args:
        line: is entered on each new connection.
        on_up: is called when calls are taken (again).
    """

    def __init__(
        self, connector: Connector, *, line: ReplicationLine, on_up: Callable[[], None]
    ) -> None:
        self._connector = connector
        self._endpoint = connector.endpoint
        self._line = line
        self._library = line.library
        self._options = connector.options
        self._clock = connector.clock
        self._counters = connector.counters
        self._on_up = on_up
        self._unsent: deque[RedisCall] = deque()
        self._unanswered: deque[RedisCall] = deque()
        self._failing: deque[tuple[deque[RedisCall], RedisCallError]] = deque()
        """Calls of a connection that ended, which have still to fail."""
        self._bytes = 0
        self._wake = asyncio.Event()
        self._refusing = "not connected yet"
        """Why no call is taken; empty while calls are taken."""
        self._leaving = ""
        """Why the connection ends as soon as the sent calls are answered."""
        self._warned_at_seconds = -math.inf
        self._entered = False
        """Whether the server was writable enough to be in its line."""
        self._confirmed_at_seconds = 0.0
        """When the server was last known to be the right one."""
        self.up = asyncio.Event()
        self.connects = 0

    @property
    def pending(self) -> int:
        """Return how many calls have no answer yet."""
        return len(self._unsent) + len(self._unanswered)

    @property
    def trouble(self) -> str:
        """Return why calls are refused; empty when they are not."""
        return self._refusing

    def call(self, *command: Argument) -> Answer:
        """Make a call, in the order of calls; return its answer as a future.

        The call raises `RedisNoAnswerError`, `RedisNotSentError` or `RefusedError`, no later than
        `command_timeout_seconds` and a quarter of it from now.

        Raises:
            RedisNotSentError: there is no connection, or too much is waiting already.
        """
        self.check_up()
        return self._enqueue(pack(*command))

    def run_function(self, name: str, keys: Command, arguments: Command) -> Answer:
        """`call` of one of the library's functions."""
        self.check_up()
        if not self._entered:
            self._enter()
        packed = pack(*self._library.call(name, keys, arguments))
        return self._enqueue(packed, about=str(keys[0]) if keys else "", keys=len(keys))

    def _enter(self) -> None:
        """Enter the line right before a call that needs it: where one is refused, so is the
        other."""

        def answered(answer: Answer) -> None:
            if not answer.cancelled() and answer.exception() is None:
                self._line.meet(answer.result())
                self._entered = True

        self._enqueue(pack(*self._line.command())).add_done_callback(answered)

    def follow(self, call: RedisCall) -> Answer:
        """Repeat a call that a server of this cluster pointed here; its slot may not be here yet.

        The answer of `call` itself is left alone.
        """
        return self._follow(call.packed)

    def follow_function(self, name: str, keys: Command, arguments: Command) -> Answer:
        """Call like `run_function`, where the slot of the keys may not have come yet."""
        return self._follow(pack(*self._library.call(name, keys, arguments)))

    def _follow(self, packed: bytes) -> Answer:
        self.check_up()
        # Holds for the next call of the connection alone.
        self._enqueue(_ASKING).add_done_callback(asyncio.Future.exception)
        return self._enqueue(packed, followed=True)

    def _enqueue(
        self, packed: bytes, *, about: str = "", keys: int = 0, followed: bool = False
    ) -> Answer:
        self._check_room(len(packed))
        answer: Answer = asyncio.get_running_loop().create_future()
        deadline = self._clock() + self._options.command_timeout_seconds
        self._unsent.append(RedisCall(packed, answer, deadline, about, keys, followed))
        self._bytes += len(packed)
        self._wake.set()
        return answer

    def check_up(self) -> None:
        """Raise `RedisNotSentError` while calls are refused."""
        if self._refusing:
            raise self._not_sent(f"{self._endpoint.name}: {self._refusing}")

    def _check_room(self, size: int) -> None:
        options = self._options
        if self.pending >= options.max_pending_calls:
            raise self._not_sent(f"{self.pending:,} calls wait for {self._endpoint.name}")
        if self._bytes + size > options.max_pending_bytes:
            raise self._not_sent(f"{self._bytes:,} bytes of calls wait for {self._endpoint.name}")

    def _not_sent(self, why: str) -> RedisNotSentError:
        self._counters.broker_call_errors["not_sent"] += 1
        return RedisNotSentError(why)

    # -- the connection's life ---------------------------------------------------------------

    async def run(self) -> None:
        """Be connected, for ever."""
        await self._connector.keep_up(self._use, role="commands", on_lost=self._on_lost)

    async def _use(self, connection: AbstractConnection) -> None:
        async with asyncio.timeout(self._options.connect_timeout_seconds):
            await connect(connection)
            self._entered = await self._line.enter(connection)
        self._take_calls()
        await until_one_ends(
            self._write(connection),
            self._read(connection),
            self._watch(),
            self._beat(),
            self._endpoint.left(connection),
        )

    def _take_calls(self) -> None:
        self._refusing = self._leaving = ""
        self._confirmed_at_seconds = self._clock()
        self.connects += 1
        self._counters.broker_connects["commands"] += 1
        self.up.set()
        self._on_up()

    def _on_lost(self, why: str) -> None:
        """Fail all calls without an answer: whether a call was sent makes the difference."""
        self._refusing = why
        self.up.clear()
        self._endpoint.doubt()
        unanswered, self._unanswered = self._unanswered, deque()
        unsent, self._unsent = self._unsent, deque()
        self._bytes = 0
        self._counters.broker_call_errors["no_answer"] += len(unanswered)
        self._counters.broker_call_errors["not_sent"] += len(unsent)
        no_answer = RedisNoAnswerError(f"{self._endpoint.name} did not answer: {why}")
        not_sent = RedisNotSentError(f"{self._endpoint.name}: {why}")
        self._failing += [(unanswered, no_answer), (unsent, not_sent)]
        self._fail_some()

    def _fail_some(self) -> None:
        """Fail calls of a connection that ended, oldest first, and the others in later turns.

        Each that fails has a caller, who answers a publisher.
        """
        failed = 0
        while self._failing and failed < self._options.failed_at_once:
            calls, error = self._failing[0]
            if calls:
                # An error of its own: each gets the traceback of its caller.
                calls.popleft().fail(type(error)(str(error)))
                failed += 1
            else:
                self._failing.popleft()
        if self._failing:
            asyncio.get_running_loop().call_soon(self._fail_some)

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self._unsent:
                continue
            calls, self._unsent = self._unsent, deque()
            # From here on it is not known which of them arrive.
            self._unanswered.extend(calls)
            await connection.send_packed_command(
                b"".join([call.packed for call in calls]), check_health=False
            )

    async def _read(self, connection: AbstractConnection) -> None:
        replies = 0
        while not self._leaving or self.pending:
            reply: object
            replies += 1
            if replies % self._options.replies_at_once == 0:
                await NEXT_TURN
            try:
                reply = await connection.read_response(timeout=math.inf, disconnect_on_error=False)
            except ResponseError as error:
                reply = error
            if not self._unanswered:
                raise LostError(f"an answer that nobody asked for: {reply!r:.100}")
            if self._endpoint.may_be_replaced:
                await self._confirm_if_late(connection, self._unanswered[0])
            self._answer(self._unanswered.popleft(), reply)
        raise LostError(self._leaving)

    async def _confirm_if_late(self, connection: AbstractConnection, call: RedisCall) -> None:
        """Raise `LostError` where another server took over while this one was silent.

        Its work on `call`, and on those after it, since it woke up is nowhere else.
        """
        asked = max(self._asked_at_seconds(call), self._confirmed_at_seconds)
        if self._clock() - asked > self._options.stall_seconds:
            now = self._clock()
            await self._endpoint.confirm(connection)
            self._confirmed_at_seconds = now

    async def _beat(self) -> None:
        """Keep a call under way all the time: the first answer after a silence is late."""
        while self._endpoint.may_be_replaced:
            await asyncio.sleep(self._options.stall_seconds / 2)
            if not self.pending and not self._refusing:
                self._enqueue(_PING).add_done_callback(asyncio.Future.exception)
        await asyncio.Event().wait()

    def _asked_at_seconds(self, call: RedisCall) -> float:
        return call.deadline_seconds - self._options.command_timeout_seconds

    def _answer(self, call: RedisCall, reply: object) -> None:
        self._bytes -= len(call.packed)
        self._counters.broker_calls.observe(self._clock() - self._asked_at_seconds(call))
        if not isinstance(reply, ResponseError):
            call.succeed(reply)
            return
        refused = RefusedError(reply)
        if refused.points_elsewhere:
            self._endpoint.doubt()
        if refused.needs_reconnect and not self._leaving:
            self._leaving = self._refusing = str(refused)
            self.up.clear()
        if not (self._may_follow(call, refused) and self._endpoint.follow(call, refused)):
            self._counters.broker_call_errors["refused"] += 1
            self._warn(refused)
            call.fail(refused)

    def _warn(self, refused: RefusedError) -> None:
        """Log a refusal for operators; peers get no details."""
        if self._clock() - self._warned_at_seconds >= _SECONDS_BETWEEN_WARNINGS:
            self._warned_at_seconds = self._clock()
            self._connector.log.warning("redis_refused", reason=str(refused))

    def _may_follow(self, call: RedisCall, refused: RefusedError) -> bool:
        """Return whether no later call about the same channel may be taken before it.

        One that needs fewer keys may be, while only some of the keys are here.
        """
        if call.followed or not refused.can_be_followed:
            return False
        if not refused.some_keys_are_elsewhere:
            return True
        return len(self._unanswered) <= _LOOKED_THROUGH and not any(
            other.about == call.about and other.keys < call.keys for other in self._unanswered
        )

    async def _watch(self) -> None:
        """End the connection when the oldest call is past its deadline."""
        while True:
            await asyncio.sleep(self._options.command_timeout_seconds / 4)
            oldest = (self._unanswered or self._unsent or (None,))[0]
            if oldest is not None and oldest.deadline_seconds < self._clock():
                seconds = self._options.command_timeout_seconds
                raise LostError(f"no answer within {seconds:g} s")
