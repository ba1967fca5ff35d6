"""One connection, from its first frame to its end.

A connection has to prove itself before it is used. Some proxies let a handshake through and then
pass nothing, or pass only what the hub sends, or hold a stream back until it is long. The answer to
a ping after the welcome shows that both directions are open and nothing is held back.
"""

import asyncio
import time
from collections import deque
from typing import NoReturn

from hub_client import frames
from hub_client.channel import Epochs
from hub_client.commands import Command
from hub_client.errors import ProtocolError, forbids_reconnect, rejection
from hub_client.transport import (
    ABNORMAL_CLOSE,
    CannotConnectError,
    DisconnectedError,
    TransportConnection,
)

OWN_ID = 0
"""The id of the first ping and of `authenticate`; commands about channels count from 1."""
# A stream that brought this much before the answer is not held back. Guess, not measured.
_MAX_EARLY_BYTES = 1024 * 1024
# Where a welcome tells none: the hub's default.
_HEARTBEAT_SECONDS = 25.0


class ClientLink:
    """One connection, from its first frame to its end."""

    def __init__(self, wire: TransportConnection) -> None:
        self.wire = wire
        self.epochs: Epochs = {}
        self.heartbeat_seconds = _HEARTBEAT_SECONDS
        self.waits_for = "welcome"
        self.given: object = None
        """The data that the application gave with the welcome."""
        self.goodbye: frames.Frame | None = None
        self.leave_at: float | None = None
        self.asked_to_leave = asyncio.Event()
        self.early: deque[bytes] = deque()
        """The frames that came before the connection had proved itself."""
        self.ended: asyncio.Future[NoReturn] = asyncio.get_running_loop().create_future()
        """The error that ends the connection from outside its own reading and writing."""
        self.renewing: asyncio.Task[None] | None = None
        self.proved_at = 0.0
        self._outgoing: asyncio.Queue[Command] = asyncio.Queue()

    def send(self, command: Command) -> None:
        self._outgoing.put_nowait(command)

    async def next_command(self) -> Command:
        """Return the next command; from then on it counts as sent over this connection."""
        command = await self._outgoing.get()
        command.link = self
        return command

    def until_leaving(self) -> float | None:
        """The seconds until a moment drawn from the goodbye's window; None without a goodbye."""
        return None if self.leave_at is None else max(0.0, self.leave_at - time.monotonic())

    def end_of(self, end: DisconnectedError) -> DisconnectedError:
        """Return `error` with the goodbye's code, where the transport has no close codes of its
        own."""
        if self.goodbye is None or end.code != ABNORMAL_CLOSE:
            return end
        return DisconnectedError(self.goodbye.code, self.goodbye.reason)

    async def prove(self) -> None:
        """Return when the welcome came and a ping was answered.

        Raises:
            CannotConnectError: The connection ended, refused the ping, or sent no valid frame.
        """
        try:
            await self._welcomed()
            await self._answered()
        except DisconnectedError as error:
            end = self.end_of(error)
            rejected = rejection(end.code, end.reason) if forbids_reconnect(end.code) else None
            text = f"closed before the {self.waits_for}: {end.code} {end.reason}"
            raise CannotConnectError(text, rejected=rejected) from None
        except ProtocolError as error:
            raise CannotConnectError(str(error)) from None

    async def _welcomed(self) -> None:
        while self.waits_for == "welcome":
            frame = self._noted(await self.wire.receive())
            if frame is not None and frame.op == "welcome":
                self.wire.welcomed(frame.connection, frame.secret)
                if frame.heartbeat_seconds > 0:
                    self.heartbeat_seconds = frame.heartbeat_seconds
                self.given = frames.given(frame)
                self.waits_for = "answer to a ping"

    async def _answered(self) -> None:
        reply = await self.wire.send(OWN_ID, frames.command("ping", OWN_ID))
        if reply is not None and not self.wire.streams:
            # Whatever it says: a client that may only read is served as well.
            return
        if reply is not None:
            _is_answer(frames.decode(reply))
        held = 0
        while held <= _MAX_EARLY_BYTES:
            raw = await self.wire.receive()
            frame = self._noted(raw)
            if frame is not None and _is_answer(frame):
                return
            if frame is not None:
                self.early.append(raw)
                held += len(raw)

    def _noted(self, raw: bytes) -> frames.Frame | None:
        """Return the frame; None for a sign of life without one."""
        frame = frames.decode(raw) if raw else None
        if frame is not None and frame.op == "goodbye":
            self.goodbye = frame
        return frame


def _is_answer(frame: frames.Frame) -> bool:
    """Return whether the ping is answered; raise `CannotConnectError` where it is refused."""
    if frame.op != "reply" or frame.id != OWN_ID:
        return False
    if frame.error is not None:
        # By whom it is not known: a proxy may allow a GET and forbid a POST.
        error = frame.error.public()
        raise CannotConnectError(f"ping: {error}", blocked=not error.retryable)
    return True
