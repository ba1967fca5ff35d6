"""The operators' commands for lists and for taking connections away.

`hub nodes`, `hub connections`, `hub closed`, `hub refused` and `hub channels` print a page of the
hub's lists. `hub disconnect` and `hub unsubscribe` take a connection, or one of its channels, away.
`hub.cli.operator` asks the hub.
"""

from collections.abc import Sequence
from typing import Annotated

import typer

from hub.cli.columns import (
    CHANNELS,
    CLOSED,
    CONNECTIONS,
    LIMITED,
    NODES,
    REFUSALS,
    TerminalColumn,
    away_sentence,
    print_rows,
    with_age,
)
from hub.cli.ending import WRONG_USE, fail, say
from hub.cli.flags import DEFAULT_URL, Url
from hub.cli.operator import AsJson, Json, Key, Operator, operate, print_json

Limit = Annotated[int, typer.Option(min=1, max=1000, help="The largest number of rows.")]
After = Annotated[str | None, typer.Option(help="Continue after the mark at a list's end.")]


def register_lists(app: typer.Typer) -> None:
    """Add `nodes`, `connections`, `closed`, `refused` and `channels` to `app`."""
    app.command("nodes")(nodes)
    app.command("connections")(connections)
    app.command("closed")(closed)
    app.command("refused")(refused)
    app.command("channels")(channels)


def register_actions(app: typer.Typer) -> None:
    """Add `disconnect` and `unsubscribe` to `app`."""
    app.command("disconnect")(disconnect)
    app.command("unsubscribe")(unsubscribe)


def print_list(page: Json, name: str, columns: Sequence[TerminalColumn], *, as_json: bool) -> None:
    """Print the rows under `name` as a table, and say on stderr how many the page leaves out."""
    if as_json:
        print_json(page)
        return
    print_rows(columns, page[name])
    _tell_rest(page, len(page[name]))
    tell_silent(page)


def _tell_rest(page: Json, listed: int) -> None:
    """Say on stderr how many rows there are and how to see more, unless all are listed."""
    if page.get("next") is not None:
        say(f"{listed:,} of {page['total']:,}; more with --after {page['next']}")


def tell_silent(page: Json) -> None:
    """Say on stderr which nodes did not answer."""
    silent = page.get("unanswered") or ()
    if silent:
        say(f"no answer from {', '.join(silent)}: what is there is not listed")
    elif not page.get("complete", True):
        say("a part is missing: not all nodes could be asked")


def nodes(as_json: AsJson = False, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """List the nodes, with their rates and what each is doing."""

    async def act(operator: Operator) -> None:
        answer = await operator.ask("nodes")
        if as_json:
            print_json(answer)
            return
        print_rows(NODES, with_age(answer))
        if away := away_sentence(answer["nodes"]):
            say(away)
        elif answer.get("unknown"):
            say(answer["unknown"])

    operate(url, key, act)


def channels(
    prefix: Annotated[
        str | None,
        typer.Argument(metavar="PREFIX", help="Only channels whose names begin with this."),
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


def connections(
    channel: Annotated[str | None, typer.Option(help="Subscribed to this channel.")] = None,
    subject: Annotated[str | None, typer.Option(help="With this subject.")] = None,
    address: Annotated[str | None, typer.Option(help="From this address.")] = None,
    transport: Annotated[str | None, typer.Option(help="websocket, sse or poll.")] = None,
    node: Annotated[str | None, typer.Option(help="At this node.")] = None,
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
    subject: Annotated[str | None, typer.Option(help="With this subject.")] = None,
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


def refused(
    address: Annotated[str | None, typer.Option(help="From this address.")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """List refused peers with the reason, and the peers that limits held back, newest first."""

    async def act(operator: Operator) -> None:
        refusals = await operator.ask("refusals", address=address, limit=limit)
        limited = await operator.ask("limited", address=address, limit=limit)
        if as_json:
            print_json({**refusals, **limited})
            return
        print_list(refusals, "refusals", REFUSALS, as_json=False)
        if limited["limited"]:
            typer.echo()
            print_rows(LIMITED, limited["limited"])

    operate(url, key, act)


OfSubject = Annotated[
    str | None, typer.Option(help="All connections of this subject, on all nodes.")
]


def disconnect(
    connection: Annotated[
        str | None,
        typer.Argument(metavar="CONNECTION", help="A connection's id, as in hub connections."),
    ] = None,
    subject: OfSubject = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Close a connection, or all of a subject; clients are told not to come back (4403)."""
    if (connection is None) == (subject is None):
        raise fail(WRONG_USE, "give either CONNECTION or --subject")

    async def act(operator: Operator) -> None:
        if subject is not None:
            await operator.tell("DELETE", "subjects", subject, "connections")
            _done({"sub": subject}, f"{subject} is disconnected", as_json=as_json)
        elif connection is not None:
            await operator.tell("DELETE", "connections", connection)
            _done({"connection": connection}, f"{connection} is disconnected", as_json=as_json)

    operate(url, key, act)


def unsubscribe(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="CONNECTION CHANNEL",
            help="A connection's id and the channel; with --subject the channel alone.",
        ),
    ],
    subject: OfSubject = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Take a connection, or all of a subject, out of one channel; clients stay connected."""
    if len(names) != (2 if subject is None else 1):
        raise fail(WRONG_USE, "give CONNECTION and CHANNEL, or --subject and CHANNEL")
    kind, whom = ("subjects", subject) if subject is not None else ("connections", names[0])
    channel = names[-1]

    async def act(operator: Operator) -> None:
        await operator.tell("DELETE", kind, whom, "subscriptions", channel)
        done = {"connection" if subject is None else "sub": whom, "channel": channel}
        _done(done, f"{whom} no longer gets {channel}", as_json=as_json)

    operate(url, key, act)


def _done(document: dict[str, str], what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(document)
    else:
        say(what)
