"""`hub channels`: the channels that have subscribers or were published to."""

from typing import Annotated

import typer

from hub.cli.columns import CHANNELS
from hub.cli.connections import After, Limit, tell_rest, tell_silent
from hub.cli.operator import DEFAULT_URL, AsJson, Key, Operator, Url, operate, print_json
from hub.cli.tables import print_rows


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
        if as_json:
            print_json(page)
            return
        print_rows(CHANNELS, page["channels"])
        tell_rest(page, len(page["channels"]))
        tell_silent(page)

    operate(url, key, act)
