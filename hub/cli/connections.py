"""`hub connections` and `hub closed`: who is connected to any node, and who was."""

from typing import Annotated

import typer

from hub.cli.columns import CLOSED, CONNECTIONS
from hub.cli.operator import DEFAULT_URL, AsJson, Json, Key, Operator, Url, operate, print_json, say
from hub.cli.tables import print_rows

Limit = Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")]
After = Annotated[str | None, typer.Option(help="Go on after a list's mark.")]


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
        if as_json:
            print_json(page)
            return
        print_rows(CONNECTIONS, page["connections"])
        tell_rest(page, len(page["connections"]))
        tell_silent(page)

    operate(url, key, act)


def closed(
    limit: Limit = 100,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """List the connections that ended last, newest first, with code and reason."""

    async def act(operator: Operator) -> None:
        page = await operator.ask("closed", limit=limit)
        if as_json:
            print_json(page)
            return
        print_rows(CLOSED, page["closed"])
        tell_silent(page)

    operate(url, key, act)


def tell_rest(page: Json, listed: int) -> None:
    """On stderr, how many there are and how to see more, unless all are listed."""
    if page.get("next") is not None:
        say(f"{listed:,} of {page['total']:,}; more with --after {page['next']}")


def tell_silent(page: Json) -> None:
    """On stderr, whose part is missing."""
    silent = page.get("unanswered") or ()
    if silent:
        say(f"no answer from {', '.join(silent)}: what is there is not listed")
    elif not page.get("complete", True):
        say("a part is missing: not all nodes could be asked")
