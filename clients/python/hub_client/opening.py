"""From nothing to a welcomed connection: the transports in order, each with a time-out."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from hub_client.choice import Choice
from hub_client.errors import ProtocolError, forbids_reconnect, rejection
from hub_client.session import Leaving, Session, Welcomed
from hub_client.tokens import TokenSource
from hub_client.transport import (
    CannotConnectError,
    Connection,
    Dialer,
    DisconnectedError,
    Target,
)


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection that works."""

    connection: Connection
    welcome: Welcomed


class Opener:
    """Opens one connection at a time."""

    def __init__(
        self,
        dialers: Mapping[str, Dialer],
        target: Target,
        *,
        tokens: TokenSource,
        session: Session,
        timeout_seconds: float,
    ) -> None:
        self.choice = Choice(tuple(dialers))
        self._dialers = dialers
        self._target = target
        self._tokens = tokens
        self._session = session
        self._timeout_seconds = timeout_seconds

    async def open(self) -> Opened:
        """Try the transports in order; raise the last one's `CannotConnectError`."""
        target = await self._present_target()
        problem = CannotConnectError("no transport is configured")
        for name in self.choice.order():
            try:
                opened = await self._open_by(self._dialers[name], target)
            except CannotConnectError as error:
                problem = error
                if not self.choice.failed(blocked=error.blocked):
                    break
            else:
                self.choice.worked(name)
                self._tokens.welcomed()
                return opened
        raise problem

    async def close(self) -> None:
        for dialer in self._dialers.values():
            await dialer.close()

    async def _present_target(self) -> Target:
        """With the token and the subscriptions as they are now."""
        wanted = tuple(sequence.options() for sequence in self._session.sequences.values())
        try:
            token = await self._tokens.current()
        except Exception as error:
            text = f"no token: {type(error).__name__}: {error}"
            raise CannotConnectError(text) from error
        return replace(self._target, token=token, subscribe=wanted)

    async def _open_by(self, dialer: Dialer, target: Target) -> Opened:
        connection: Connection | None = None
        try:
            async with asyncio.timeout(self._timeout_seconds):
                connection = await dialer.dial(target)
                return await self._welcomed(connection)
        except BaseException as error:
            if connection is not None:
                await connection.close()
            if isinstance(error, TimeoutError):
                text = f"no welcome over {dialer.transport} in {self._timeout_seconds:g} seconds"
                raise CannotConnectError(text, blocked=True) from None
            raise

    async def _welcomed(self, connection: Connection) -> Opened:
        """The welcome comes first; a goodbye in its place says why there will be none."""
        self._session.connected(starts_in_reply=connection.starts_in_reply)
        goodbye: Leaving | None = None
        try:
            while True:
                event = self._session.receive(await connection.receive())
                if isinstance(event, Welcomed):
                    connection.welcomed(event.connection, event.secret)
                    return Opened(connection, event)
                goodbye = event if isinstance(event, Leaving) else goodbye
        except DisconnectedError as end:
            raise _not_welcomed(end, goodbye) from None
        except ProtocolError as error:
            raise CannotConnectError(str(error)) from None


def _not_welcomed(end: DisconnectedError, goodbye: Leaving | None) -> CannotConnectError:
    code = goodbye.code if goodbye is not None else end.code
    reason = goodbye.reason if goodbye is not None else end.reason
    rejected = rejection(code, reason) if forbids_reconnect(code) else None
    return CannotConnectError(f"closed before the welcome: {code} {reason}", rejected=rejected)
