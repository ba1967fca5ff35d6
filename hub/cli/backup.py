"""`hub backup` copies the history file while the hub runs."""

from pathlib import Path
from typing import Annotated

import typer

from hub.cli.ending import FAILED, WRONG_USE, fail, say
from hub.cli.flags import ConfigFile, SettingsCommand, settings_of

# Places of damaged publications that the command names.
_NAMED = 20


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("backup", cls=SettingsCommand)(backup)


def backup(
    ctx: typer.Context,
    target: Annotated[Path, typer.Argument(metavar="PATH", help="The path of the copy.")],
    config_file: ConfigFile = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Copy the history file of HUB_BROKER=sqlite:///path, whole, while hubs go on writing it.

    A hub that is started on the copy keeps its history and begins a new epoch in every channel.
    """
    from hub.brokers.sqlite.backup import copy
    from hub.brokers.sqlite.checking import damaged
    from hub.brokers.sqlite.faults import FileError
    from hub.brokers.sqlite.urls import is_sqlite, path_of

    settings = settings_of(ctx, config_file)
    if not is_sqlite(settings.broker):
        raise fail(WRONG_USE, "HUB_BROKER names no file: only sqlite:///path can be backed up")
    source = path_of(settings.broker)
    if target.is_dir():
        raise fail(WRONG_USE, f"{target} is a directory")
    if not target.parent.is_dir():
        missing = f"its directory {target.parent} is missing: make it"
        raise fail(WRONG_USE, f"{target}: {missing}")
    if target.resolve() == Path(source).resolve():
        raise fail(WRONG_USE, f"{target} is the history file itself")
    if target.exists() and not force:
        raise fail(WRONG_USE, f"{target} exists already; --force replaces it")
    try:
        size = copy(source, str(target))
        found = damaged(str(target))
    except FileError as error:
        raise fail(FAILED, error.message) from None
    say(f"{size:,} bytes of {source} are in {target}")
    if found:
        more = f"\n\tand {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
        places = "".join([f"\n\t{each}" for each in found[:_NAMED]])
        raise fail(FAILED, f"a disk has changed publications of {source}:{places}{more}")
