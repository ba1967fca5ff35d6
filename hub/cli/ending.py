"""How commands end: what they say on stderr, and the exit codes that mean one thing in all."""

import errno
import os
import sys
from collections.abc import Callable

import typer

from hub.observe import standard_streams
from hub.observe.terminal import visible

FAILED, WRONG_USE, UNKNOWN, INTERRUPTED = 1, 2, 3, 130
"""It was not done; the call itself is wrong; nobody knows whether it was done; Ctrl-C."""

_KEPT = "\n\t"
_NOT_WRITTEN = frozenset({errno.ENOSPC, errno.EBADF, errno.EIO, errno.EFBIG, errno.EDQUOT})


def say(what: str) -> None:
    """For humans, on stderr: stdout is for what was asked for.

    Much of it repeats what a hub, a peer or a file said, so it is made fit for a terminal.
    """
    typer.echo(f"hub: {visible(what, keep=_KEPT)}", err=True)


def fail(exit_code: int, why: str) -> typer.Exit:
    """Say why; raise what this returns."""
    say(why)
    return typer.Exit(exit_code)


def run_to_end(command: Callable[[], object]) -> None:
    """Run a whole command line and end the process.

    What the system refuses is one line and `FAILED`: a full disk behind stdout, a stdin that
    cannot be read. A reader who has gone (`hub nodes | head -1`) needs no line.
    """
    code: str | int | None = 0
    try:
        try:
            command()
        except SystemExit as ending:  # how typer ends every command
            code = ending.code
        standard_streams.flush_output()
    except OSError as error:
        code = code or FAILED
        if error.errno != errno.EPIPE:
            say(reason(error))
        standard_streams.forget_output()
    sys.exit(code)


def reason(error: OSError) -> str:
    """What the system says, and of which file."""
    said = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
    # A stream does not say which it is; of those that a command uses, only stdout can raise these.
    name = error.filename or ("stdout" if error.errno in _NOT_WRITTEN else "")
    return f"{name}: {said}" if name else said
