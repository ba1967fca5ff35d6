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
from hub_client.improving import Improver
from hub_client.life import Life
from hub_client.messages import ConnectionState
from hub_client.opening import Opener
from hub_client.session import Event, Leaving, Session, TokenEnding
from hub_client.takeover import Takeover
from hub_client.timing import Backoff, ReconnectTiming
from hub_client.tokens import TokenSource
from hub_client.transport import ABNORMAL_CLOSE, CannotConnectError, DisconnectedError


class Host(Protocol):
    """Who the connection is kept for."""

    def on_connected(self, subscribed: frozenset[str], carried: frozenset[str]) -> None:
        """A connection begins, or goes on for another.

        Args:
            subscribed: channels that the hub was asked for over it.
            carried: those of them that go on as they are.
        """
        ...

    def on_disconnected(self) -> None: ...

    def awaits(self, command_id: int) -> bool:
        """Whether anybody still waits for the reply to this command."""
        ...

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
        self._improver = Improver(opener, session, timing)
        self._life: Life | None = None
        self._renewing: asyncio.Task[None] | None = None
        self.trouble = ""
        """Why there is no connection."""

    def send(self, command_id: int, raw: bytes) -> None:
        """Queue a command for the present connection; without one it is dropped."""
        if self._life is not None:
            self._life.queue((command_id, raw))

    async def run(self) -> NoReturn:
        """Never returns; raises the `RejectedError` that forbids to come back."""
        try:
            while True:
                pause = await self._one_connection()
                # A pause of 0 still lets others run: this loop must not starve them.
                await asyncio.sleep(pause)
        finally:
            if self._life is not None:
                await self._life.close()

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
            self._begin(life)
            while True:
                life = await self._serve(life)
        except DisconnectedError as end:
            return self._ended(life, life.verdict(end))

    def _begin(self, life: Life) -> None:
        self._life = life
        self._session.connected(starts_in_reply=life.connection.starts_in_reply)
        self._report(ConnectionState("connected", transport=life.connection.transport))
        self._host.on_connected(life.connection.in_url, life.connection.in_url)

    async def _serve(self, life: Life) -> Life:
        """Read and write until a better connection goes on, which is returned; raise
        `DisconnectedError` where this one ends before."""
        jobs = self._jobs(life)
        better: Takeover | None = None
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            if better := _ready(done):
                self._go_on(life, better)
        finally:
            if better is None:
                self._life = None
                self._host.on_disconnected()
            try:
                ends = await self._ends(jobs)
            finally:
                await life.close()
        if better is None:
            raise ends[0] if ends else DisconnectedError(ABNORMAL_CLOSE, "ended")
        return better.life

    def _jobs(self, life: Life) -> set[asyncio.Task[Takeover]]:
        """Only the last of them ever returns."""
        jobs: set[asyncio.Task[Takeover]] = {
            asyncio.create_task(self._read(life)),
            asyncio.create_task(self._write(life)),
        }
        if self._improver.can_improve(life):
            jobs.add(asyncio.create_task(self._improver.improve(life)))
        return jobs

    def _go_on(self, life: Life, better: Takeover) -> None:
        """`better` takes the place of `life` between two steps of the event loop."""
        starts = better.starts
        unsent = [command for command in life.unsent if self._host.awaits(command[0])]
        self._life = better.life
        for command in unsent:
            better.life.queue(command)
        connection = better.life.connection
        ids = [command_id for command_id, _ in unsent]
        self._session.moved(starts, ids, starts_in_reply=connection.starts_in_reply)
        self._host.on_connected(better.subscribed, frozenset(starts))
        self._report(ConnectionState("connected", transport=connection.transport))

    async def _ends(self, jobs: set[asyncio.Task[Takeover]]) -> list[BaseException]:
        """End `jobs`; the errors of those that had ended by themselves."""
        renewing = {self._renewing} if self._renewing is not None else set()
        for job in jobs | renewing:
            job.cancel()
        await asyncio.gather(*renewing, return_exceptions=True)
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Takeover) and outcome.life is not self._life:
                await outcome.life.close()
        errors = (outcome for outcome in outcomes if isinstance(outcome, BaseException))
        return [error for error in errors if not isinstance(error, asyncio.CancelledError)]

    async def _read(self, life: Life) -> NoReturn:
        while True:
            event = self._understood(await self._next_frame(life))
            if isinstance(event, Leaving):
                self._leaving(life, event)
            elif isinstance(event, TokenEnding):
                if self._tokens.renewable and self._renewing is None:
                    # Beside the reading: an application may take long to make a token.
                    self._renewing = asyncio.create_task(self._renew_token(life))
                    self._renewing.add_done_callback(self._renewed)
            elif event is not None:
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
                return await life.receive()
        except TimeoutError:
            raise DisconnectedError(ABNORMAL_CLOSE, reason) from None

    async def _write(self, life: Life) -> NoReturn:
        while True:
            reply = await life.connection.send(*await life.next_command())
            if reply is not None and (event := self._understood(reply)):
                await self._host.on_event(event)

    def _leaving(self, life: Life, goodbye: Leaving) -> None:
        life.goodbye = goodbye
        if goodbye.window_ms is not None and not forbids_reconnect(goodbye.code):
            life.leave_at = time.monotonic() + self._backoff.within(goodbye.window_ms)

    def _renewed(self, _: asyncio.Task[None]) -> None:
        self._renewing = None

    async def _renew_token(self, life: Life) -> None:
        try:
            token = await self._tokens.renewed()
        except Exception as error:  # noqa: BLE001 - whatever the application's callable raises
            # The session goes on until the token ends; then it is asked for again.
            self._report(ConnectionState("connected", f"no new token: {error}"))
            return
        life.queue(self._session.command("authenticate", token=token))

    def _ended(self, life: Life, end: DisconnectedError) -> float:
        """Seconds to wait after a connection that had been welcomed."""
        self._backoff.lived(life.seconds)
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


def _ready(done: set[asyncio.Task[Takeover]]) -> Takeover | None:
    """A better connection, where that is why a job has ended."""
    ended_well = (job for job in done if not job.cancelled() and job.exception() is None)
    return next((job.result() for job in ended_well), None)
