"""A client's one connection: when to come back, when to move, and how a silent one is noticed.

This module knows nothing about channels; `hub_client.opening` chooses the transport. The states are
those of the browser client (clients/js/src/connection.js):

- connecting: an attempt asks for a token once and tries the transports in order. A connection has
  to prove itself: the hub's `welcome` came and a ping was answered, in time. There are proxies that
  let a handshake through and then pass nothing, or only what the hub sends, or hold a stream back.
- connected: frames are read until the end, or a silence of 1.5 heartbeats. Where the hub asks this
  client to leave, and from time to time where a better transport is known, another attempt is made
  beside it. Only a connection that has proved itself takes its place, and the one before goes on
  for `LINGER_SECONDS`: so a move leaves no moment without a connection.
- waiting: for the next attempt, after a back-off or as long as the hub asked for.
- closed: the hub forbids to come back, or the application closes.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from hub_client import frames
from hub_client.commands import Command
from hub_client.errors import (
    LoggedOutError,
    ProtocolError,
    RejectedError,
    UnauthorizedError,
    forbids_reconnect,
    rejection,
)
from hub_client.link import OWN_ID, ClientLink
from hub_client.messages import ConnectionState
from hub_client.opening import Opening
from hub_client.timing import Backoff, ReconnectTiming, better_timing
from hub_client.tokens import TokenCancelledError, TokenSource
from hub_client.transport import (
    ABNORMAL_CLOSE,
    UNTRUSTED_CLOSE,
    CannotConnectError,
    Dialer,
    DisconnectedError,
    Target,
)

LINGER_SECONDS = 2.0
"""A former connection lives so long, for the pushes that were sent on it last. Guess, not measured.
"""


class Host(Protocol):
    """The owner of the connection: the channels and commands of a client."""

    def wanted(self) -> tuple[Mapping[str, object], ...]:
        """Return fields of the subscribe commands that a transport may put into its URL."""
        ...

    def up(self, link: ClientLink) -> None:
        """Use `link` as the connection from now on."""
        ...

    def down(self, link: ClientLink) -> None:
        """Note that there is no connection."""
        ...

    def over(self, link: ClientLink) -> None:
        """Note that `link` brings no frame any more."""
        ...

    def on_frame(self, frame: frames.Frame, raw: bytes, link: ClientLink) -> None: ...

    async def room(self, channel: str) -> None:
        """Return when the application has room for more messages of this channel."""
        ...


class Connections:
    """One client's connections, one after another, for as long as it is open."""

    def __init__(
        self,
        dialers: Mapping[str, Dialer],
        target: Target,
        *,
        tokens: TokenSource,
        timing: ReconnectTiming,
        host: Host,
        report: Callable[[ConnectionState], None],
    ) -> None:
        self._opening = Opening(dialers, target, tokens=tokens, timing=timing)
        self._choice = self._opening.choice
        self._tokens = tokens
        self._timing = timing
        self._host = host
        self._report = report
        self._backoff = Backoff(timing)
        self._lingering: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()
        self.trouble = ""
        """The reason why there is no connection."""

    async def run(self) -> NoReturn:
        """Keep a connection for ever; raise the `RejectedError` that forbids to come back."""
        try:
            while True:
                pause = await self._once()
                # A pause of 0 still lets others run: this loop must not starve them.
                await asyncio.sleep(pause)
        finally:
            # Not cancelled: a task that is cancelled before it begins would end nothing.
            self._stopped.set()
            await asyncio.gather(*self._lingering, return_exceptions=True)
            await self._opening.close()

    async def _once(self) -> float:
        """Run from connecting to waiting; return the seconds to wait."""
        self._report(ConnectionState("connecting"))
        try:
            link = await self._opening.open(self._choice.order(), self._host.wanted())
        except CannotConnectError as problem:
            if problem.rejected is not None and not self._may_mend(problem.rejected):
                return self._rejected(problem.rejected, pause=0.0)
            # On top of the time that the hub asks for: all clients get the same one.
            pause = problem.asked_seconds + self._backoff.next_pause()
            return self._waiting(str(problem), pause)
        while True:
            try:
                link = await self._serve(link)
            except DisconnectedError as end:
                return self._ended(link, link.end_of(end))

    # -- connected -------------------------------------------------------------------------

    async def _serve(self, link: ClientLink) -> ClientLink:
        """Use `link` until another connection goes on for it, and return that one; raise
        `DisconnectedError` where `link` ends before."""
        self._choice.worked(link.wire.transport)
        link.proved_at = time.monotonic()
        transport = link.wire.transport
        self._report(ConnectionState("connected", transport=transport, data=link.given))
        self._host.up(link)
        reading, writing = _job(self._read(link)), _job(self._write(link))
        moving = asyncio.create_task(self._move(link))
        better: ClientLink | None = None
        try:
            jobs = (reading, writing, moving, link.ended)
            await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            if moving.done() and moving.exception() is None:
                better = moving.result()
                self._linger(link, {reading, writing})
                return better
        finally:
            if better is None:
                self._host.down(link)
                ends = await self._finish(link, (reading, writing, moving))
        raise ends[0] if ends else DisconnectedError(ABNORMAL_CLOSE, "ended")

    async def _finish(
        self, link: ClientLink, jobs: "Iterable[asyncio.Task[Any]]"
    ) -> list[BaseException]:
        """End `link`; return the errors of the jobs that had ended by themselves."""
        if link.renewing is not None:
            jobs = (*jobs, link.renewing)
        try:
            for job in jobs:
                job.cancel()
            outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        finally:
            self._host.over(link)
            await link.wire.close()
        for outcome in outcomes:
            if isinstance(outcome, ClientLink):
                await outcome.wire.close()
        given = [link.ended.exception()] if link.ended.done() else []
        errors = (each for each in (*given, *outcomes) if isinstance(each, BaseException))
        return [error for error in errors if not isinstance(error, asyncio.CancelledError)]

    def _linger(self, link: ClientLink, jobs: "set[asyncio.Task[NoReturn]]") -> None:
        """Read the rest of a former connection while another one goes on."""

        async def linger() -> None:
            stopped = asyncio.create_task(self._stopped.wait())
            ends = {*jobs, stopped}
            try:
                await asyncio.wait(
                    ends, timeout=LINGER_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                await self._finish(link, ends)

        job = asyncio.create_task(linger())
        self._lingering.add(job)
        job.add_done_callback(self._lingering.discard)

    async def _read(self, link: ClientLink) -> NoReturn:
        while True:
            raw = link.early.popleft() if link.early else await self._next_frame(link)
            if raw:
                await self._on_frame(link, raw)

    async def _next_frame(self, link: ClientLink) -> bytes:
        """Return the next frame; the time that the application takes to make room is no silence of
        the hub."""
        silence = self._timing.missed_heartbeats * link.heartbeat_seconds
        try:
            async with asyncio.timeout(silence):
                return await link.wire.receive()
        except TimeoutError:
            text = f"no frame in {silence:g} seconds"
            raise DisconnectedError(ABNORMAL_CLOSE, text) from None

    async def _write(self, link: ClientLink) -> NoReturn:
        while True:
            command = await link.next_command()
            reply = await link.wire.send(command.id, command.raw)
            if reply is not None:
                await self._on_frame(link, reply)

    async def _on_frame(self, link: ClientLink, raw: bytes) -> None:
        try:
            frame = frames.decode(raw)
            if frame.op == "goodbye":
                self._leave(link, frame)
            elif frame.op == "expiring":
                self._renew(link)
            else:
                self._host.on_frame(frame, raw, link)
        except ProtocolError as error:
            raise DisconnectedError(ABNORMAL_CLOSE, str(error)) from None
        await self._host.room(frame.channel)

    # -- moving ----------------------------------------------------------------------------

    def _leave(self, link: ClientLink, goodbye: frames.Frame) -> None:
        link.goodbye = goodbye
        window_ms = goodbye.reconnect_within_ms
        if window_ms is not None and not forbids_reconnect(goodbye.code):
            link.leave_at = time.monotonic() + self._backoff.within(window_ms)
            link.asked_to_leave.set()

    async def _move(self, link: ClientLink) -> ClientLink:
        """Return the connection that goes on for `link`: at another node as the hub asked, or a
        better one."""
        pauses = Backoff(better_timing(self._timing))
        better = self._choice.better_than(link.wire.transport)
        while not link.asked_to_leave.is_set():
            pause = self._timing.better_seconds + pauses.next_pause() if better else None
            try:
                async with asyncio.timeout(pause):
                    await link.asked_to_leave.wait()
            except TimeoutError:
                if found := await self._open_beside(better):
                    return found
        await asyncio.sleep(link.until_leaving() or 0.0)
        while True:
            if found := await self._open_beside(self._choice.order()):
                return found
            await asyncio.sleep(self._backoff.next_pause())

    async def _open_beside(self, names: Sequence[str]) -> ClientLink | None:
        """Open without subscriptions: they follow when the connection takes the place of the
        other."""
        try:
            return await self._opening.open(names, beside=True)
        except CannotConnectError:
            return None

    # -- the token -------------------------------------------------------------------------

    def _renew(self, link: ClientLink) -> None:
        """Renew the token beside the reading, because an application may take long to make one."""
        if self._tokens.renewable and link.renewing is None:
            link.renewing = asyncio.create_task(self._authenticate(link))

    async def _authenticate(self, link: ClientLink) -> None:
        try:
            token = await self._tokens.renewed()
        except (LoggedOutError, TokenCancelledError) as error:
            if not link.ended.done():
                lost = DisconnectedError(ABNORMAL_CLOSE, f"no token: {error}")
                link.ended.set_exception(error if isinstance(error, LoggedOutError) else lost)
        except Exception as error:  # noqa: BLE001 - whatever the application's callable raises
            # The session goes on until the token ends; then it is asked for again.
            self._report(ConnectionState("connected", f"no new token: {error}"))
        else:
            raw = frames.command("authenticate", OWN_ID, token=token)
            link.send(Command(OWN_ID, raw, lambda _: None, own=True))
        finally:
            link.renewing = None

    # -- waiting ---------------------------------------------------------------------------

    def _ended(self, link: ClientLink, end: DisconnectedError) -> float:
        """Return the seconds to wait after the end of a connection that had proved itself."""
        self._backoff.lived(time.monotonic() - link.proved_at)
        leaving = link.until_leaving()
        if leaving is not None and not forbids_reconnect(end.code):
            return self._waiting(str(end), leaving)
        pause = self._backoff.next_pause()
        if forbids_reconnect(end.code):
            return self._rejected(rejection(end.code, end.reason), pause=pause)
        return self._waiting(str(end), pause)

    def _may_mend(self, error: RejectedError) -> bool:
        """Return whether waiting helps: a client that was connected has trusted the hub's
        certificate, and an expired one will be renewed."""
        return error.close_code == UNTRUSTED_CLOSE and self._choice.has_worked

    def _rejected(self, error: RejectedError, *, pause: float) -> float:
        if isinstance(error, UnauthorizedError) and self._tokens.discard():
            return self._waiting(str(error), pause)
        raise error

    def _waiting(self, why: str, pause: float) -> float:
        self.trouble = why
        self._report(ConnectionState("waiting", why, retry_in_seconds=pause))
        return pause


def _job(run: "Coroutine[object, object, NoReturn]") -> "asyncio.Task[NoReturn]":
    return asyncio.create_task(run)
