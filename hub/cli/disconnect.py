"""`hub disconnect` and `hub unsubscribe`: take a connection, or one of its channels, away."""

from typing import Annotated

import typer

from hub.cli.address import DEFAULT_URL, Url
from hub.cli.ending import say
from hub.cli.operator import AsJson, Key, Operator, operate, print_json

ConnectionId = Annotated[
    str, typer.Argument(metavar="CONNECTION", help="A connection's id, as in hub connections.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("disconnect")(disconnect)
    app.command("unsubscribe")(unsubscribe)


def disconnect(
    connection: ConnectionId,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Close a connection, on whatever node; its client is told not to come back (4403)."""

    async def act(operator: Operator) -> None:
        await operator.tell("DELETE", "connections", connection)
        _done({"connection": connection}, f"{connection} is disconnected", as_json=as_json)

    operate(url, key, act)


def unsubscribe(
    connection: ConnectionId,
    channel: Annotated[
        str, typer.Argument(metavar="CHANNEL", help="The channel to take it out of.")
    ],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Take a connection out of one channel; its client is told, and stays connected."""

    async def act(operator: Operator) -> None:
        await operator.tell("DELETE", "connections", connection, "subscriptions", channel)
        done = {"connection": connection, "channel": channel}
        _done(done, f"{connection} no longer gets {channel}", as_json=as_json)

    operate(url, key, act)


def _done(document: dict[str, str], what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(document)
    else:
        say(what)
