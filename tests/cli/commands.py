"""Runs the client commands as processes of their own, as a shell would."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

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
async def started(command: str, *arguments: str, stdin: int = PIPE) -> AsyncIterator[Process]:
    """A process that is ended at the latest with the block."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _START.format(command=command),
        command,
        *arguments,
        stdin=stdin,
        stdout=PIPE,
        stderr=PIPE,
        env=environment,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def run(command: str, *arguments: str, stdin: bytes | None = None) -> Ended:
    """Run a command to its end."""
    async with started(command, *arguments) as process:
        async with asyncio.timeout(DEADLINE_SECONDS):
            out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())
