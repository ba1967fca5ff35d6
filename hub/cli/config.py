"""`hub config` prints every setting with its effective value and the source of that value."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.ending import say
from hub.cli.flags import ConfigFile, SettingsCommand, settings_of
from hub.observe.terminal import to_json, visible

if TYPE_CHECKING:
    from rich.table import Table

    from hub.settings import Settings

# Where the output is no terminal: wide enough that no sentence of a meaning is broken often.
PIPED_COLUMNS = 160

AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON array instead of a table.")]


@dataclass(frozen=True, slots=True)
class SettingRow:
    """A setting, ready to print."""

    setting: str
    value: object
    """The value as JSON; a secret is masked."""
    shown: str
    source: str
    default: str
    allowed: str
    meaning: str
    group: str


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("config", cls=SettingsCommand)(config)


def config(ctx: typer.Context, config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show every setting with its effective value, its source and its meaning."""
    settings = settings_of(ctx, config_file)
    if as_json:
        _print_json(settings)
    else:
        _print_table(settings)
    for sentence in settings.warnings():
        say(sentence)


def rows(settings: "Settings") -> Iterator[SettingRow]:
    """Yield every setting in the order of declaration."""
    from hub.settings.catalog import declared
    from hub.settings.values import BROKER

    # In JSON mode pydantic masks values whose type is a secret's.
    dumped = settings.model_dump(mode="json", exclude_none=True)
    for info in declared():
        shown = info.kind.show(dumped[info.field])
        yield SettingRow(
            setting=info.env,
            value=shown if info.kind is BROKER else dumped[info.field],
            shown=shown,
            source=settings.origin(info),
            default=info.default,
            allowed=info.allowed,
            meaning=info.meaning,
            group=info.group,
        )


def _print_json(settings: "Settings") -> None:
    wanted = ("setting", "value", "source", "default", "allowed", "meaning")
    listed = [{name: getattr(row, name) for name in wanted} for row in rows(settings)]
    typer.echo(to_json(listed, indented=True))


def _print_table(settings: "Settings") -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPED_COLUMNS)
    console.print(_table(list(rows(settings))))


def _table(listed: list[SettingRow]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("source", no_wrap=True)
    table.add_column("meaning")
    group = ""
    for row in listed:
        if row.group != group:
            group = row.group
            table.add_section()
            table.add_row(Text(group, style="bold"))
        style = "" if row.source == "default" else "green"
        # `Text`, because a value may hold what rich would take for markup.
        table.add_row(row.setting, Text(visible(row.shown), style), row.source, Text(row.meaning))
    return table
