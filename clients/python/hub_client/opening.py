"""From nothing to a connection that works: the transports in order, each with a time-out."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from hub_client.choice import Choice
from hub_client.errors import ProtocolError, forbids_reconnect, rejection
from hub_client.greeting import Greeting
from hub_client.session import Session, Welcomed
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
    held: tuple[bytes, ...] = ()
    """Frames that came before it was known to work."""


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
        return await self._first_of(self.choice.order(), await self._present_target())

    async def open_better(self, transport: str) -> Opened:
        """Try what is preferred to `transport`, without a subscription; raise as `open`."""
        target = replace(await self._present_target(), subscribe=())
        problem = CannotConnectError(f"nothing is better than {transport}")
        for name in self.choice.better_than(transport):
            try:
                return await self._open_by(self._dialers[name], target)
            except CannotConnectError as error:
                problem = error
        raise problem

    async def _first_of(self, names: Iterable[str], target: Target) -> Opened:
        problem = CannotConnectError("no transport is configured")
        for name in names:
            try:
                return await self._open_by(self._dialers[name], target)
            except CannotConnectError as error:
                problem = error
                if not self.choice.failed(blocked=error.blocked):
                    break
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
        greeting = Greeting()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                connection = await dialer.dial(target)
                opened = await _proved(connection, greeting)
        except BaseException as error:
            if connection is not None:
                await connection.close()
            if isinstance(error, TimeoutError):
                seconds = f"{self._timeout_seconds:g} seconds"
                text = f"no {greeting.waits_for} over {dialer.transport} in {seconds}"
                raise CannotConnectError(text, blocked=True) from None
            raise
        self.choice.worked(dialer.transport)
        self._tokens.welcomed()
        return opened


async def _proved(connection: Connection, greeting: Greeting) -> Opened:
    try:
        welcome = await greeting.welcomed(connection)
        await greeting.proved(connection)
    except DisconnectedError as end:
        raise _cut_short(end, greeting) from None
    except ProtocolError as error:
        raise CannotConnectError(str(error)) from None
    return Opened(connection, welcome, tuple(greeting.held))


def _cut_short(end: DisconnectedError, greeting: Greeting) -> CannotConnectError:
    """A goodbye says why there will be no connection."""
    goodbye = greeting.goodbye
    code, reason = (end.code, end.reason) if goodbye is None else (goodbye.code, goodbye.reason)
    rejected = rejection(code, reason) if forbids_reconnect(code) else None
    text = f"closed before the {greeting.waits_for}: {code} {reason}"
    return CannotConnectError(text, rejected=rejected)
