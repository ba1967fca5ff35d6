"""Every flag that is a number takes plain decimals, in all commands.

The rule is that of settings and queries (`hub.core.decimals`). Typer's own readers would also take
underscores, signs and exponents.
"""

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from hub.core import decimals

_READERS: dict[object, Callable[[str], float | None]] = {
    int: decimals.whole,
    float: decimals.number,
}


class PlainNumbers(TyperGroup):
    """The group of all commands."""

    # Typer has no public name for the context and the command.
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        for parameter in command.params if command else ():
            _make_strict(parameter)
        return command


def _make_strict(parameter: Any) -> None:
    """Make a parameter that is a number refuse every text that is no plain number."""
    read = _READERS.get(parameter.type_descriptor.annotation)
    if read is None:
        return
    process = parameter.process_value

    def process_plain(ctx: Any, value: Any) -> Any:
        # A default is a number already.
        if isinstance(value, str) and read(value) is None:
            point = "" if read is decimals.whole else ", with or without a decimal point"
            message = f"{value!r} is not a plain number: allowed are digits{point}"
            raise typer.BadParameter(message, ctx, parameter)
        return process(ctx, value)

    parameter.process_value = process_plain
