"""The flags that commands share: one per setting, the hub's address, a publisher's key.

Typer makes options from a function's signature, so the flags of settings are a signature made from
the declarations in `hub.settings.fields`. They are made only when a command that has them runs or
shows its own help, because the import of the settings would delay `hub --help`.
"""

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand
from typer.main import get_command

from hub.cli.ending import WRONG_USE, say

if TYPE_CHECKING:
    from hub.errors import SettingsError
    from hub.settings import Settings
    from hub.settings.catalog import SettingInfo


DEFAULT_URL = "http://127.0.0.1:8000"
Url = Annotated[str, typer.Option("--url", envvar="HUB_URL", help="The hub's address.")]
PublishKey = Annotated[
    str | None, typer.Option("--key", envvar="HUB_PUBLISH_KEY", help="Publisher key or token.")
]


_FLAGS = "hub.flags"

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="TOML file with settings (HUB_CONFIG)."),
]


class SettingsCommand(TyperCommand):
    """A command with a flag for every setting; `settings_of` turns them into `Settings`."""

    # Typer has no public name for the context and the parameters that its methods take.
    def get_params(self, ctx: Any) -> list[Any]:
        *own, help_option = super().get_params(ctx)
        return [*own, *setting_flags(), help_option]

    def invoke(self, ctx: Any) -> Any:
        """Keep the flags from the command's own function, whose signature does not list them."""
        names = [flag.name for flag in setting_flags() if flag.name]
        ctx.meta[_FLAGS] = {name: ctx.params.pop(name) for name in names}
        return super().invoke(ctx)


def settings_of(ctx: typer.Context, config_file: Path | None) -> "Settings":
    """Return the settings of a `SettingsCommand`; print the fault and exit with 2 otherwise."""
    from hub.errors import SettingsError
    from hub.settings import load_settings

    try:
        return load_settings(config_file=config_file, flags=ctx.meta[_FLAGS], environ=os.environ)
    except SettingsError as error:
        raise refused(error) from None


def refused(error: "SettingsError") -> typer.Exit:
    """Print which settings are wrong, and return the exit for the caller to raise."""
    for line in error.message.splitlines():
        say(line)
    # sysexits' 64 to 78 are hardly used; 2 is what a shell's own commands say to misuse.
    return typer.Exit(WRONG_USE)


@functools.cache
def setting_flags() -> list[Any]:
    """Return the options of a made function that nothing calls: the same for every command."""
    from hub.settings.catalog import declared

    app = typer.Typer(add_completion=False)
    app.command(add_help_option=False)(_function([_parameter(info) for info in declared()]))
    return list(get_command(app).params)


def _function(parameters: list[inspect.Parameter]) -> Callable[..., None]:
    def bearer(**_: object) -> None:
        """Carries the signature."""

    # What `inspect.signature` honours (PEP 362), and typer with it.
    bearer.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return bearer


def _parameter(info: "SettingInfo") -> inspect.Parameter:
    off = info.flag.replace("--", "--no-", 1)
    option = typer.Option(
        f"{info.flag}/{off}" if info.is_switch else info.flag,
        metavar=info.kind.metavar or None,
        help=_help(info),
        rich_help_panel=info.group,
        show_default=False,
    )
    # Text stays text: `Settings` reads and refuses it, in the same words as for any other source.
    kind = bool if info.is_switch else str
    return inspect.Parameter(
        info.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def _help(info: "SettingInfo") -> str:
    from hub.settings.values import CHOICE

    choices = f"{info.allowed}; " if info.kind.metavar == CHOICE else ""
    # With spaces: a text without any is cut off at the column's end.
    default = info.default.replace(",", ", ")
    return f"{info.meaning} ({choices}default: {default})"
