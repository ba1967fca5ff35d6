"""The ends of commands: diagnostics on stderr, and exit codes with one meaning for all commands."""

import errno
import os
import sys
from collections.abc import Callable

import typer

from hub.observe import standard_streams
from hub.observe.terminal import visible

FAILED, WRONG_USE, UNKNOWN, INTERRUPTED = 1, 2, 3, 130
"""The command failed; the call itself is wrong; the outcome is unknown; Ctrl-C ended the command.
"""

_KEPT = "\n\t"
_NOT_WRITTEN = frozenset({errno.ENOSPC, errno.EBADF, errno.EIO, errno.EFBIG, errno.EDQUOT})


def say(what: str) -> None:
    """Print a sentence for humans on stderr, because stdout carries the result.

    The sentence may repeat texts of a hub, a peer or a file, so characters that a terminal obeys
    are escaped.
    """
    typer.echo(f"hub: {visible(what, keep=_KEPT)}", err=True)


def fail(exit_code: int, why: str) -> typer.Exit:
    """Print why on stderr, and return the exit for the caller to raise."""
    say(why)
    return typer.Exit(exit_code)


def run_to_end(command: Callable[[], object]) -> None:
    """Run a whole command line and end the process.

    An error of the system is one line and `FAILED`, such as a full disk behind stdout or a stdin
    that cannot be read. A reader that has gone (`hub nodes | head -1`) needs no line.
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
    """Return the system's own words for an error, with the name of the file."""
    said = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
    # A stream does not say which it is; of those that a command uses, only stdout can raise these.
    name = error.filename or ("stdout" if error.errno in _NOT_WRITTEN else "")
    return f"{name}: {said}" if name else said
