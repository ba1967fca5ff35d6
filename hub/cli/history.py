"""`hub history` and `hub state` print the messages and the rows that the hub holds of a channel."""

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

import typer

from hub.cli.ending import WRONG_USE, fail, say
from hub.cli.flags import DEFAULT_URL, Url
from hub.cli.operator import Json, Key, Operator, operate
from hub.observe.terminal import to_json

_PAGE = 1000


def register(app: typer.Typer) -> None:
    """Add both commands to `app`."""
    app.command("state")(state)
    app.command("history")(history)


def history(
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="The channel.")],
    limit: Annotated[
        int | None, typer.Option(min=1, help="The largest number of messages; default: all.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Only messages after this position; with --reverse, before it."),
    ] = None,
    from_time: Annotated[
        str | None, typer.Option(help="Only messages since: 2026-11-30T02:00:00Z, or milliseconds.")
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Newest first.")] = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the messages that history holds.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --delete: do not ask.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Print the messages that history holds of a channel, one JSON line each, oldest first.

    The command says on stderr where history no longer holds a part of the answer. With --delete the
    hub removes the messages; offsets go on, and rows of a keyed channel stay.
    """
    asked = HistoryArguments(channel, limit, since, from_time, reverse)
    if yes and not delete:
        raise fail(WRONG_USE, "--yes needs --delete")
    if delete and asked.narrowed:
        raise fail(
            WRONG_USE, "--delete lets go of all: no --limit, --since, --from-time, --reverse"
        )
    if delete and not yes:
        _confirm(channel)

    async def act(operator: Operator) -> None:
        if delete:
            await operator.tell("DELETE", "channels", channel, "history")
            say(f"the history of {channel} is gone")
            return
        async for message in _messages(operator, asked):
            typer.echo(to_json(message))

    operate(url, key, act)


@dataclass(frozen=True, slots=True)
class HistoryArguments:
    """The question as the command line asks it."""

    channel: str
    limit: int | None
    since: str | None
    from_time: str | None
    reverse: bool

    @property
    def narrowed(self) -> bool:
        """Whether the question is about less than the whole history."""
        return self.reverse or any((self.limit, self.since, self.from_time))


def _confirm(channel: str) -> None:
    """Raise `typer.Exit` unless a person at a terminal agrees."""
    if not sys.stdin.isatty():
        raise fail(WRONG_USE, "--delete asks first, and stdin is no terminal: add --yes")
    if not typer.confirm(f"Delete the history of {channel}?", err=True):
        raise typer.Exit(1)


async def _messages(operator: Operator, asked: HistoryArguments) -> AsyncIterator[Json]:
    left, since, first = asked.limit, asked.since, True
    while left is None or left > 0:
        page = await operator.ask(
            "channels",
            asked.channel,
            "history",
            since=since,
            limit=_PAGE if left is None else min(left, _PAGE),
            from_time=asked.from_time,
            reverse="true" if asked.reverse else None,
        )
        if first and not page["complete"]:
            say(f"history of {asked.channel} begins at {page['epoch']}:{page['oldest']}")
        first = False
        for message in page["publications"]:
            yield message
        left = None if left is None else left - len(page["publications"])
        if (since := page["next"]) is None:
            return


def state(
    channel: Annotated[
        str, typer.Argument(metavar="CHANNEL", help="A channel of a keyed namespace.")
    ],
    after: Annotated[str | None, typer.Option(help="Only keys that come after this one.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="The largest number of rows; default: all.")
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
