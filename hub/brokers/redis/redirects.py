"""Calls that a cluster's server refused because their slot is on its way elsewhere.

While a slot is moved its keys go one by one. Who has a call's keys no more answers ASK (or
MOVED, at the end), who has some of them TRYAGAIN. All three say that nothing was done, so that
the call may be sent again: to where it was pointed, or in a moment. Its deadline stays what it
was. Calls about one channel follow one after another, so that they keep their order.

A channel that came from another server goes on only when it came in order, which that server
must say first (STRAY, see `hub.brokers.redis.vouching`).

A call that needs a key which is at neither server, such as a new idempotency key or the log of
a channel without history, is taken by neither before the slot has moved, and may fail (503).
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hub.brokers.redis.calls import Call, fail
from hub.brokers.redis.commands import Commands
from hub.brokers.redis.connecting import Backoff
from hub.brokers.redis.failures import CallError, NoAnswerError, RefusedError
from hub.brokers.redis.options import RedisOptions
from hub.core.ports import Monotonic, Spawn

# Guesses: a slot with few keys moves within milliseconds.
_FIRST_SECONDS = 0.01
_MAX_SECONDS = 0.2


@dataclass(slots=True)
class _Journey:
    """One call under way."""

    call: Call
    address: str
    """Where to ask next."""
    outcome: CallError
    """What is known if it is given up now."""
    pointed: bool = False

    def turn(self, refused: RefusedError, address_of: Callable[[str], str]) -> None:
        """Go where a refusal points, if it does; without a host it means the one that said it."""
        host, self.outcome = self.address.rpartition(":")[0], refused
        place = refused.place or self.address
        self.pointed = bool(refused.place)
        self.address = address_of(f"{host}{place}" if place.startswith(":") else place)


class Redirects:
    """One per cluster.

    Args:
        commands_at: how a server of it is asked.
        address_of: by what a server is known that was pointed to, maybe by a name.
        came_in_order: whether the channel that a call is about, which a server refused as a
            stray, lacks nothing there: gets the call's first key, the refusal, the server.
    """

    def __init__(
        self,
        *,
        commands_at: Callable[[str], Commands],
        address_of: Callable[[str], str],
        came_in_order: Callable[[str, RefusedError, str], Awaitable[bool]],
        options: RedisOptions,
        clock: Monotonic,
        spawn: Spawn,
    ) -> None:
        self._commands_at = commands_at
        self._address_of = address_of
        self._came_in_order = came_in_order
        self._options = options
        self._clock = clock
        self._spawn = spawn
        self._lanes: dict[str, deque[_Journey]] = {}
        """By what the calls are about."""
        self._tasks: set[asyncio.Task[object]] = set()
        self._waiting = self._bytes = 0

    async def stop(self) -> None:
        """End everything; calls that wait for an answer get an error."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def take(self, call: Call, refused: RefusedError, address: str) -> bool:
        """Have `call`, which `address` refused, answered; False where too much waits already."""
        size = len(call.packed)
        if self._waiting >= self._options.max_pending_calls:
            return False
        if self._bytes + size > self._options.max_pending_bytes:
            return False
        self._waiting += 1
        self._bytes += size
        journey = _Journey(call, address, refused)
        journey.turn(refused, self._address_of)
        lane = self._lanes.get(call.about)
        if lane is None:
            lane = self._lanes[call.about] = deque()
            self._spawn(self._run(call.about, lane))
        lane.append(journey)
        return True

    async def _run(self, about: str, lane: deque[_Journey]) -> None:
        if (task := asyncio.current_task()) is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            while lane:
                await self._send_again(lane[0])
                self._end(lane.popleft())
        finally:
            del self._lanes[about]
            for journey in lane:
                self._end(journey)

    def _end(self, journey: _Journey) -> None:
        self._waiting -= 1
        self._bytes -= len(journey.call.packed)
        # Where nothing better is known: its deadline has come, or this stops.
        fail(journey.call, journey.outcome)

    async def _send_again(self, journey: _Journey) -> None:
        """Until it is taken or its deadline comes."""
        call = journey.call
        try:
            async with asyncio.timeout(call.deadline_seconds - self._clock()):
                answer = await self._ask_around(journey)
        except TimeoutError:
            return
        except CallError as error:
            fail(call, error)
        else:
            if not call.answer.done():
                call.answer.set_result(answer)

    async def _ask_around(self, journey: _Journey) -> object:
        backoff = Backoff(_FIRST_SECONDS, _MAX_SECONDS)
        # Who was pointed somewhere goes there at once.
        wait = not journey.pointed
        while True:
            if isinstance(refused := journey.outcome, RefusedError) and refused.counted_by:
                await self._adopt(journey, refused, refused.counted_by[0])
            elif wait:
                await asyncio.sleep(backoff.next_seconds())
            wait = True
            commands = self._commands_at(journey.address)
            await commands.up.wait()
            answer = commands.follow(journey.call)
            journey.outcome = NoAnswerError(f"{journey.address} did not answer")
            try:
                return await answer
            except RefusedError as error:
                if not error.can_be_followed:
                    raise
                journey.turn(error, self._address_of)

    async def _adopt(self, journey: _Journey, refused: RefusedError, history: str) -> None:
        """Have the server take the channel as it is, or begin anew with the next call."""
        about, address = journey.call.about, journey.address
        in_order = await self._came_in_order(about, refused, address)
        commands = self._commands_at(address)
        await commands.up.wait()
        # What has moved on meanwhile says so in answer to the call itself.
        with contextlib.suppress(RefusedError):
            await commands.follow_function("adopt", (about, about), (history, int(in_order)))
