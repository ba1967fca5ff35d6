"""One connection to a Redis: its target, how it is made, kept up, and closed.

redis-py's `Connection` does TLS, AUTH, HELLO and SELECT. The hub does not use its clients and
pools, because they reconnect and retry by themselves and hide it. After a loss the hub has to ask
for the publications that it missed, so `Connector` tells its owner about every loss.
"""

import asyncio
import contextlib
import functools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from hiredis import pack_command
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from structlog.typing import FilteringBoundLogger

from hub.brokers.redis.link.outcomes import CONNECTION_ERRORS, LostError, RedisCall, RefusedError
from hub.brokers.redis.link.urls import check_database, check_form, scheme, without_secrets
from hub.brokers.redis.options import RedisOptions
from hub.core.counters import Counters
from hub.core.ports import Monotonic
from hub.errors import SettingsError

# A Redis that is away is tried twice a second; the same line is logged once in so long.
_REPEAT_LOG_SECONDS = 60.0


class Endpoint:
    """The place of a Redis.

    The methods here are right for a server that never moves and is never replaced; endpoints
    that can lead to another server override it.
    """

    name: str
    """For messages; holds no secret."""
    has_lines = True
    """Whether all its channels are in one line of replication history (see lines.lua)."""
    may_be_replaced = False
    """Whether another server may take over while this one is silent, and wakes up later."""

    async def connection(self, client_name: str) -> AbstractConnection:
        """Return a connection that is not connected yet, and never retries by itself.

        Raises `LostError`, or what redis-py raises, where it cannot be found now.
        """
        raise NotImplementedError

    async def left(self, connection: AbstractConnection) -> None:  # noqa: ARG002 - it never moves
        """Raise `LostError` as soon as `connection` leads to another server than this."""
        await asyncio.Event().wait()

    async def confirm(self, connection: AbstractConnection) -> None:
        """Ask now; raise `LostError` where `connection` leads to another server than this."""

    def config_epoch(self, connection: AbstractConnection) -> int | None:  # noqa: ARG002
        """Return the sentinels' number of the failover that led there; None without sentinels."""
        return None

    def former(self, connection: AbstractConnection) -> AbstractConnection | None:  # noqa: ARG002
        """Return a connection to the server of the last `entered`, where that is another one."""
        return None

    def entered(self, connection: AbstractConnection) -> None:
        """Note that calls go there from now on."""

    async def moved(self) -> None:
        """Return when the server is elsewhere than at the call: another try is due."""
        await asyncio.Event().wait()

    async def run(self) -> None:
        """Look for the server's place, for ever; return at once where it cannot change."""

    def doubt(self) -> None:
        """Look again soon: a server's answer, or silence, means that it may be elsewhere."""

    def follow(self, call: RedisCall, refused: RefusedError) -> bool:  # noqa: ARG002 - all is here
        """Take over a call that was refused because it belongs elsewhere; False to let it be."""
        return False


class _Abrupt(AbstractConnection):
    """Closes without a goodbye, also where redis-py closes it after a refused greeting.

    TLS waits for the answer to one, asyncio for up to 30 s: a server that is frozen gives none,
    and each new attempt would leave one more socket behind. `redis_connect_func` would see the
    refusal as well, but redis-py asks about it what Python 3.14 warns of. It offers no other way
    to its transport than this attribute of the class that is extended here.
    """

    async def disconnect(self, *arguments: Any, **named: Any) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        await super().disconnect(*arguments, **named)


class _Tcp(_Abrupt, Connection):
    pass


class _Tls(_Abrupt, SSLConnection):
    pass


class _Unix(_Abrupt, UnixDomainSocketConnection):
    pass


_CLASSES: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: _Tcp,
    SSLConnection: _Tls,
    UnixDomainSocketConnection: _Unix,
}


@functools.cache
def _driver() -> DriverInfo:
    """Return what redis-py says of itself to a server; it reads its version from the disk, which
    takes 2 ms (measured) for each connection that it is not given to."""
    return DriverInfo()


