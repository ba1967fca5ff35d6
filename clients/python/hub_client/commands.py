"""Commands and their replies.

A command that is given while there is no connection waits for one. A command that was sent when its
connection ended has an unknown outcome. The application's commands have a window: a bounded number
is under way, and each command beyond waits for its turn. Over SSE and polling the hub answers
commands one after the other. So the time for a reply runs from the command, or from the reply to
the command before it if that comes later: the last command of a window is not late because many are
before it.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from hub_client import frames
from hub_client.errors import CommandTimeoutError, HubClientError, NotConnectedError
from hub_client.window import Window

# The hub queues 256 of a session before it stops reading (clients/PROTOCOL.md).
MAX_UNDER_WAY = 256

Outcome = frames.Frame | Exception
Settle = Callable[[Outcome], None]


@dataclass(eq=False, slots=True)
class Command:
    """One command until its reply."""

    id: int
    raw: bytes
    settle: Settle
    """The connection calls it in the turn that reads the reply, before the next frame."""
    own: bool
    """Whether the command is the client's own, about a subscription or the token."""
    link: object = None
    """The connection that the command was sent on; None before."""


class Commands:
    """Match replies to commands."""

    def __init__(self, hub: str, *, timeout_seconds: float, trouble: Callable[[], str]) -> None:
        """Args:
        hub: its address, for errors.
        timeout_seconds: for the next reply, and for a turn while none comes.
        trouble: why there is no connection.
        """
        self._hub = hub
        self._seconds = timeout_seconds
        self._trouble = trouble
        self._pending: dict[int, Command] = {}
        self._last_id = 0
        self._window = Window(MAX_UNDER_WAY, patience_seconds=timeout_seconds)
        # Each may be 1 MiB long, and the hub closes a session that takes no replies.
        self._pages = Window(1, patience_seconds=timeout_seconds)
        self._asking = 0
        self._answered_id, self._answered_at = 0, 0.0
        """The command of the newest reply, and its time."""

    @property
    def asking(self) -> int:
        """The number of the application's commands that wait for a reply."""
        return self._asking

    def unsent(self) -> Iterator[Command]:
        """The application's commands that no connection has sent, in their order."""
        return (each for each in self._pending.values() if each.link is None and not each.own)

    def make(self, op: str, settle: Settle, *, own: bool, **fields: object) -> Command:
        """Make a command that waits for its reply from now on; raise `TypeError` for a value that
        is no JSON."""
        self._last_id += 1
        raw = frames.command(op, self._last_id, **fields)
        command = Command(self._last_id, raw, settle, own)
        self._pending[command.id] = command
        return command

    async def request(
        self, op: str, send: Callable[[Command], None], **fields: object
    ) -> msgspec.Raw:
        """Send a command of the application in its turn; return its reply's `ok`.

        Raises:
            CommandError: The hub refused it.
            ConnectionLostError: The connection ended first; the outcome is unknown.
            CommandTimeoutError: There was no reply in time; `NotConnectedError` where it was not
                sent.
            ClosedError, RejectedError: The client has ended.
        """
        window = self._pages if op == "history" else self._window
        try:
            await window.enter()
        except TimeoutError:
            raise self._timed_out(op, sent=False) from None
        self._asking += 1
        try:
            return await self._reply_to(op, send, fields)
        finally:
            self._asking -= 1
            window.leave()

    async def _reply_to(
        self, op: str, send: Callable[[Command], None], fields: dict[str, object]
    ) -> msgspec.Raw:
        reply: asyncio.Future[frames.Frame] = asyncio.get_running_loop().create_future()

        def settle(outcome: Outcome) -> None:
            if reply.done():
                return
            if isinstance(outcome, Exception):
                reply.set_exception(outcome)
            else:
                reply.set_result(outcome)

        command = self.make(op, settle, own=False, **fields)
        try:
            send(command)
            begun_at = time.monotonic()
            while not reply.done():
                since = max(begun_at, self._answered_at if self._answered_id < command.id else 0.0)
                if (seconds := since + self._seconds - time.monotonic()) <= 0:
                    raise self._timed_out(op, sent=command.link is not None)
                await asyncio.wait((reply,), timeout=seconds)
            return reply.result().ok
        finally:
            self._pending.pop(command.id, None)

    def _timed_out(self, op: str, *, sent: bool) -> HubClientError:
        text = f"in {self._seconds:g} seconds"
        if sent:
            text = f"no reply from {self._hub} to {op} {text}; its outcome is unknown"
            return CommandTimeoutError(text)
        why = self._trouble() or f"{self._hub} answered nothing"
        return NotConnectedError(f"{why} {text}; {op} was not sent")

    def reply(self, frame: frames.Frame) -> None:
        """Hand over a reply; drop one that no command waits for any more."""
        command = self._pending.pop(frame.id, None) if isinstance(frame.id, int) else None
        if command is not None:
            self._answered_id, self._answered_at = command.id, time.monotonic()
            self._window.progressed()
            self._pages.progressed()
            command.settle(frame if frame.error is None else frame.error.public())

    def lost(self, link: object, error: Exception) -> None:
        """Fail the commands that were sent over `link`, which brings no reply any more."""
        for command in [each for each in self._pending.values() if each.link is link]:
            del self._pending[command.id]
            command.settle(error)

    def forget_own(self) -> None:
        """Drop the client's own commands that were not sent: the next connection makes new ones."""
        for command in [each for each in self._pending.values() if each.own and not each.link]:
            del self._pending[command.id]

    def fail(self, error: Exception) -> None:
        """Fail all commands: the client has ended."""
        pending, self._pending = self._pending, {}
        for command in pending.values():
            command.settle(error)
