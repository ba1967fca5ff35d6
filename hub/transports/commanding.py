"""`POST /command`: a command for a session whose own stream only goes the other way."""

import asyncio

from hub.core.engine import Engine
from hub.core.pushes import Reply
from hub.errors import HubError, UnavailableError
from hub.wire import native

# A command asks the broker at most; its own time-outs are shorter.
_TIMEOUT_SECONDS = 30.0


class Commanding:
    """One per node."""

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
