"""`hub state`: the rows of a keyed channel, as they are now."""

from collections.abc import AsyncIterator
from typing import Annotated

import typer

from hub.cli.address import DEFAULT_URL, Url
from hub.cli.operator import Json, Key, Operator, operate
from hub.observe.terminal import to_json


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("state")(state)


def state(
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="A channel that keeps state.")],
    after: Annotated[str | None, typer.Option(help="Only keys that come after this one.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many rows; all where left out.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Print the rows of a channel's state, one JSON line each, in the order of their keys."""

    async def act(operator: Operator) -> None:
        async for row in _rows(operator, channel, after, limit):
            typer.echo(to_json(row))

    operate(url, key, act)


async def _rows(
    operator: Operator, channel: str, after: str | None, limit: int | None
) -> AsyncIterator[Json]:
    left = limit
    while left is None or left > 0:
        wanted = None if left is None else min(left, 1000)
        page = await operator.ask("channels", channel, "state", after=after, limit=wanted)
        for row in page["rows"]:
            yield row
        left = None if left is None else left - len(page["rows"])
        if (after := page["next"]) is None:
            return
