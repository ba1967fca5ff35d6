"""How commands end: what they say on stderr, and the exit codes that mean one thing in all."""

import typer

WRONG_USE, UNKNOWN, INTERRUPTED = 2, 3, 130
"""The call itself is wrong; nobody knows whether it was done; Ctrl-C."""


def say(what: str) -> None:
    """For humans, on stderr: stdout is for what was asked for."""
    typer.echo(f"hub: {what}", err=True)


def fail(exit_code: int, why: str) -> typer.Exit:
    """Say why; raise what this returns."""
    say(why)
    return typer.Exit(exit_code)
