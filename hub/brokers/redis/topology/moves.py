"""A slot of a cluster that moves: calls that were refused meanwhile, and channels that arrive.

While a slot is moved its keys go one by one. A server that has a call's keys no more answers ASK
(or MOVED, at the end), one that has some of them TRYAGAIN. All three say that nothing was done,
so the call may be sent again: to where it was pointed, or in a moment. Its deadline stays what it
was. Calls about one channel follow one after another, so that they keep their order.

A channel that came from another server goes on only if it came in order. Keys that MIGRATE brings
are all that their server had, if that server still counts as it did when it wrote them: it has
not been restarted, and no other server took over from it. The server that has the keys now cannot
know that and refuses the call (STRAY); `OriginCheck` asks the members of the cluster.

For example, slot 42 with channel `news` moves from A to B. `news` is at offset 7, counted in A's
replication history `abc`:

    publish to A    ASK B: A has given the keys away
    publish to B    STRAY abc <run of A>: the stored history is not B's own
    ask members     A says: master, replication id `abc` -> in order; B adopts `news`
    publish to B    offset 8 of the same epoch: subscribers notice nothing

Had A been restarted before it gave the keys away, `abc` would be the history of no living server.
Offsets above 7 may have been given out and lost, so `news` begins a new epoch.

A call that needs a key which is at neither server, such as a new idempotency key or the log of
a channel without history, is taken by neither before the slot has moved, and may fail (503).
"""

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from hub.brokers.redis.link.calls import CallConnection
from hub.brokers.redis.link.connection import Backoff, FixedServer
from hub.brokers.redis.link.outcomes import (
    CONNECTION_ERRORS,
    RedisCall,
    RedisCallError,
    RedisNoAnswerError,
    RefusedError,
)
from hub.brokers.redis.options import RedisOptions, Tasks
from hub.brokers.redis.topology.discovery import Discovery
from hub.core.ports import Monotonic, Spawn

# Guesses: a slot with few keys moves within milliseconds.
_FIRST_SECONDS = 0.01
_MAX_SECONDS = 0.2
# A frozen server is silent; one that moved keys away lives and answers at once.
_ORIGIN_SECONDS = 1.0
_NO_FORMER_NAME = re.compile("0+")


@dataclass(frozen=True, slots=True)
class Stray:
    """A channel at a server that did not count it.

    Args:
        history: the name of the replication history that it was counted in ...
        run: ... by the server process of this name.
        address: the server that has it now.
        former: the server that had it before, as far as this node knows.
    """

    history: str
    run: str
    address: str
    former: str


class OriginCheck:
    """Checks the channels that arrive at a server of one cluster.

    Args:
        members: the servers of the cluster, by address.
    """

    def __init__(
        self, *, discovery: Discovery, members: Callable[[], Mapping[str, FixedServer]]
    ) -> None:
        self._discovery = discovery
        self._members = members
        self._asked: dict[Stray, asyncio.Task[bool]] = {}

    async def came_in_order(self, stray: Stray) -> bool:
        """Ask all members whether the channel came in order; concurrent callers share the
        answer."""
        task = self._asked.get(stray)
        if task is None:
            task = self._asked[stray] = asyncio.create_task(self._ask(stray))
            task.add_done_callback(lambda _: self._asked.pop(stray, None))
        return await asyncio.shield(task)

    async def _ask(self, stray: Stray) -> bool:
        questions = (("INFO", "server"), ("INFO", "replication"))
        members = self._members()
        tasks = [
            asyncio.create_task(self._one(address, server, stray, questions))
            for address, server in members.items()
        ]
        try:
            async with asyncio.timeout(_ORIGIN_SECONDS):
                for each in asyncio.as_completed(tasks):
                    if await each:
                        return True
        except TimeoutError:
            return False
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return False

    async def _one(
        self, address: str, server: FixedServer, stray: Stray, questions: Sequence[Sequence[str]]
    ) -> bool:
        try:
            answers = await self._discovery.ask(server, *questions)
        except CONNECTION_ERRORS:
            return False
        return is_origin(stray, address, _fields(answers))


def _fields(answers: Sequence[object]) -> Mapping[str, str]:
    text = b"\n".join(part for part in answers if isinstance(part, bytes)).decode(errors="replace")
    lines = (line.strip().partition(":") for line in text.splitlines())
    return {name: value for name, _, value in lines}


def is_origin(stray: Stray, address: str, info: Mapping[str, str]) -> bool:
    """Return whether the server at `address` counted the channel, and nothing can be missing."""
    same_run = info.get("run_id") == stray.run
    if info.get("role") == "master":
        # Redis renames the history of a server that goes on, see lines.lua.
        only_renamed = same_run and _NO_FORMER_NAME.fullmatch(info.get("master_replid2", ""))
        return info.get("master_replid") == stray.history or bool(only_renamed)
    # A server that gave its last slot away becomes a replica of the one that got it, at once, and
    # forgets the name. No third server had the channel in between: this node knows the former one.
    master = f"{info.get('master_host')}:{info.get('master_port')}"
    return same_run and master == stray.address and address == stray.former


