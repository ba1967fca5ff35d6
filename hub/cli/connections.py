"""`hub connections` and `hub closed`: who is connected to any node, and who was."""

from typing import Annotated

import typer

from hub.cli.address import DEFAULT_URL, Url
from hub.cli.columns import CLOSED, CONNECTIONS
from hub.cli.lists import After, Limit, print_list
from hub.cli.operator import AsJson, Key, Operator, operate


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("connections")(connections)
    app.command("closed")(closed)


def connections(
    channel: Annotated[str | None, typer.Option(help="Subscribed to this channel.")] = None,
    subject: Annotated[str | None, typer.Option(help="Whose token says so.")] = None,
    address: Annotated[str | None, typer.Option(help="From this address.")] = None,
    transport: Annotated[str | None, typer.Option(help="websocket, sse or poll.")] = None,
    node: Annotated[str | None, typer.Option(help="Of this node.")] = None,
    sort: Annotated[
        str | None, typer.Option(help="A field, such as dropped; -dropped: greatest first.")
    ] = None,
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """List the connections of all nodes."""
    wanted = {
        "channel": channel,
        "subject": subject,
        "address": address,
        "transport": transport,
        "node": node,
        "sort": sort,
        "limit": limit,
        "after": after,
    }

    async def act(operator: Operator) -> None:
        page = await operator.ask("connections", **wanted)
        print_list(page, "connections", CONNECTIONS, as_json=as_json)

    operate(url, key, act)


def closed(
    subject: Annotated[str | None, typer.Option(help="Whose token said so.")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """List the connections that ended last, newest first, with code and reason."""

    async def act(operator: Operator) -> None:
        page = await operator.ask("closed", subject=subject, limit=limit)
        print_list(page, "closed", CLOSED, as_json=as_json)

    operate(url, key, act)
