"""Questions to the servers that know where others are: sentinels, and members of a cluster.

Each question has a connection of its own, so that no silence has to be explained. Servers are
asked every second or two, and for each TLS connection redis-py makes a context anew, which reads
all certificates that the system trusts: 40 ms in which the event loop stands still (measured, 150
certificates). So a context is used again until a question fails: certificates may have been
renewed.

A server that is away must not hold up the answers of others, so the last answers are waited for
only briefly. But when no server answers in that time, this machine or the network is slow: a
deadline that is always too short would hide a failover for as long as that lasts (measured on a
machine with 15 busy processes per core: 27 s). For example, with a patience of 0.5 s and three
sentinels, one of them away, `ask_all` takes 0.5 s. Where this machine is so slow that the first
answer comes after 2 s, it takes 2.5 s.
"""

import asyncio
from collections.abc import Collection, Sequence

from redis.asyncio.connection import AbstractConnection, RedisSSLContext, SSLConnection
from redis.exceptions import ResponseError

from hub.brokers.redis.link.connection import FixedServer, close, connect
from hub.brokers.redis.link.outcomes import CONNECTION_ERRORS
from hub.core.ports import Monotonic

_Asked = asyncio.Task[Sequence[object]]
# A server that is away fails every second; so often, at most, certificates are read for it.
_MIN_SECONDS_BETWEEN_CONTEXTS = 30.0


class Discovery:
    """Asks the servers of one deployment, which are all reached in the same way.

    Args:
        client_name: shown by CLIENT LIST.
        timeout_seconds: for connecting and all answers of one server together.
        patience_seconds: how long `ask_all` waits for the last that may answer.
    """

    def __init__(
        self,
        *,
        client_name: str,
        timeout_seconds: float,
        patience_seconds: float,
        clock: Monotonic,
    ) -> None:
        self._client_name = client_name
        self._timeout_seconds = timeout_seconds
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._tls: RedisSSLContext | None = None
        self._tls_made_at_seconds = 0.0
        self._failed = False

    async def ask_all(
        self, servers: Sequence[FixedServer], *commands: Sequence[str]
    ) -> Sequence[Sequence[object] | str]:
        """Return the answers of each server, or why there are none.

        It takes `patience_seconds`; where no server has answered by then, as long again from the
        first answer on, which may take `timeout_seconds`.
        """
        asked = [asyncio.create_task(self.ask(server, *commands)) for server in servers]
        try:
            if asked:
                await self._wait(asked)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        return [_found(server, task) for server, task in zip(servers, asked, strict=True)]

    async def _wait(self, asked: Collection[_Asked]) -> None:
        _, silent = await asyncio.wait(asked, timeout=self._patience_seconds)
        if any(map(_has_answered, asked)):
            return
        while silent and not any(map(_has_answered, asked)):
            _, silent = await asyncio.wait(silent, return_when=asyncio.FIRST_COMPLETED)
        if silent:
            await asyncio.wait(silent, timeout=self._patience_seconds)

    async def ask(self, server: FixedServer, *commands: Sequence[str]) -> Sequence[object]:
        """Return the answers to these, in their order; raise one of `CONNECTION_ERRORS`.

        A refusal of the first of them raises too; the error of a later one is its answer.
        """
        connection = server.make(self._client_name)
        if isinstance(connection, SSLConnection):
            self._share_context(connection)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await connect(connection)
                return await _answers(connection, commands)
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


def _has_answered(asked: _Asked) -> bool:
    return asked.done() and not asked.cancelled() and asked.exception() is None


def _found(server: FixedServer, asked: _Asked) -> Sequence[object] | str:
    if asked.cancelled():
        return f"{server.name}: no answer while others had one"
    error = asked.exception()
    if isinstance(error, CONNECTION_ERRORS):
        return f"{server.name}: {str(error) or type(error).__name__}"
    return asked.result()


async def _answers(
    connection: AbstractConnection, commands: Collection[Sequence[str]]
) -> Sequence[object]:
    """Send all at once, because a round trip may take long, and return the answers."""
    packed = b"".join(part for each in commands for part in connection.pack_command(*each))
    await connection.send_packed_command(packed, check_health=False)
    return [await _answer(connection, must_be=not number) for number, _ in enumerate(commands)]


async def _answer(connection: AbstractConnection, *, must_be: bool) -> object:
    """Return one answer; with `must_be` an error is raised, else it is the answer."""
    try:
        return await connection.read_response()
    except ResponseError as error:
        if must_be:
            raise
        return error