class FixedServer(Endpoint):
    """A server that stays where its URL says: `redis://`, `rediss://` or `unix://`."""

    def __init__(self, url: str) -> None:
        """Raise `SettingsError` for a URL that names no Redis; the message masks passwords."""
        self.name = without_secrets(url)
        check_form(url)
        if scheme(url) != "unix":
            check_database(urlsplit(url).path.strip("/"), url)
        try:
            arguments = parse_url(url)
            self._class = _CLASSES[arguments.pop("connection_class", Connection)]
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
    def identity(self) -> str:
        """Return a name that is the same for every way to write the URL of one database."""
        arguments = self._arguments
        where = arguments.get("path") or (
            f"{arguments.get('host', 'localhost')}:{arguments.get('port', 6379)}"
        )
        return f"{where}/{arguments.get('db', 0)}"

    def make(self, client_name: str) -> AbstractConnection:
        """See `Endpoint.connection`."""
        return self._class(
            **self._arguments
            | {
                "client_name": client_name,
                # RESP2: hiredis parses its pub/sub messages fastest (measured beside RESP3).
                "protocol": 2,
                # Deadlines are ours: per call, and for connecting as a whole.
                "socket_timeout": None,
                "health_check_interval": 0,
                "driver_info": _driver(),
                "retry": Retry(NoBackoff(), 0),
            }
        )

    async def connection(self, client_name: str) -> AbstractConnection:
        return self.make(client_name)


def _check_host(host: str) -> None:
    if "," in host:
        raise ValueError("each of several servers needs a whole URL")


async def connect(connection: AbstractConnection) -> None:
    """Connect, authenticate, select the database; raises what redis-py raises."""
    await connection.connect()  # type: ignore[no-untyped-call] # redis-py does not annotate it


async def ask(connection: AbstractConnection, *command: str | bytes | int) -> object:
    """Send one command and return its answer, on a connection without another user yet."""
    await connection.send_packed_command(pack(*command), check_health=False)
    answer: object = await connection.read_response()
    return answer


async def close(connection: AbstractConnection) -> None:
    """Close a connection in any state; take no time and raise nothing."""
    try:
        await connection.disconnect(nowait=True)
    except CONNECTION_ERRORS:
        return


class Backoff:
    """Exponential, full jitter, capped."""

    def __init__(self, first_seconds: float, max_seconds: float) -> None:
        self._first = first_seconds
        self.max_seconds = max_seconds
        self._failures = 0

    def next_seconds(self) -> float:
        """Return how long to wait now; the next answer is drawn from twice as wide a range."""
        ceiling = min(self.max_seconds, self._first * 2 ** min(self._failures, 30))
        self._failures += 1
        return random.uniform(0, ceiling)

    def reset(self) -> None:
        self._failures = 0


class _Losses:
    """Logs why a connection was lost: at once, and the same reason once a minute at most."""

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


Use = Callable[[AbstractConnection], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Connector:
    """Keeps connections to one endpoint up; holds the parts that they share."""

    endpoint: Endpoint
    options: RedisOptions
    clock: Monotonic
    log: FilteringBoundLogger
    counters: Counters

    async def keep_up(self, use: Use, *, role: str, on_lost: Callable[[str], None]) -> None:
        """Run `use` again and again for ever, each time with a new connection.

        `use` connects, and raises when the connection is lost. Between two connections there is an
        exponential back-off, which ends early where the endpoint has moved.

        Args:
            role: the use of the connection, shown by CLIENT LIST and in the log.
            on_lost: gets the reason why each connection ended, also when this is cancelled.
        """
        options, clock = self.options, self.clock
        backoff = Backoff(options.backoff_first_seconds, options.backoff_max_seconds)
        losses = _Losses(self.log.bind(connection=role), clock)
        try:
            while True:
                began = clock()
                on_lost(await self._ended(use, role, losses))
                # One that comes up only to fall at once must not be tried in a tight loop.
                if clock() - began > backoff.max_seconds:
                    backoff.reset()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(backoff.next_seconds()):
                        await self.endpoint.moved()
        finally:
            on_lost("stopped")

    async def _ended(self, use: Use, role: str, losses: _Losses) -> str:
        """Run one connection; return why it ended."""
        try:
            connection = await self.endpoint.connection(self.options.client_name(role))
            try:
                await use(connection)
            finally:
                await close(connection)
        except (*CONNECTION_ERRORS, LostError) as error:
            why = str(error) or self._unsaid(error)
            losses.lost(why)
        except Exception as error:
            why = repr(error)
            losses.log.exception("redis_connection_failed")
        else:
            why = "ended"
        return why

    def _unsaid(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            # The cause may be TLS at one side alone: both wait.
            return f"not connected within {self.options.connect_timeout_seconds:g} s"
        return type(error).__name__


def pack(*command: str | bytes | int) -> bytes:
    """Return a command as Redis reads it."""
    # Its stub says a tuple of one; redis-py's own packing costs ten times as much.
    packed: bytes = pack_command(command)  # type: ignore[arg-type]
    return packed
