"""Keeping a connection to Redis up: again and again, with back-off, and said in the log."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine

from hiredis import pack_command
from structlog.typing import FilteringBoundLogger

from hub.brokers.redis.failures import CONNECTION_ERRORS, LostError
from hub.brokers.redis.options import RedisOptions
from hub.brokers.redis.server import Place
from hub.core.ports import Monotonic

# A Redis that is away is tried twice a second; nobody reads the same line so often.
_REPEAT_LOG_SECONDS = 60.0


class Backoff:
    """Exponential, full jitter, capped."""

    def __init__(self, first_seconds: float, max_seconds: float) -> None:
        self._first = first_seconds
        self.max_seconds = max_seconds
        self._failures = 0

    def next_seconds(self) -> float:
        """How long to wait now; the next answer is drawn from twice as wide a range."""
        ceiling = min(self.max_seconds, self._first * 2 ** min(self._failures, 30))
        self._failures += 1
        return random.uniform(0, ceiling)

    def reset(self) -> None:
        self._failures = 0


async def keep_up(
    session: Callable[[], Awaitable[None]],
    *,
    place: Place,
    options: RedisOptions,
    clock: Monotonic,
    on_lost: Callable[[str], None],
    log: FilteringBoundLogger,
) -> None:
    """Run `session` again and again for ever; it raises when its connection is lost.

    Waits in between with exponential back-off, or until `place` has moved. `on_lost` is told
    why each one ended, and of the end of all of them.
    """
    backoff = Backoff(options.backoff_first_seconds, options.backoff_max_seconds)
    losses = _Losses(log, clock)
    try:
        while True:
            began = clock()
            on_lost(await _ended(session, options, losses))
            # One that comes up only to fall at once must not be tried in a tight loop.
            if clock() - began > backoff.max_seconds:
                backoff.reset()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(backoff.next_seconds()):
                    await place.moved()
    finally:
        on_lost("stopped")


class _Losses:
    """Says why a connection was lost: at once, and the same once a minute at most."""

    def __init__(self, log: FilteringBoundLogger, clock: Monotonic) -> None:
        self.log = log
        self._clock = clock
        self._why = ""
        self._said_at = 0.0
        self._silent = 0

    def lost(self, why: str) -> None:
        now = self._clock()
        if why == self._why and now - self._said_at < _REPEAT_LOG_SECONDS:
            self._silent += 1
            return
        self.log.warning("redis_connection_lost", reason=why, not_logged=self._silent)
        self._why, self._said_at, self._silent = why, now, 0


async def _ended(
    session: Callable[[], Awaitable[None]], options: RedisOptions, losses: _Losses
) -> str:
    """Why a session ended."""
    try:
        await session()
    except (*CONNECTION_ERRORS, LostError) as error:
        why = str(error) or _unsaid(error, options)
        losses.lost(why)
    except Exception as error:
        why = repr(error)
        losses.log.exception("redis_connection_failed")
    else:
        why = "ended"
    return why


def _unsaid(error: Exception, options: RedisOptions) -> str:
    if isinstance(error, TimeoutError):
        # Also where one side speaks TLS and the other does not: both wait.
        return f"not connected within {options.connect_timeout_seconds:g} s"
    return type(error).__name__


async def until_one_ends(*works: Coroutine[object, object, None]) -> None:
    """Run all at once; when one returns or raises, cancel the others and do the same."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def pack(*command: str | bytes | int) -> bytes:
    """A command as Redis reads it."""
    # Its stub says a tuple of one; redis-py's own packing costs ten times as much.
    packed: bytes = pack_command(command)  # type: ignore[arg-type]
    return packed
