"""Commands and polls of a peer for its own session, carried out at the node that holds it.

`POST /command` is a command for a session whose own stream only goes the other way.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import ClassVar

from hub.admin.requests import AdminRequest, Handlers, Rights
from hub.core.commands import Command, Ping, PollRequest, Publish
from hub.core.options import KIB
from hub.core.pushes import Reply
from hub.core.registry import SessionRegistry
from hub.errors import HubError, OutcomeUnknownError, RateLimitedError, UnavailableError
from hub.wire import native_commands, native_pushes

# Bound of the answer to a poll at another node: Redis cuts a subscriber that is 32 MB behind at
# once (client-output-buffer-limit pubsub), which is 500 of these.
MAX_POLL_BYTES = 64 * KIB
# A command calls the broker at most; the broker's time-outs are shorter.
_TIMEOUT_SECONDS = 30.0


class SendCommand(AdminRequest[bytes], frozen=True, tag="command"):
    """Carries a command out for a session; the answer is the encoded reply.

    Raises `NotFoundError` for a connection that is not open, `UnauthorizedError` for a wrong
    secret, `OutcomeUnknownError` for a publish whose reply did not come.
    """

    rights: ClassVar[Rights] = Rights.SESSION
    connection: str
    secret: str
    raw: bytes

    def without_answer(self, why: str) -> HubError:
        """Return `OutcomeUnknownError` for a publish, which may have been made."""
        try:
            command = native_commands.decode(self.raw, max_message_bytes=len(self.raw))
        except HubError:
            return super().without_answer(why)
        if isinstance(command, Publish):
            return OutcomeUnknownError(f"it is not known whether it was published: {why}")
        return super().without_answer(why)


class CheckSecret(AdminRequest[None], frozen=True, tag="check"):
    """Checks a secret before a command travels; raises as `SendCommand` does."""

    rights: ClassVar[Rights] = Rights.SESSION
    connection: str
    secret: str


class Poll(AdminRequest[bytes], frozen=True, tag="poll"):
    """Answers a poll of a session, which stays at its node.

    Raises `NotFoundError` and `UnauthorizedError` like a command, `BadRequestError` for a session
    that does not poll.
    """

    rights: ClassVar[Rights] = Rights.SESSION
    lasts: ClassVar[bool] = True
    request: PollRequest

    def wait_seconds(self) -> float:
        return self.request.wait_seconds

    def to_travel(self) -> "Poll":
        most = min(self.request.max_bytes, MAX_POLL_BYTES)
        return Poll(replace(self.request, max_bytes=most))


class SessionHandlers:
    """Carries the requests of sessions out; one per node.

    Args:
        poll: answers a poll of a session of this node.
    """

    def __init__(
        self,
        registry: SessionRegistry,
        poll: Callable[[PollRequest], Awaitable[bytes]],
        *,
        max_message_bytes: int,
    ) -> None:
        self._registry = registry
        self._poll = poll
        self._max_message_bytes = max_message_bytes

    def handlers(self) -> Handlers:
        return {
            SendCommand: self.command,
            CheckSecret: self._check,
            Poll: lambda asked: self._poll(asked.request),
        }

    async def command(self, asked: SendCommand) -> bytes:
        """Carry one command out behind those the session sent before; return its reply.

        A ping is answered in the session's own stream as well: a proxy that holds the stream
        back until its buffer is full shows in no other way in time.
        """
        session = self._registry.find(asked.connection, asked.secret)
        over = self._registry.commands.over_limit(session, len(asked.raw))
        try:
            command = native_commands.decode(asked.raw, max_message_bytes=self._max_message_bytes)
        except HubError as error:
            return native_pushes.encode(Reply(error.command_id, error=error))
        if over is not None:
            return native_pushes.encode(Reply(command.id, error=over))
        if isinstance(command, Ping):
            session.push(Reply(command.id))
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def respond(answer: Reply) -> None:
            if not reply.done():
                reply.set_result(answer)

        try:
            self._registry.commands.submit(session, command, respond)
        except RateLimitedError as error:
            return native_pushes.encode(Reply(command.id, error=error))
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                return native_pushes.encode(await reply)
        except TimeoutError:
            raise _late(command) from None

    async def _check(self, asked: CheckSecret) -> None:
        self._registry.find(asked.connection, asked.secret)


def _late(command: Command) -> HubError:
    if isinstance(command, Publish):
        return OutcomeUnknownError("the reply to the publish did not come in time")
    return UnavailableError("the command was not carried out in time")
