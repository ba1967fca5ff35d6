"""What is asked about one connection of this node, by its peer or an operator, at any node.

`POST /command` is a command for a session whose own stream only goes the other way.
"""

import asyncio
import time

from hub.core.commands import Command, Ping, Publish
from hub.core.engine import Engine
from hub.core.listing import ConnectionQuery, Listed
from hub.core.polling import PollRequest
from hub.core.pushes import Reply
from hub.core.records import SessionRecord
from hub.core.selecting import Here, Selection
from hub.errors import HubError, OutcomeUnknownError, RateLimitedError, UnavailableError
from hub.transports.http.ports import Poll
from hub.wire import native

# A command asks the broker at most; its own time-outs are shorter.
_TIMEOUT_SECONDS = 30.0
# Looked at before other work gets its turn: 1 ms; 50,000 take 30 ms in all (measured).
_SLICE_SESSIONS = 1000


class Commanding:
    """One per node: `hub.core.peers.OwnConnections`."""

    def __init__(self, engine: Engine, poll: Poll, *, node: str, max_message_bytes: int) -> None:
        """`poll` answers a poll of a session of this node."""
        self._engine = engine
        self._poll = poll
        self._max_message_bytes = max_message_bytes
        self._here = Here(node, engine.clock, time.time() - engine.clock())
        self._listing = asyncio.Lock()

    async def command(self, connection: str, secret: str, raw: bytes) -> bytes:
        """Carry out one command behind those the session sent before; return its reply.

        A ping is answered in the session's own stream as well: a proxy that holds the stream
        back until its buffer is full is found out by nothing else in time.

        Raises:
            UnauthorizedError: the secret is not that connection's.
            NotFoundError: the session has ended.
            UnavailableError: time ran out before the reply.
            OutcomeUnknownError: the same of a publish.
        """
        session = self._engine.find(connection, secret)
        try:
            command = native.decode(raw, max_message_bytes=self._max_message_bytes)
        except HubError as error:
            return native.encode(Reply(error.command_id, error=error))
        if isinstance(command, Ping):
            session.push(Reply(command.id))
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def respond(answer: Reply) -> None:
            if not reply.done():
                reply.set_result(answer)

        try:
            self._engine.submit(session, command, respond)
        except RateLimitedError as error:
            return native.encode(Reply(command.id, error=error))
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                return native.encode(await reply)
        except TimeoutError:
            raise _late(command) from None

    async def check(self, connection: str, secret: str) -> None:
        """Raise unless the secret is that of an open connection."""
        self._engine.find(connection, secret)

    async def poll(self, request: PollRequest) -> bytes:
        """See `hub.transports.poll`."""
        return await self._poll(request)

    async def connection(self, connection: str) -> SessionRecord | None:
        """Its state now; None where it is not open here."""
        session = self._engine.sessions.get(connection)
        return None if session is None else self._here.record(session)

    async def listed(self, query: ConnectionQuery) -> Listed:
        """One after another: many who ask must not multiply what the loop does at a time."""
        async with self._listing:
            selection = Selection(query, self._here)
            sessions = list(self._engine.sessions.values())
            for start in range(0, len(sessions), _SLICE_SESSIONS):
                selection.look_at(sessions[start : start + _SLICE_SESSIONS])
                await asyncio.sleep(0)
            return selection.listed()

    async def disconnect(self, connection: str, *, code: int, reason: str) -> bool:
        """Close it on an operator's word; False where it is not open here."""
        return self._engine.disconnect(connection, code=code, reason=reason)


def _late(command: Command) -> HubError:
    if isinstance(command, Publish):
        return OutcomeUnknownError("the reply to the publish did not come in time")
    return UnavailableError("the command was not carried out in time")
