"""What is asked about one connection of this node, by its peer or an operator, at any node.

`POST /command` is a command for a session whose own stream only goes the other way.
"""

import asyncio
import time

from hub.core.engine import Engine
from hub.core.pushes import Reply
from hub.core.records import SessionRecord
from hub.core.views import session_record
from hub.errors import HubError, UnavailableError
from hub.wire import native

# A command asks the broker at most; its own time-outs are shorter.
_TIMEOUT_SECONDS = 30.0


class Commanding:
    """One per node: `hub.core.ports.Connections` of its own sessions."""

    def __init__(self, engine: Engine, *, max_message_bytes: int) -> None:
        self._engine = engine
        self._max_message_bytes = max_message_bytes

    async def command(self, connection: str, secret: str, raw: bytes) -> bytes:
        """Carry out one command behind those the session sent before; return its reply.

        Raises:
            UnauthorizedError: the secret is not that connection's.
            NotFoundError: the session has ended.
            UnavailableError: it ended, or time ran out, before the reply.
        """
        session = self._engine.find(connection, secret)
        try:
            command = native.decode(raw, max_message_bytes=self._max_message_bytes)
        except HubError as error:
            return native.encode(Reply(error.command_id, error=error))
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def respond(answer: Reply) -> None:
            if not reply.done():
                reply.set_result(answer)

        self._engine.submit(session, command, respond)
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                return native.encode(await reply)
        except TimeoutError:
            raise UnavailableError("the command was not carried out in time") from None

    async def connection(self, connection: str) -> SessionRecord | None:
        """Its state now; None where it is not open here."""
        if (session := self._engine.sessions.get(connection)) is None:
            return None
        return session_record(session, now_seconds=self._engine.clock(), wall_seconds=time.time())

    async def disconnect(self, connection: str, *, code: int, reason: str) -> bool:
        """Close it on an operator's word; False where it is not open here."""
        return self._engine.disconnect(connection, code=code, reason=reason)
