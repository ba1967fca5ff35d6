"""Questions to the servers that know where others are: sentinels, and members of a cluster.

Each question has a connection of its own, so that no silence has to be explained. They are
asked every second or two, and what redis-py makes anew for each TLS connection reads all
certificates that the system trusts: 40 ms in which the event loop stands still (measured, 150
certificates). So it is used again, until one fails: certificates may have been renewed.
"""

import asyncio
from collections.abc import Sequence

from redis.asyncio.connection import AbstractConnection, RedisSSLContext, SSLConnection

from hub.brokers.redis.failures import CONNECTION_ERRORS
from hub.brokers.redis.server import Server, close, connect
from hub.core.ports import Monotonic

# A server that is away fails every second; so often, at most, certificates are read for it.
_MIN_SECONDS_BETWEEN_CONTEXTS = 30.0


class Inquiry:
    """One per deployment: all its servers are reached in the same way.

    Args:
        client_name: shown by CLIENT LIST.
        timeout_seconds: for connecting and all answers together.
    """

    def __init__(self, *, client_name: str, timeout_seconds: float, clock: Monotonic) -> None:
        self._client_name = client_name
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._tls: RedisSSLContext | None = None
        self._tls_made_at_seconds = 0.0
        self._failed = False

    async def ask(self, server: Server, *commands: Sequence[str]) -> Sequence[object]:
        """The answers to these, in their order; raises one of `CONNECTION_ERRORS`."""
        connection = server.make(self._client_name)
        if isinstance(connection, SSLConnection):
            self._share_context(connection)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await connect(connection)
                return [await _answer(connection, command) for command in commands]
        except CONNECTION_ERRORS:
            self._failed = True
            raise
        finally:
            await close(connection)

    def _share_context(self, connection: SSLConnection) -> None:
        age = self._clock() - self._tls_made_at_seconds
        if self._tls is None or (self._failed and age > _MIN_SECONDS_BETWEEN_CONTEXTS):
            self._tls = connection.ssl_context
            self._tls_made_at_seconds = self._clock()
            self._failed = False
        connection.ssl_context = self._tls


async def _answer(connection: AbstractConnection, command: Sequence[str]) -> object:
    await connection.send_packed_command(connection.pack_command(*command), check_health=False)
    return await connection.read_response()
