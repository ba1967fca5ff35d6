"""A worker's connection to the broker process: kept up, with a deadline for every call.

A call that is refused here has done nothing; one that was sent and got no answer may have been
carried out. Calls are bounded in number and bytes; a call above them is refused at once. No call is
sent again.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from structlog.typing import FilteringBoundLogger

from hub import errors
from hub.brokers.local import frames
from hub.brokers.local.frames import Frames, Message
from hub.core.counters import Counters
from hub.core.eager import NEXT_TURN
from hub.core.options import MIB
from hub.core.ports import Monotonic
from hub.errors import HubError

# A call takes 0.2 ms; a busy machine makes it wait less than this. Guess, not measured.
CALL_SECONDS = 5.0
# A broker process that says nothing for so long stands still: the worker is not ready, and makes
# its connection anew. As of the canary over Redis.
DEAF_SECONDS = 8.0
# A process that has just started accepts when it has read its settings.
WELCOME_SECONDS = 10.0
PING_SECONDS = 1.0
# As for calls to Redis.
MAX_CALLS = 10_000
MAX_CALL_BYTES = 32 * MIB
# Calls that fail in one turn, as with the connection: 20 us each, where a publisher is answered.
FAILED_AT_ONCE = 100
# Calls that leave as one: they fail in one turn, and hold the broker process for 0.1 ms.
JOINED_AT_MOST = 64
_BACK_OFF_SECONDS = (0.02, 0.5)

Connect = Callable[[], socket.socket]
"""A connected stream to the broker process; raises `OSError` where there is none."""
Answered = Callable[[Message | HubError], None]


Outcome = TypeVar("Outcome")


class NotSentError(HubError):
    """The broker process has not seen the call."""


class NoAnswerError(HubError):
    """The broker process may have carried the call out."""


@dataclass(slots=True)
class _Call:
    asked_at: float
    size_bytes: int
    answered: Answered
    count: int = 1
    """The number of calls that left as one."""


class WorkerLink:
    """One per worker.

    Args:
        clock: counts no stall of this process (`hub.core.time.deadlines`).
        on_up: called whenever the broker process has said welcome, before anything else is sent.
        on_outdated: called when the broker process, which was reached before, is of another version
            now: it has begun anew from what is on the disk, and this worker has to do the same.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        tag: str,
        clock: Monotonic,
        log: FilteringBoundLogger,
        counters: Counters,
        call_seconds: float = CALL_SECONDS,
        on_outdated: Callable[[], None] = lambda: None,
    ) -> None:
        self._connect = connect
        self._tag = tag
        self._clock = clock
        self._log = log
        self._counters = counters
        self._call_seconds = call_seconds
        self._on_outdated = on_outdated
        self._has_been_up = False
        self._frames: Frames | None = None
        self._lost = asyncio.Event()
        self._calls: dict[int, _Call] = {}
        """Calls in the order they were made."""
        self._lasting: dict[int, _Call] = {}
        """Calls with a deadline of their caller's."""
        self._call_bytes = self._pending = 0
        self._last: _Call | None = None
        """The last call that was made."""
        self._giving_up = False
        """Whether more calls that have waited too long fail in the next turn."""
        self._number = 0
        self._handlers: dict[int, Callable[[Message], None]] = {frames.WELCOME: self._welcomed}
        self._on_up: list[Callable[[], None]] = []
        self._stopping = False
        self.is_up = False
        """Whether calls are taken."""
        self.refusal = ""
        """Why the broker process that runs does not take this worker; empty where it may."""
        self.heard_at = clock()
        self._pinged_at = clock()
        self.round_trip_seconds = 0.0
        self.history_bytes = self.history_limit_bytes = 0
        self.state_rows = self.state_row_bytes = 0
        """Figures of the broker process, as it told them last."""
        self.troubles: tuple[str, ...] = ()
        """Why its broker does not work, such as a full disk; empty where it does."""

    # -- handlers ----------------------------------------------------------------------------

    def on(self, kind: int, handler: Callable[[Message], None]) -> None:
        """Have `handler` get messages of this kind, which answer no call, as others before it."""
        before = self._handlers.get(kind)

        def both(message: Message) -> None:
            if before is not None:
                before(message)
            handler(message)

        self._handlers[kind] = handler if before is None else both

    def on_up(self, callback: Callable[[], None]) -> None:
        self._on_up.append(callback)

    # -- its life ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the connection up until `stop`."""
        shortest, longest = _BACK_OFF_SECONDS
        wait_seconds = shortest
        while not self._stopping:
            self._lost.clear()
            if await self._open():
                await self._lost.wait()
                wait_seconds = shortest if self.is_up else wait_seconds
                await self._down()
            if not self._stopping:
                await asyncio.sleep(wait_seconds)
            wait_seconds = min(2 * wait_seconds, longest)

    async def _open(self) -> bool:
        with contextlib.suppress(OSError):
            end = self._connect()
            end.setblocking(False)
            made = Frames(
                on_messages=self._on_messages,
                on_lost=self._lost.set,
            )
            self.heard_at = self._clock()
            await asyncio.get_running_loop().create_unix_connection(lambda: made, sock=end)
            self._frames = made
            made.send((frames.HELLO, frames.SHAPE, self._tag))
            return True
        return False

    def _welcomed(self, message: Message) -> None:
        _, shape = message
        if shape != frames.SHAPE:
            if not self.refusal:
                self._log.error(
                    "broker_process_of_another_version",
                    message="its broker process and this worker say different things to each other:"
                    " a worker that is older starts anew, a newer one needs a restart of the hub",
                )
                if self._has_been_up:
                    self._on_outdated()
            self.refusal = f"the broker process is of another version ({shape}, not {frames.SHAPE})"
            return
        self.is_up = self._has_been_up = True
        self.refusal = ""
        self._counters.broker_connects["commands"] += 1
        self._log.info("broker_process_reached")
        self._ping()
        for callback in self._on_up:
            callback()

    async def _down(self) -> None:
        """Fail all calls, in turns; the next connection is made behind them."""
        was_up, self.is_up, self._frames = self.is_up, False, None
        calls = (*self._calls.values(), *self._lasting.values())
        self._calls, self._lasting = {}, {}
        self._call_bytes = self._pending = failed = 0
        if was_up and not self._stopping:
            pending = sum(call.count for call in calls)
            self._log.warning("broker_process_lost", pending_calls=pending)
        for call in calls:
            self._answer(call, NoAnswerError("the broker process went away"))
            failed += call.count
            if failed >= FAILED_AT_ONCE:
                failed = 0
                await NEXT_TURN

    def stop(self) -> None:
        """Close the connection when all messages are sent."""
        self._stopping = True
        if self._frames is not None:
            self._frames.close()
        self._lost.set()

    def reconnect(self) -> None:
        """Make the connection anew, where there is one."""
        if self._frames is not None:
            self._frames.abort()

    def sweep(self) -> None:
        """Fail calls that have waited too long; to be called ten times a second or more often."""
        now, made = self._clock(), self._frames
        if not self._giving_up:
            self._give_up_some()
        if made is None or not made.is_open:
            return
        if now - self.heard_at > (DEAF_SECONDS if self.is_up else WELCOME_SECONDS):
            self._log.warning("broker_process_silent", seconds=round(now - self.heard_at, 1))
            made.abort()
        elif self.is_up and now - self._pinged_at >= PING_SECONDS:
            self._ping()

    def _give_up_some(self) -> None:
        """Fail calls that have waited too long, oldest first, and the others in later turns."""
        self._giving_up = False
        since, failed = self._clock() - self._call_seconds, 0
        while failed < FAILED_AT_ONCE:
            number = next(iter(self._calls), None)
            if number is None or self._calls[number].asked_at > since:
                return
            failed += self._calls[number].count
            self._settle(number, NoAnswerError("the broker process does not answer"))
        self._giving_up = True
        asyncio.get_running_loop().call_soon(self._give_up_some)

    def _ping(self) -> None:
        now = self._pinged_at = self._clock()
        with contextlib.suppress(NotSentError):
            self.call((frames.PING,), lambda answer: self._ponged(now, answer))

    def _ponged(self, asked_at: float, answer: Message | HubError) -> None:
        if not isinstance(answer, HubError):
            self.round_trip_seconds = self._clock() - asked_at
            _, _, self.history_bytes, self.history_limit_bytes, *rows, troubles = answer
            self.state_rows, self.state_row_bytes = rows
            self.troubles = tuple(troubles)

    @property
    def unheard_seconds(self) -> float:
        """Return the seconds since the last message of the broker process; it answers pings."""
        return self._clock() - self.heard_at

    @property
    def pending(self) -> int:
        """Return how many calls wait for an answer, but for those that last."""
        return self._pending

    # -- messages and calls ------------------------------------------------------------------

    def send(self, message: Message, size_bytes: int = 0) -> None:
        """Send a message without an answer; do nothing while the connection is down."""
        if self.is_up and self._frames is not None:
            self._frames.send(message, size_bytes)

    def call(
        self,
        message: Sequence[Any],
        answered: Answered,
        size_bytes: int = 0,
        lasts: bool = False,
    ) -> int:
        """Make a call, and have `answered` called once, in the order of received messages.

        Raises `NotSentError`. A kind stands first in `message`; the number is put behind it, and
        is what this returns. With `lasts` the caller has a deadline and bounds of its own.
        """
        made = self._up(None if lasts else size_bytes)
        self._number += 1
        kind, *rest = message
        call = self._last = _Call(self._clock(), size_bytes, answered)
        if lasts:
            self._lasting[self._number] = call
        else:
            self._calls[self._number] = call
            self._pending += 1
        self._call_bytes += size_bytes
        made.send((kind, self._number, *rest), size_bytes)
        return self._number

    def join(self, kind: int, item: bytes) -> bool:
        """Make a call together with the one before it, which ends with a list; it gets the answer.

        Return False, and do nothing, where that one is of another kind, or has left, or something
        was sent behind it. Raises `NotSentError`.
        """
        made, call = self._up(len(item)), self._last
        if call is None or call.count >= JOINED_AT_MOST or not made.join(kind, (item,), len(item)):
            return False
        call.count += 1
        call.size_bytes += len(item)
        self._pending += 1
        self._call_bytes += len(item)
        return True

    def _up(self, size_bytes: int | None) -> Frames:
        """Return the connection; raise `NotSentError` without one, or where the call is too much.

        `size_bytes` is None for a call that has bounds of its own.
        """
        made = self._frames
        if not self.is_up or made is None:
            raise self._not_sent(self.refusal or "the broker process cannot be reached")
        if size_bytes is not None:
            if self._pending >= MAX_CALLS:
                raise self._not_sent(f"{MAX_CALLS:,} calls to the broker process wait already")
            # One alone is taken whatever its size: settings bound it.
            if self._call_bytes and self._call_bytes + size_bytes > MAX_CALL_BYTES:
                raise self._not_sent(f"{self._call_bytes:,} bytes wait for the broker process")
        return made

    def forget(self, number: int) -> bool:
        """Wait for the answer no more; return whether it was still to come."""
        call = self._lasting.pop(number, None)
        self._call_bytes -= 0 if call is None else call.size_bytes
        return call is not None

    async def ask(self, *message: Any, size_bytes: int = 0) -> Message:
        """Return the answer; raise `NotSentError`, `NoAnswerError` or the error of the broker
        process."""
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self.call(message, partial(set_outcome, future), size_bytes)
        return await future

    def _not_sent(self, why: str) -> NotSentError:
        self._counters.broker_call_errors["not_sent"] += 1
        return NotSentError(why)

    def _on_messages(self, messages: Sequence[Message]) -> None:
        self.heard_at = self._clock()
        for message in messages:
            kind = message[0]
            if (handler := self._handlers.get(kind)) is not None:
                handler(message)
            elif kind == frames.REFUSED:
                _, number, code, why = message
                self._settle(number, errors.of_code(code, why))
            else:
                self._settle(message[1], message)

    def _settle(self, number: int, answer: Message | HubError) -> None:
        if (call := self._calls.pop(number, None)) is not None:
            self._pending -= call.count
        elif (call := self._lasting.pop(number, None)) is None:
            return  # Too late.
        self._call_bytes -= call.size_bytes
        self._counters.broker_calls.observe(max(0.0, self._clock() - call.asked_at), call.count)
        self._answer(call, answer)

    def _answer(self, call: _Call, answer: Message | HubError) -> None:
        if isinstance(answer, NoAnswerError):
            self._counters.broker_call_errors["no_answer"] += call.count
        try:
            call.answered(answer)
        except Exception:  # noqa: BLE001 - logged with traceback; the other calls and the link go on
            self._log.exception("broker_call_failed")


def set_outcome(future: asyncio.Future[Outcome], outcome: Outcome | HubError) -> None:
    """Give a future its outcome, unless its caller waits no more."""
    if future.done():
        return
    if isinstance(outcome, HubError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
