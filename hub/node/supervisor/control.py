"""What a supervisor and its children say to each other: lines of words over a socket pair.

    child        up                  it runs, and can do what it is told
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
import socket
from collections.abc import AsyncIterator

from hub.errors import SettingsError

UP, ALIVE, READY, LEAVING, TAKING = "up", "alive", "ready", "leaving", "taking"
WRONG = "wrong"
SLOTS, RETIRE, DRAIN, NOW = "slots", "retire", "drain", "now"


ALIVE_SECONDS = 5.0


class Control:
    """One end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> "Control":
        return cls(*await asyncio.open_connection(sock=end))

    def say(self, *words: str) -> None:
        """Lost where the other is dead, of which the end of the stream tells."""
        if not self._writer.is_closing():
            self._writer.write(" ".join(words).encode() + b"\n")

    async def refuse(self, error: SettingsError) -> None:
        """Say why this process ends; the supervisor tells it once for all that say the same."""
        for line in error.message.splitlines():
            self.say(WRONG, line)
        with contextlib.suppress(OSError):
            await self._writer.drain()
        self.close()

    async def heard(self) -> AsyncIterator[list[str]]:
        """What the other says, until it is dead."""
        try:
            while line := await self._reader.readline():
                yield line.decode().split()
        except (OSError, ValueError):
            return

    async def stay_alive(self) -> None:
        """Say that this process' event loop runs, until cancelled."""
        while True:
            self.say(ALIVE)
            await asyncio.sleep(ALIVE_SECONDS)

    def close(self) -> None:
        self._writer.close()
