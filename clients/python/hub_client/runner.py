"""Keeps one connection up: open, serve, wait, again, until the hub says not to come back.

The decisions stand elsewhere (`session`, `timing`, `choice`, `tokens`); this does them.
"""

import asyncio
import time
from collections.abc import Callable
from typing import NoReturn, Protocol

from hub_client.errors import (
    ProtocolError,
    RejectedError,
    UnauthorizedError,
    forbids_reconnect,
    rejection,
)
from hub_client.life import Life
from hub_client.messages import ConnectionState
from hub_client.opening import Opener
from hub_client.session import Event, Leaving, Session, TokenEnding
from hub_client.timing import Backoff, ReconnectTiming
from hub_client.tokens import TokenSource
from hub_client.transport import ABNORMAL_CLOSE, CannotConnectError, Connection, DisconnectedError


class Host(Protocol):
    """Who the connection is kept for."""

    def on_connected(self, connection: Connection) -> None: ...

    def on_disconnected(self) -> None: ...

    async def on_event(self, event: Event) -> None:
        """Carry out what a frame asked for; may wait for room.

        Raises:
            DisconnectedError: this connection is of no use; come back with another.
        """
        ...


class Runner:
    """One client's connections, one after another, for as long as the client lives."""

    def __init__(
        self,
        opener: Opener,
        host: Host,
        *,
        session: Session,
        tokens: TokenSource,
        timing: ReconnectTiming,
        report: Callable[[ConnectionState], None],
    ) -> None:
        self._opener = opener
        self._host = host
        self._session = session
        self._tokens = tokens
        self._timing = timing
        self._report = report
        self._backoff = Backoff(timing)
        self._life: Life | None = None
        self.trouble = ""
        """Why there is no connection."""

    def send(self, command_id: int, raw: bytes) -> None:
        """Queue a command for the present connection; without one it is dropped."""
        if self._life is not None:
            self._life.outgoing.put_nowait((command_id, raw))

    async def run(self) -> NoReturn:
        """Never returns; raises the `RejectedError` that forbids to come back."""
        while True:
            pause = await self._one_connection()
            # A pause of 0 still lets others run: this loop must not starve them.
            await asyncio.sleep(pause)

    async def _one_connection(self) -> float:
        """From opening to the end; seconds to wait before the next."""
        self._report(ConnectionState("connecting"))
        try:
            opened = await self._opener.open()
        except CannotConnectError as problem:
            if problem.rejected is not None:
                return self._rejected(problem.rejected, pause=0.0)
            # On top of what is asked for: everybody is told the same second.
            pause = problem.asked_seconds + self._backoff.next_pause()
            return self._waiting(str(problem), pause)
        life = Life(opened)
        try:
            await self._serve(life)
        except DisconnectedError as end:
            return self._ended(life, life.verdict(end))

    async def _serve(self, life: Life) -> NoReturn:
        """Read and write until one of them raises `DisconnectedError`."""
        self._life = life
        ends: list[BaseException] = []
        jobs: set[asyncio.Task[NoReturn]] = set()
        try:
            self._report(ConnectionState("connected", transport=life.connection.transport))
            self._host.on_connected(life.connection)
            jobs = {
                asyncio.create_task(self._read(life)),
                asyncio.create_task(self._write(life)),
            }
            await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._life = None
            self._host.on_disconnected()
            try:
                ends = await _cancelled(jobs)
            finally:
                await life.connection.close()
        raise ends[0] if ends else DisconnectedError(ABNORMAL_CLOSE, "ended")

    async def _read(self, life: Life) -> NoReturn:
        while True:
            event = self._understood(await self._next_frame(life))
            if isinstance(event, Leaving):
                self._leaving(life, event)
            elif isinstance(event, TokenEnding):
                if self._tokens.renewable:
                    await self._renew_token(life)
            elif event is not None:
                life.answered.set()
                await self._host.on_event(event)

    def _understood(self, raw: bytes) -> Event | None:
        try:
            return self._session.receive(raw)
        except ProtocolError as error:
            raise DisconnectedError(ABNORMAL_CLOSE, str(error)) from None

    async def _next_frame(self, life: Life) -> bytes:
        seconds, reason = life.patience(self._timing)
        try:
            async with asyncio.timeout(seconds):
                return await life.connection.receive()
        except TimeoutError:
            raise DisconnectedError(ABNORMAL_CLOSE, reason) from None

    async def _write(self, life: Life) -> NoReturn:
        while True:
            reply = await life.connection.send(*await life.outgoing.get())
            if reply is None:
                await self._wait_answered(life)
            elif event := self._understood(reply):
                await self._host.on_event(event)

    async def _wait_answered(self, life: Life) -> None:
        """The first command is a probe: there are proxies that let a WebSocket through and
        then pass nothing, or only what the hub says."""
        seconds = self._timing.open_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                await life.answered.wait()
        except TimeoutError:
            self._opener.choice.blocked(life.connection.transport)
            reason = f"no answer to the first command in {seconds:g} seconds"
            raise DisconnectedError(ABNORMAL_CLOSE, reason) from None

    def _leaving(self, life: Life, goodbye: Leaving) -> None:
        life.goodbye = goodbye
        if goodbye.window_ms is not None and not forbids_reconnect(goodbye.code):
            life.leave_at = time.monotonic() + self._backoff.within(goodbye.window_ms)

    async def _renew_token(self, life: Life) -> None:
        try:
            token = await self._tokens.renewed()
        except Exception as error:  # noqa: BLE001 - whatever the application's callable raises
            # The session goes on until the token ends; then it is asked for again.
            self._report(ConnectionState("connected", f"no new token: {error}"))
            return
        life.outgoing.put_nowait(self._session.command("authenticate", token=token))

    def _ended(self, life: Life, end: DisconnectedError) -> float:
        """Seconds to wait after a connection that had been welcomed."""
        self._backoff.lived(life.seconds)
        self._opener.choice.ended(life.seconds)
        leaving = life.until_leaving()
        if leaving is not None and not forbids_reconnect(end.code):
            return self._waiting(str(end), leaving)
        pause = self._backoff.next_pause()
        if forbids_reconnect(end.code):
            return self._rejected(rejection(end.code, end.reason), pause=pause)
        return self._waiting(str(end), pause)

    def _rejected(self, error: RejectedError, *, pause: float) -> float:
        if isinstance(error, UnauthorizedError) and self._tokens.discard():
            return self._waiting(str(error), pause)
        raise error

    def _waiting(self, why: str, pause: float) -> float:
        self.trouble = why
        self._report(ConnectionState("waiting", why, retry_in_seconds=pause))
        return pause


async def _cancelled(jobs: set[asyncio.Task[NoReturn]]) -> list[BaseException]:
    """End `jobs`; the errors of those that had ended by themselves."""
    for job in jobs:
        job.cancel()
    outcomes = await asyncio.gather(*jobs, return_exceptions=True)
    return [error for error in outcomes if not isinstance(error, asyncio.CancelledError)]
