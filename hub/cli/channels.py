"""`hub channels`: the channels that have subscribers or were published to."""

from typing import Annotated

import typer

from hub.cli.address import DEFAULT_URL, Url
from hub.cli.columns import CHANNELS
from hub.cli.lists import After, Limit, print_list
from hub.cli.operator import AsJson, Key, Operator, operate


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("channels")(channels)


def channels(
    prefix: Annotated[
        str | None, typer.Argument(metavar="PREFIX", help="Only those whose names begin so.")
    ] = None,
    sort: Annotated[
        str | None, typer.Option(help="A field, such as -subscribers: greatest first.")
    ] = None,
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """List channels, by name."""

    async def act(operator: Operator) -> None:
        page = await operator.ask("channels", prefix=prefix, sort=sort, limit=limit, after=after)
        print_list(page, "channels", CHANNELS, as_json=as_json)

    operate(url, key, act)
