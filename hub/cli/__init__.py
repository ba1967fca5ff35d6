"""The `hub` command. Each module adds its commands to the app by `register`.

Commands ask a hub over its wire. Only `serve` and `bench` use the hub's own modules, so those of
the server do not belong here.

A module here imports typer, the standard library and its siblings when it is loaded. It imports all
else when a command runs, so that `hub --help` answers at once. Diagnostics go to stderr.
"""

import functools
from collections.abc import Callable
from typing import Annotated

import typer
from typer.main import get_command

from hub.cli import (
    backup,
    bans,
    bench,
    config,
    drain,
    explain,
    history,
    ingest,
    operating,
    publish,
    serve,
    subscribe,
    tail,
    token,
    top,
)
from hub.cli.ending import run_to_end
from hub.cli.plain_numbers import PlainNumbers
from hub.observe import standard_streams

# What `hub --help` shows together, in its order.
_PANELS = {
    "Publish and subscribe": (
        publish.register,
        subscribe.register,
        history.register,
        ingest.register,
    ),
    "Serve": (serve.register, config.register, token.register, bench.register),
    "Operate": (
        top.register,
        operating.register_lists,
        tail.register,
        explain.register,
        operating.register_actions,
        bans.register,
        drain.register,
        backup.register,
    ),
}


def build() -> typer.Typer:
    """Return the whole command line."""
    app = typer.Typer(
        cls=PlainNumbers,
        add_completion=False,
        no_args_is_help=True,
        # Typer's own tracebacks may show local variables: payloads and tokens.
        pretty_exceptions_enable=False,
    )
    app.callback()(_hub)
    for panel, registers in _PANELS.items():
        known = len(app.registered_commands)
        for register in registers:
            register(app)
        for registered in app.registered_commands[known:]:
            registered.rich_help_panel = panel
    app.command("version", rich_help_panel="Serve")(_print_version)
    return app


@functools.cache
def command() -> Callable[..., object]:
    """Return the whole command line, ready to be called."""
    return get_command(build())


def main() -> None:
    """Entry point of `hub` and `python -m hub`."""
    standard_streams.open_missing()
    standard_streams.forgive_errors()
    run_to_end(lambda: command()(prog_name="hub"))


def _show_version(wanted: bool) -> None:
    if wanted:
        _print_version()
        raise typer.Exit


def _hub(
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version."),
    ] = False,
) -> None:
    """A real-time broadcast hub that never loses a message silently."""


def _print_version() -> None:
    """Print the version."""
    from importlib.metadata import version

    typer.echo(version("broadcast-hub"))
