"""The conversation of a supervisor and its children, and a child as its supervisor knows it.

Lines of words travel over a socket pair:

    child        up 45.5             it runs, and can do what it is told; its end takes so many
                                     seconds at most
                 alive               its event loop runs; every few seconds
                 ready               a worker may get traffic
                 leaving | taking    an operator drains the worker; it takes sessions again
                 wrong HUB_TLS_CERT  it ends, because of this in its settings; a line of text each
    supervisor   slots 0 2           accept at these of the listening sockets, and at no others
                 retire              stop accepting, drain, end
                 drain               drain, end; peers are accepted and told meanwhile
                 now                 end at once

The end of the stream is the other's death. A child whose supervisor died drains and ends.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial

import msgspec

from hub.errors import SettingsError
from hub.node.supervisor.roles import Role
from hub.observe.background import until_one_ends
from hub.settings import Settings

UP, ALIVE, READY, LEAVING, TAKING = "up", "alive", "ready", "leaving", "taking"
WRONG = "wrong"
SLOTS, RETIRE, DRAIN, NOW = "slots", "retire", "drain", "now"


ALIVE_SECONDS = 5.0
# Above the time that a stop may take by the settings, before a child that is left is killed.
_MARGIN_SECONDS = 15.0


def stop_seconds(settings: Settings) -> float:
    """Return how long a node with these settings may take to drain and end."""
    return (
        settings.ready_delay_seconds
        + settings.drain_seconds
        + settings.close_timeout_seconds
        + settings.hook_timeout_seconds
        + _MARGIN_SECONDS
    )


class ControlSocket:
    """An end of the conversation."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> "ControlSocket":
        return cls(*await asyncio.open_connection(sock=end))

    def say(self, *words: str) -> None:
        """Send a line; it is lost where the other is dead, which the end of the stream tells."""
        if not self._writer.is_closing():
            self._writer.write(" ".join(words).encode() + b"\n")

    async def refuse(self, error: SettingsError) -> None:
        """Send the reason why this process ends; the supervisor logs it once for all children."""
        for line in error.message.splitlines():
            self.say(WRONG, line)
        with contextlib.suppress(OSError):
            await self._writer.drain()
        self.close()

    async def messages(self) -> AsyncIterator[list[str]]:
        """Yield the words of each line of the other, until it is dead."""
        try:
            # The other may have died in the middle of a line.
            while (line := await self._reader.readline()).endswith(b"\n"):
                yield line.decode().split()
        except (OSError, ValueError):
            return

    async def stay_alive(self) -> None:
        """Tell the other that this process' event loop runs, until cancelled."""
        while True:
            self.say(ALIVE)
            await asyncio.sleep(ALIVE_SECONDS)

    def close(self) -> None:
        self._writer.close()


# The stream of a child that has ended is closed, so this is hardly waited for.
_LAST_WORDS_SECONDS = 1.0


class Child:
    """A process from its start to its end.

    Args:
        on_change: called after each message of the child, and at its end.
    """

    def __init__(self, role: Role, on_change: Callable[["Child"], None]) -> None:
        self.role = role
        self._on_change = on_change
        self._process: asyncio.subprocess.Process | None = None
        self._control: ControlSocket | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._waiting: asyncio.Task[None] | None = None
        self.started_at = asyncio.get_running_loop().time()
        self.is_up = False
        self.is_ready = False
        self.is_leaving = False
        """Whether an operator drains it."""
        self.retires = False
        """Whether it was told to end."""
        self.is_quiet = False
        """Whether it has said nothing for so long that its peers should go to another."""
        self.slots: frozenset[int] = frozenset()
        """Places of the sockets where it was told to accept."""
        self.stop_seconds: float | None = None
        """How long its end may take, as it has told."""
        self.silent_seconds = 0.0
        """Seconds since its last message, as the supervisor counts."""
        self.wrong: list[str] = []
        """Its words about settings that it cannot use."""
        self.exit_code: int | None = None
        self.changed = asyncio.Condition()

    @property
    def pid(self) -> int:
        return 0 if self._process is None else self._process.pid

    @property
    def can_accept(self) -> bool:
        """Return whether it can be told where to accept."""
        return self.is_up and self.exit_code is None and not (self.retires or self.is_quiet)

    @property
    def ending(self) -> Mapping[str, object]:
        """Return fields about its end for the log."""
        told = {"exit_code": self.exit_code}
        return told | {"reason": "; ".join(self.wrong)} if self.wrong else told

    async def start(self, command: Sequence[str], inherited: Sequence[int]) -> None:
        """Start the process; raises `OSError` where the system does not."""
        mine, theirs = socket.socketpair()
        with contextlib.ExitStack() as stack:
            stack.callback(mine.close)
            with theirs:
                role = msgspec.structs.replace(self.role, control=theirs.fileno())
                self._process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    env=os.environ | role.environment(),
                    pass_fds=[*inherited, theirs.fileno()],
                    # Signals of a terminal are the supervisor's.
                    start_new_session=True,
                )
            self._control = await ControlSocket.open(mine)
            stack.pop_all()
        self._hearing = asyncio.create_task(self._hear())
        self._waiting = asyncio.create_task(self._wait(self._hearing))

    def say(self, *words: str) -> None:
        if self._control is not None and self.exit_code is None:
            self._control.say(*words)

    def accept_at(self, slots: frozenset[int]) -> None:
        """Tell the worker to accept at the sockets of these places, and at no other."""
        self.slots = slots
        self.say(SLOTS, *map(str, sorted(slots)))

    def kill(self) -> None:
        if self._process is not None and self.exit_code is None:
            self._process.kill()

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until the condition holds, the child ends, or the time is over; return whether it
        holds."""
        try:
            async with asyncio.timeout(seconds), self.changed:
                await self.changed.wait_for(lambda: condition() or self.exit_code is not None)
        except TimeoutError:
            pass
        return condition()

    async def _hear(self) -> None:
        assert self._control is not None  # noqa: S101 - set by `start`
        async for words in self._control.messages():
            word = words[0] if words else ""
            self.silent_seconds = 0.0
            if word == ALIVE:
                continue
            if word == WRONG:
                self.wrong.append(" ".join(words[1:]))
            if word == UP:
                self.is_up = True
                self.stop_seconds = float(words[1]) if len(words) > 1 else None
            self.is_ready = self.is_ready or word == READY
            if word in {LEAVING, TAKING}:
                self.is_leaving = word == LEAVING
            await self._tell()

    async def _wait(self, hearing: "asyncio.Task[None]") -> None:
        assert self._process is not None and self._control is not None  # noqa: S101, PT018
        exit_code = await self._process.wait()
        # Its last message may still be on its way.
        await asyncio.wait([hearing], timeout=_LAST_WORDS_SECONDS)
        self.exit_code = exit_code
        self._control.close()
        await self._tell()

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()
        self._on_change(self)


async def until_each(
    children: Sequence[Child],
    condition: Callable[[Child], bool],
    stop: asyncio.Event,
    seconds: float,
) -> None:
    """Return when the condition holds for each of them that has not ended, when `stop` is set, or
    after `seconds`."""
    waits = [child.until(partial(condition, child), seconds) for child in children]
    await until_one_ends(_each(waits), _each([stop.wait()]))


async def _each(works: Sequence[Awaitable[object]]) -> None:
    await asyncio.gather(*works)
