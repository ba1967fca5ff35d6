"""Runs the client commands as processes of their own, as a shell would."""

import asyncio
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.support.forked_process import PipedProcess, piped
from tests.support.programs import outside

DEADLINE_SECONDS = 20.0
# Only the command under test, so that these tests do not depend on the other commands.
_START = """
import typer
from hub.cli import {command}
app = typer.Typer()
app.callback()(lambda: None)
{command}.register(app)
app()
"""


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@asynccontextmanager
async def started(command: str, *arguments: str, stdin: int = PIPE) -> AsyncIterator[PipedProcess]:
    """A process that is ended at the latest with the block."""
    program = ("-c", _START.format(command=command), command, *arguments)
    async with piped(program, outside(), stdin=stdin) as process:
        yield process


async def run(command: str, *arguments: str, stdin: bytes | None = None) -> Ended:
    """Run a command to its end."""
    async with started(command, *arguments) as process:
        async with asyncio.timeout(DEADLINE_SECONDS):
            out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())
