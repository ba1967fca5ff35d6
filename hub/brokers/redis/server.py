"""Where a Redis is, and one connection to it.

redis-py's `Connection` does TLS, AUTH, HELLO and SELECT; its clients and pools are not used,
because they reconnect and retry by themselves and hide it (DESIGN.md section 7).
"""

import asyncio
from typing import Any, Protocol

from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from hub.brokers.redis.calls import Call
from hub.brokers.redis.failures import CONNECTION_ERRORS, RefusedError
from hub.brokers.redis.urls import check_form, without_secrets
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

    async def confirm(self, connection: AbstractConnection) -> None:
        """Ask now; raise `LostError` where `connection` leads to another place than this."""
        ...

    has_lines: bool
    """Whether all its channels are in one line of replication history (see lines.lua)."""
    may_be_replaced: bool
    """Whether another server may take over while this one is silent, and wakes up later."""

    def config_epoch(self, connection: AbstractConnection) -> int | None:
        """The sentinels' number of the failover that led there; None where nobody counts."""
        ...

    def former(self, connection: AbstractConnection) -> AbstractConnection | None:
        """To the server that `entered` was told last, where that is another one."""
        ...

    def entered(self, connection: AbstractConnection) -> None:
        """What is asked goes there from now on."""
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


class _Abrupt(AbstractConnection):
    """Says no goodbye, also where redis-py itself closes it because its greeting was refused.

    TLS waits for the answer to one, asyncio for up to 30 s: a server that is frozen gives none,
    and each new attempt would leave one more socket behind. `redis_connect_func` would see the
    refusal as well, but redis-py asks about it what Python 3.14 warns of.
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


class Server:
    """Where a Redis listens: `redis://`, `rediss://` or `unix://`, as redis-py reads them."""

    has_lines = True
    may_be_replaced = False

    def __init__(self, url: str) -> None:
        """Raise `SettingsError` for a URL that names no Redis; the message masks passwords."""
        self.name = without_secrets(url)
        check_form(url)
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

    async def confirm(self, connection: AbstractConnection) -> None:  # noqa: ARG002 - nor is replaced
        return

    def config_epoch(self, connection: AbstractConnection) -> int | None:  # noqa: ARG002 - nobody counts
        return None

    def former(self, connection: AbstractConnection) -> AbstractConnection | None:  # noqa: ARG002 - there is but one
        return None

    def entered(self, connection: AbstractConnection) -> None:  # noqa: ARG002 - ... one
        return

    async def moved(self) -> None:
        await asyncio.Event().wait()

    async def run(self) -> None:
        return

    def doubt(self) -> None:
        return

    def follow(self, call: Call, refused: RefusedError) -> bool:  # noqa: ARG002 - all is here
        return False


def _check_host(host: str) -> None:
    if "," in host:
        raise ValueError("each of several servers needs a whole URL")


async def connect(connection: AbstractConnection) -> None:
    """Connect, authenticate, select the database; raises what redis-py raises."""
    await connection.connect()  # type: ignore[no-untyped-call] # redis-py does not annotate it


async def close(connection: AbstractConnection) -> None:
    """Let go of a connection in whatever state; takes no time and raises nothing."""
    try:
        await connection.disconnect(nowait=True)
    except CONNECTION_ERRORS:
        return
