"""`hub top`: what the hub does now, and which connections, channels or nodes do most of it.

On a terminal it refreshes until it is told to end; elsewhere it prints once. With --json
it prints one snapshot per line, for as long as it runs or --count says.
"""

import asyncio
from dataclasses import dataclass
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.address import DEFAULT_URL, Url
from hub.cli.columns import away_sentence, print_rows
from hub.cli.ending import WRONG_USE, fail, say
from hub.cli.operator import Key, Operator, operate, print_json

if TYPE_CHECKING:
    from hub.cli.top_taking import Snapshot
    from hub.cli.top_view import Shown

_SIGNALLED = 128
"""Plus the signal's number: how shells say that a signal ended a command."""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("top")(top)


def top(
    listing: Annotated[
        str, typer.Argument(metavar="LIST", help="connections, channels or nodes.")
    ] = "connections",
    sort: Annotated[
        str | None, typer.Option(help="A field, such as -dropped: greatest first.")
    ] = None,
    every: Annotated[
        float, typer.Option(min=0.2, max=3600, help="Seconds between refreshes.")
    ] = 2.0,
    count: Annotated[
        int | None, typer.Option(min=1, help="With --json: end after so many lines.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One snapshot per line, as JSON.")
    ] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Watch nodes, connections and channels, live and sortable; ? shows the keys.

    Without a terminal it prints once and ends.
    """
    from hub.cli.top_view import shown_at_first

    try:
        order = Order(shown_at_first(listing, sort), every, count)
    except ValueError as error:
        raise fail(WRONG_USE, str(error)) from None
    operate(url, key, order.print_snapshots if as_json else order.show)


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for on the command line."""

    shown: "Shown"
    every: float
    count: int | None

    async def print_snapshots(self, operator: Operator) -> None:
        """Until `count`; what fails after the first is said and tried again."""
        from hub.cli.operator import OperatorError
        from hub.cli.top_taking import MOST_ROWS, take

        snapshot = await take(operator, self.shown, MOST_ROWS)
        print_json(snapshot.document())
        printed = 1
        while printed != self.count:
            await asyncio.sleep(self.every)
            try:
                snapshot = await take(operator, self.shown, MOST_ROWS, snapshot)
            except OperatorError as error:
                say(str(error))
                continue
            print_json(snapshot.document())
            printed += 1

    async def show(self, operator: Operator) -> None:
        """Live on a terminal, once elsewhere."""
        from hub.cli.screen import Screen, has_terminal
        from hub.cli.top_live import Live
        from hub.cli.top_picture import room
        from hub.cli.top_taking import MOST_ROWS, take

        if not has_terminal():
            self._print_once(operator, await take(operator, self.shown, MOST_ROWS))
            return
        # Before the screen is taken: a wrong key or address is said where it stays to be read.
        first = await take(operator, self.shown, room(get_terminal_size().lines))
        with Screen() as screen:
            ended_by = await Live(operator, screen, self.shown, first, self.every).run()
        if ended_by is not None:
            raise typer.Exit(_SIGNALLED + ended_by)

    def _print_once(self, operator: Operator, snapshot: "Snapshot") -> None:
        from hub.cli.top_picture import summary
        from hub.cli.top_view import ordered

        for line in summary(self.shown, snapshot, url=operator.shown_url):
            typer.echo(line)
        print_rows(self.shown.listing.columns, ordered(self.shown, snapshot.rows))
        if trouble := away_sentence(snapshot.nodes) or snapshot.unknown:
            say(trouble)
