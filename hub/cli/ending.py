"""How commands end: what they say on stderr, and the exit codes that mean one thing in all."""

import typer

from hub.observe.terminal import visible

WRONG_USE, UNKNOWN, INTERRUPTED = 2, 3, 130
"""The call itself is wrong; nobody knows whether it was done; Ctrl-C."""

_KEPT = "\n\t"


def say(what: str) -> None:
    """For humans, on stderr: stdout is for what was asked for.

    Much of it repeats what a hub, a peer or a file said, so it is made fit for a terminal.
    """
    typer.echo(f"hub: {visible(what, keep=_KEPT)}", err=True)


def fail(exit_code: int, why: str) -> typer.Exit:
    """Say why; raise what this returns."""
    say(why)
    return typer.Exit(exit_code)