@dataclass(slots=True)
class _Redirected:
    """A call that was refused, on its way to where it belongs."""

    call: RedisCall
    address: str
    """The address to ask next."""
    outcome: RedisCallError
    """The error of the call if it is given up now."""
    pointed: bool = False

    def turn(self, refused: RefusedError, address_of: Callable[[str], str]) -> None:
        """Follow a refusal that points elsewhere; a place without a host is the refusing server."""
        host, self.outcome = self.address.rpartition(":")[0], refused
        place = refused.points_to or self.address
        self.pointed = bool(refused.points_to)
        self.address = address_of(f"{host}{place}" if place.startswith(":") else place)


class Redirects:
    """Leads the refused calls of one cluster to where they belong.

    Args:
        calls_at: returns the calls of a server by its address.
        address_of: returns the address of a server that was pointed to, maybe by a name.
        came_in_order: returns whether the channel of a call, which a server refused as a
            stray, lacks nothing there: gets the call's first key, the refusal, the server.
    """

    def __init__(
        self,
        *,
        calls_at: Callable[[str], CallConnection],
        address_of: Callable[[str], str],
        came_in_order: Callable[[str, RefusedError, str], Awaitable[bool]],
        options: RedisOptions,
        clock: Monotonic,
        spawn: Spawn,
    ) -> None:
        self._calls_at = calls_at
        self._address_of = address_of
        self._came_in_order = came_in_order
        self._options = options
        self._clock = clock
        self._tasks = Tasks(spawn)
        self._lanes: dict[str, deque[_Redirected]] = {}
        """Calls in their order, by their first key."""
        self._waiting = self._bytes = 0

    async def stop(self) -> None:
        """End all redirects; calls that wait for an answer get an error."""
        await self._tasks.stop()

    def take(self, call: RedisCall, refused: RefusedError, address: str) -> bool:
        """Have `call`, which `address` refused, answered; False where too much waits already."""
        size = len(call.packed)
        if self._waiting >= self._options.max_pending_calls:
            return False
        if self._bytes + size > self._options.max_pending_bytes:
            return False
        self._waiting += 1
        self._bytes += size
        redirected = _Redirected(call, address, refused)
        redirected.turn(refused, self._address_of)
        lane = self._lanes.get(call.about)
        if lane is None:
            lane = self._lanes[call.about] = deque()
            self._tasks.spawn(self._run(call.about, lane))
        lane.append(redirected)
        return True

    async def _run(self, about: str, lane: deque[_Redirected]) -> None:
        try:
            while lane:
                await self._send_again(lane[0])
                self._end(lane.popleft())
        finally:
            del self._lanes[about]
            for redirected in lane:
                self._end(redirected)

    def _end(self, redirected: _Redirected) -> None:
        self._waiting -= 1
        self._bytes -= len(redirected.call.packed)
        # The call has no answer yet: its deadline has come, or this stops.
        redirected.call.fail(redirected.outcome)

    async def _send_again(self, redirected: _Redirected) -> None:
        """Send the call until it is taken or its deadline comes."""
        call = redirected.call
        try:
            async with asyncio.timeout(call.deadline_seconds - self._clock()):
                answer = await self._ask_around(redirected)
        except TimeoutError:
            return
        except RedisCallError as error:
            call.fail(error)
        else:
            call.succeed(answer)

    async def _ask_around(self, redirected: _Redirected) -> object:
        backoff = Backoff(_FIRST_SECONDS, _MAX_SECONDS)
        # A call that was pointed somewhere goes there at once.
        wait = not redirected.pointed
        while True:
            if isinstance(refused := redirected.outcome, RefusedError) and refused.counted_by:
                await self._adopt(redirected, refused, refused.counted_by[0])
            elif wait:
                await asyncio.sleep(backoff.next_seconds())
            wait = True
            calls = self._calls_at(redirected.address)
            await calls.up.wait()
            answer = calls.follow(redirected.call)
            redirected.outcome = RedisNoAnswerError(f"{redirected.address} did not answer")
            try:
                return await answer
            except RefusedError as error:
                if not error.can_be_followed:
                    raise
                redirected.turn(error, self._address_of)

    async def _adopt(self, redirected: _Redirected, refused: RefusedError, history: str) -> None:
        """Have the server take the channel as it is, or begin anew with the next call."""
        about, address = redirected.call.about, redirected.address
        in_order = await self._came_in_order(about, refused, address)
        calls = self._calls_at(address)
        await calls.up.wait()
        # A channel that has moved on meanwhile shows in the answer to the call itself.
        with contextlib.suppress(RefusedError):
            await calls.follow_function("adopt", (about, about), (history, int(in_order)))
