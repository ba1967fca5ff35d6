"""Lines of replication history: entering a server's line, and leaving one (see lines.lua).

A line is what one master, and those promoted from it in order, have counted. A server does not
know that others went on without it, so a line has a term, which never falls, and each epoch begins
with the term of its line. A node remembers the newest line that it has met, and shows it to each
server that it connects to: one that was left in between, and does not know it, begins another term.

For example, Sentinel leads from server A to B and, ten seconds later, back to A:

    at A    line 66a0-..; `news` reaches offset 7 of epoch 66a0-x
    at B    promoted: its `master_replid` is new, so its line is 66a1-.. and `news` goes on as
            epoch 66a1-y; it reaches offset 3
    at A    never demoted, `master_replid` as before: to itself it is still in 66a0-.., at offset 7.
            The first node that connects shows 66a1-..; A begins line 66a2-.., and `news` epoch
            66a2-z. Without it offset 8 of 66a0-x would have followed, and what B took would be
            lost without a word.
"""

import asyncio

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from hub.brokers.redis.link.connection import Endpoint, ask, close, connect
from hub.brokers.redis.link.library import Command, Library
from hub.brokers.redis.link.outcomes import CONNECTION_ERRORS, REFUSE_WRITING, RefusedError
from hub.brokers.redis.options import RedisOptions


class ReplicationLine:
    """Knows the newest line that this node has met at one shard.

    Args:
        endpoint: knows the place that the sentinels name, and whether it has lines at all.
    """

    def __init__(self, *, endpoint: Endpoint, library: Library, options: RedisOptions) -> None:
        self._endpoint = endpoint
        self.library = library
        self._options = options
        self._key = options.keys.line()
        self._config: int | None = None
        """The sentinels' number of the failover to the connected server."""
        self._met = ""
        """The newest name of a line that a server has told."""

    async def enter(self, connection: AbstractConnection) -> bool:
        """Have the server that is connected know the library, and be in its line.

        Returns False where it takes no writes now: `command` is to be sent before any call
        that relies on it. Raises what redis-py raises, also where others have left that server,
        and `LostError` where nothing can be written or the sentinels name another one by now.
        """
        await self.library.load(connection)
        if not self._endpoint.has_lines:
            return True
        await self._leave_former(connection)
        self._config = self._endpoint.config_epoch(connection)
        entered = True
        try:
            self.meet(await ask(connection, *self.command()))
        except ResponseError as error:
            if RefusedError(error).code not in REFUSE_WRITING:
                raise
            entered = False
        # Asked again: it may have been frozen all the time since the question before, and have
        # been replaced. From here on a silence shows (`CallConnection`).
        await self._endpoint.confirm(connection)
        self._endpoint.entered(connection)
        return entered

    def command(self) -> Command:
        """Return the command of `enter`; its answer goes to `meet`."""
        config = "" if self._config is None else self._config
        position_ttl_ms = int(self._options.position_ttl_seconds * 1000)
        return self._command("enter_line", position_ttl_ms, self._met, config)

    def meet(self, name: object) -> None:
        """Note the line that the server is in."""
        if isinstance(name, bytes):
            self._met = max(self._met, name.decode())

    async def _leave_former(self, connection: AbstractConnection) -> None:
        """Have the former master take no more calls of nodes that still believe in it.

        That server may be frozen or gone: the wait for it is short.
        """
        former, config = self._endpoint.former(connection), self._endpoint.config_epoch(connection)
        if former is None or config is None:
            return
        try:
            async with asyncio.timeout(self._options.retire_timeout_seconds):
                await connect(former)
                seconds = self._options.retired_seconds
                await ask(former, *self._command("leave_line", config, seconds))
        except CONNECTION_ERRORS:
            return
        finally:
            await close(former)

    def _command(self, name: str, *arguments: str | int) -> Command:
        # Scripts before 7.0 want two keys, see `_NEEDS_NONE`.
        return self.library.call(name, (self._key, self._key), arguments)
