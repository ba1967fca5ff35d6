"""`hub explain`: why a connection did not get a publication, or when it did."""

from typing import Annotated

import typer

from hub.cli.address import DEFAULT_URL, Url
from hub.cli.columns import clock, shown
from hub.cli.disconnect import ConnectionId
from hub.cli.operator import AsJson, Json, Key, Operator, operate, print_json


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("explain")(explain)


def explain(
    connection: ConnectionId,
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="The publication's channel.")],
    offset: Annotated[
        str, typer.Argument(metavar="OFFSET", help="Its offset, or its position EPOCH:OFFSET.")
    ],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Say what became of one publication on its way to one connection.

    Open connections, and those that ended in the last ten minutes; what is out of reach is
    `unknown`. Without an epoch the channel's present one is meant.
    """
    epoch, _, number = offset.rpartition(":")

    async def act(operator: Operator) -> None:
        told = await operator.ask(
            "explain", connection=connection, channel=channel, offset=number, epoch=epoch or None
        )
        if as_json:
            print_json(told)
        else:
            typer.echo(_sentence(told))

    operate(url, key, act)


def _sentence(told: Json) -> str:
    """Such as `dropped: dropped because ... (12:00:01 to 12:00:02)`."""
    first, last = clock(told.get("from_ms")), clock(told.get("to_ms"))
    when = first if first == last else f"{first} to {last}"
    by = "" if told.get("by") is None else f", replaced by offset {told['by']}"
    known = "" if told.get("from_ms") is None else f" ({when})"
    return f"{shown(told.get('answer'))}: {shown(told.get('detail'))}{by}{known}"
