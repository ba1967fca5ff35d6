"""`hub serve` runs one node, or several workers, until a signal ends it."""

import contextlib
import gc
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated

import typer

from hub.cli.ending import WRONG_USE, say
from hub.cli.flags import ConfigFile, SettingsCommand, refused, settings_of

Demo = Annotated[
    bool,
    typer.Option(
        "--demo", help="Also publish this machine's load and its busiest processes, by name alone."
    ),
]

# The first is of Unix alone, the second of CPython on Unix.
_NEEDED = ("resource", "uvloop")


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("serve", cls=SettingsCommand)(serve)


def serve(ctx: typer.Context, config_file: ConfigFile = None, demo: Demo = False) -> None:
    """Run the hub.

    A flag wins over its environment variable (HUB_PORT for --port), which wins over the file.
    """
    _refuse_other_systems()
    with _nothing_is_collected():
        settings = settings_of(ctx, config_file)
        # Here, so that help and wrong settings do not wait for the server's imports.
        from hub.errors import SettingsError
        from hub.node.supervisor.roles import run_beside_nodes, take_role

    if demo:
        from hub.node.demo import demo_settings

        settings = demo_settings(settings)
    role = take_role()
    try:
        code = run_beside_nodes(settings, role, command=_this_command(), demo=demo)
        if code is None:
            with _nothing_is_collected():
                from hub.main import run

            code = run(settings, demo, role=role)
    except SettingsError as error:
        raise refused(error) from None
    raise typer.Exit(code)


def _refuse_other_systems() -> None:
    """End with one line where the server cannot be imported; its traceback would not say why."""
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        say(
            f"this Python has no {' and no '.join(missing)}: the hub needs CPython on Linux or"
            " macOS (its Python client runs on Windows too)"
        )
        raise typer.Exit(WRONG_USE)


def _this_command() -> list[str]:
    """Return this command line for a child, as a call of `python -m hub`."""
    return [sys.executable, "-m", "hub", *sys.argv[1:]]


@contextlib.contextmanager
def _nothing_is_collected() -> Iterator[None]:
    """Keep the garbage collector from visiting again and again what an import makes and keeps.

    That is a seventh of a start's CPU: 0.09 of 0.63 s (measured).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
