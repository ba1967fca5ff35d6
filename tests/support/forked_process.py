"""A forked program beside an event loop: what `asyncio.subprocess.Process` is to one that was not.

async with piped(["-m", "hub", "tail", "news"], environment) as process:
    line = await process.stdout.readline()
"""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from tests.support.fork_server import Forked, fork_server

_Output = tuple[asyncio.StreamReader, asyncio.ReadTransport]


class ForkedProcess:
    """A forked program that must be ended, if need be by a signal."""

    def __init__(self, forked: Forked) -> None:
        self.pid = forked.pid
        self._forked = forked
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(forked.fileno(), self._end)

    def _end(self) -> None:
        self._loop.remove_reader(self._forked.fileno())
        self._forked.wait()
        self._ended.set()

    @property
    def returncode(self) -> int | None:
        """The exit code; None while it runs."""
        return self._forked.returncode

    async def wait(self) -> int:
        await self._ended.wait()
        return self._forked.wait()

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class PipedProcess(ForkedProcess):
    """A forked program with pipes: its output must be read, or it waits when a pipe is full."""

    def __init__(
        self,
        forked: Forked,
        *,
        stdin: asyncio.StreamWriter | None,
        stdout: _Output,
        stderr: _Output,
    ) -> None:
        super().__init__(forked)
        self.stdin = stdin
        self.stdout, self._stdout = stdout
        self.stderr, _ = stderr

    def close_stdout(self) -> None:
        """Read it no more, as a `head` that has seen enough."""
        self._stdout.close()

    async def communicate(self, given: bytes | None = None) -> tuple[bytes, bytes]:
        """Hands the program `given`, and reads both outputs to their end."""
        _, out, err, _ = await asyncio.gather(
            self._hand(given), self.stdout.read(), self.stderr.read(), self.wait()
        )
        return out, err

    async def _hand(self, given: bytes | None) -> None:
        if self.stdin is None or self.stdin.is_closing():
            return
        # It may have ended, and wants no more.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.stdin.write(given or b"")
            await self.stdin.drain()
        self.stdin.close()


@asynccontextmanager
async def piped(
    program: Sequence[str], environment: Mapping[str, str], *, stdin: int = DEVNULL
) -> AsyncIterator[PipedProcess]:
    """Runs `program` with both outputs in pipes; it is ended at the latest with the block.

    Args:
        program, environment: see `tests.support.fork_server.ForkServer.start`.
        stdin: `PIPE` or `DEVNULL`.
    """
    reading_out, out = os.pipe()
    reading_err, err = os.pipe()
    given, writing = os.pipe() if stdin == PIPE else (None, None)
    started = await asyncio.to_thread(
        fork_server().start, program, environment, stdin=given, stdout=out, stderr=err
    )
    for end in (out, err, given):
        if end is not None:
            os.close(end)
    process = PipedProcess(
        started,
        stdin=None if writing is None else await _writer(writing),
        stdout=await _reader(reading_out),
        stderr=await _reader(reading_err),
    )
    try:
        yield process
    finally:
        process.kill()
        await process.communicate()


async def in_terminal(
    program: Sequence[str], environment: Mapping[str, str], terminal: int
) -> ForkedProcess:
    """Starts `program` with this descriptor as its streams and its controlling terminal."""
    started = await asyncio.to_thread(
        fork_server().start,
        program,
        environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        in_terminal=True,
    )
    return ForkedProcess(started)


async def _reader(pipe: int) -> _Output:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", 0)
    )
    return reader, transport


async def _writer(pipe: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(pipe, "wb", 0)
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)
