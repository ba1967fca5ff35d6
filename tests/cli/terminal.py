"""A terminal for the commands: a pseudo-terminal of a given size, shown by an emulator.

The command runs in a session of its own with it as controlling terminal, so that Ctrl-C and
Ctrl-Z typed here are signals there. Only that process is ever ended.
"""

import asyncio
import fcntl
import os
import struct
import termios
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import pyte

from tests.support.forked_process import ForkedProcess, in_terminal
from tests.support.programs import outside
from tests.support.waiting import eventually

# Of a whole command, Python's start included, on a machine that others keep busy.
DEADLINE_SECONDS = 40.0
_READ_BYTES = 65536


class Terminal:
    """A terminal as a user has it: the screen and the keys."""

    def __init__(self, outer: int, inner: int, columns: int, lines: int) -> None:
        self._outer = outer
        self._inner = inner
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.written = b""
        """Everything the command wrote, escape sequences included."""
        self.process: ForkedProcess
        self.modes_before = termios.tcgetattr(inner)

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self._screen.display]

    @property
    def modes(self) -> list[Any]:
        """Of the terminal now: echo, lines, signals."""
        return termios.tcgetattr(self._inner)

    @property
    def is_taken(self) -> bool:
        """Whether the command shows the alternate screen, without a cursor."""
        taken, given = self.written.rfind(b"\x1b[?1049h"), self.written.rfind(b"\x1b[?1049l")
        return taken > given

    @property
    def is_as_before(self) -> bool:
        """Whether modes, screen and cursor are those from before the command."""
        shown, hidden = self.written.rfind(b"\x1b[?25h"), self.written.rfind(b"\x1b[?25l")
        return self.modes == self.modes_before and not self.is_taken and shown >= hidden

    def read(self) -> None:
        """Take what the command wrote."""
        try:
            written = os.read(self._outer, _READ_BYTES)
        except OSError:  # Linux: the last process with the other end has gone
            return
        self.written += written
        self._stream.feed(written)

    def press(self, keys: str) -> None:
        os.write(self._outer, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        self._screen.resize(lines, columns)
        _set_size(self._outer, columns, lines)

    async def sees(self, condition: Callable[[list[str]], object], what: str) -> list[str]:
        """Wait until what is on the screen fulfils `condition`; return the lines."""

        def seen() -> list[str]:
            lines = self.lines
            return lines if condition(lines) else []

        try:
            return await eventually(seen, seconds=DEADLINE_SECONDS, what=what)
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *self.lines])) from None

    async def ended(self) -> int:
        """The exit code."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.process.wait()


@asynccontextmanager
async def terminal(
    *arguments: str,
    program: tuple[str, ...] = ("-m", "hub"),
    variables: Mapping[str, str] = MappingProxyType({}),
    columns: int = 80,
    lines: int = 24,
) -> AsyncIterator[Terminal]:
    """`hub` with these arguments in a terminal of that size, or another Python program."""
    outer, inner = os.openpty()
    _set_size(outer, columns, lines)
    made = Terminal(outer, inner, columns, lines)
    inherited = outside()
    for unwanted in ("COLUMNS", "LINES", "NO_COLOR"):
        inherited.pop(unwanted, None)
    asyncio.get_running_loop().add_reader(outer, made.read)
    environment = inherited | {"TERM": "xterm-256color"} | dict(variables)
    made.process = await in_terminal((*program, *arguments), environment, inner)
    try:
        yield made
    finally:
        if made.process.returncode is None:
            made.process.kill()
            await made.process.wait()
        asyncio.get_running_loop().remove_reader(outer)
        os.close(outer)
        os.close(inner)


def _set_size(descriptor: int, columns: int, lines: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
