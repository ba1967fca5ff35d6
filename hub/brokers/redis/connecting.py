"""Connections to Redis, and keeping one up.

redis-py's `Connection` does TLS, AUTH, HELLO and SELECT; its clients and pools are not used,
because they reconnect and retry by themselves and hide it (DESIGN.md section 7).
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from structlog.typing import FilteringBoundLogger

from hub.brokers.redis.calls import Call
from hub.brokers.redis.failures import CONNECTION_ERRORS, LostError, RefusedError
from hub.brokers.redis.options import RedisOptions
from hub.brokers.redis.urls import without_secrets
from hub.core.ports import Monotonic
from hub.errors import SettingsError


class Place(Protocol):
    """Where a Redis is to be found, which may change."""

    name: str
    """For messages; holds no secret."""

    async def connection(self, client_name: str) -> AbstractConnection:
        """A connection that is not connected yet, and never retries by itself.

        Raises `LostError`, or what redis-py raises, where it cannot be found now.
        """
        ...

    async def left(self, connection: AbstractConnection) -> None:
        """Raise `LostError` as soon as `connection` leads to another place than this."""
        ...

    async def moved(self) -> None:
        """Return when it is found elsewhere than at the call: there is reason to try again."""
        ...

    async def run(self) -> None:
        """Look where it is, for ever; returns at once where that cannot change."""
        ...

    def doubt(self) -> None:
        """Something there, or its silence, says that what is looked for may be elsewhere."""
        ...

    def follow(self, call: Call, refused: RefusedError) -> bool:
        """Take over a call that was refused because it belongs elsewhere; False to let it be."""
        ...


class Server:
    """Where a Redis listens: `redis://`, `rediss://` or `unix://`, as redis-py reads them."""

    def __init__(self, url: str) -> None:
        """Raise `SettingsError` for a URL that names no Redis; the message masks passwords."""
        self.name = without_secrets(url)
        try:
            _check_shape(url)
            arguments = parse_url(url)
            self._class = arguments.pop("connection_class", Connection)
            self._arguments: dict[str, Any] = {**arguments}
            _check_host(self._arguments.get("host", ""))
            self.make("check")
        except (ValueError, TypeError) as error:
            raise SettingsError(f"{self.name!r} is not the URL of a Redis: {error}") from None

    @property
    def host(self) -> str:
        host: str = self._arguments.get("host", "localhost")
        return host

    @property
    def place(self) -> str:
        """The same for every way to write the URL of one database of one server."""
        arguments = self._arguments
        where = arguments.get("path") or (
            f"{arguments.get('host', 'localhost')}:{arguments.get('port', 6379)}"
        )
        return f"{where}/{arguments.get('db', 0)}"

    def make(self, client_name: str) -> AbstractConnection:
        """See `Place.connection`."""
        return self._class(
            **self._arguments
            | {
                "client_name": client_name,
                # RESP2: hiredis parses its pub/sub messages fastest (DESIGN.md section 8).
                "protocol": 2,
                # Deadlines are ours: per call, and for connecting as a whole.
                "socket_timeout": None,
                "health_check_interval": 0,
                "retry": Retry(NoBackoff(), 0),
            }
        )

    # -- Place -------------------------------------------------------------------------------

    async def connection(self, client_name: str) -> AbstractConnection:
        return self.make(client_name)

    async def left(self, connection: AbstractConnection) -> None:  # noqa: ARG002 - it never moves
        await asyncio.Event().wait()

    async def moved(self) -> None:
        await asyncio.Event().wait()

    async def run(self) -> None:
        return

    def doubt(self) -> None:
        return

    def follow(self, call: Call, refused: RefusedError) -> bool:  # noqa: ARG002 - all is here
        return False


def _check_shape(url: str) -> None:
    # What has one slash or none would be read as one at localhost.
    if "://" not in url:
        raise ValueError("two slashes are missing behind its scheme")


def _check_host(host: str) -> None:
    if "," in host:
        raise ValueError("each of several servers needs a whole URL")


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


async def connect(connection: AbstractConnection) -> None:
    """Connect, authenticate, select the database; raises what redis-py raises."""
    await connection.connect()  # type: ignore[no-untyped-call] # redis-py does not annotate it


async def close(connection: AbstractConnection) -> None:
    """Let go of a connection in whatever state; takes no time and raises nothing."""
    try:
        await connection.disconnect(nowait=True)
    except CONNECTION_ERRORS:
        return
