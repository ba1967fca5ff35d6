"""`hub top` shows the load of the hub, and the connections, channels or nodes that cause most of
it.

On a terminal it refreshes until a key or a signal ends it; elsewhere it prints once. With --json it
prints one snapshot per line, for ever or --count times.
"""

import asyncio
import signal
from dataclasses import dataclass, replace
from shutil import get_terminal_size
from typing import Annotated, Any

import typer

from hub.cli.columns import away_sentence, print_rows
from hub.cli.ending import WRONG_USE, fail, say
from hub.cli.flags import DEFAULT_URL, Url
from hub.cli.operator import Key, Operator, OperatorError, operate, print_json
from hub.cli.screen import Screen, has_terminal
from hub.cli.top_picture import picture, room, summary
from hub.cli.top_taking import MOST_ROWS, Snapshot, take
from hub.cli.top_view import Shown, ordered, pressed, row_names, shown_at_first

_SIGNALLED = 128
"""The exit code of a process that a signal ended is this plus the signal's number, as in shells."""


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
        int | None, typer.Option(min=1, help="With --json: end after this many lines.")
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
    try:
        order = TopArguments(shown_at_first(listing, sort), every, count)
    except ValueError as error:
        raise fail(WRONG_USE, str(error)) from None
    operate(url, key, order.print_snapshots if as_json else order.show)


@dataclass(frozen=True, slots=True)
class TopArguments:
    """The view as the command line asks for it."""

    shown: Shown
    every_seconds: float
    count: int | None

    async def print_snapshots(self, operator: Operator) -> None:
        """Print up to `count` snapshots; an error after the first is printed, and the next try
        follows."""
        snapshot = await take(operator, self.shown, MOST_ROWS)
        print_json(snapshot.document())
        printed = 1
        while printed != self.count:
            await asyncio.sleep(self.every_seconds)
            try:
                snapshot = await take(operator, self.shown, MOST_ROWS, snapshot)
            except OperatorError as error:
                say(str(error))
                continue
            print_json(snapshot.document())
            printed += 1

    async def show(self, operator: Operator) -> None:
        """Show the view live on a terminal, or print it once elsewhere."""
        if not has_terminal():
            self._print_once(operator, await take(operator, self.shown, MOST_ROWS))
            return
        # Before the screen is taken: a wrong key or address is said where it stays to be read.
        first = await take(operator, self.shown, room(get_terminal_size().lines))
        with Screen() as screen:
            ended_by = await TopScreen(
                operator, screen, self.shown, first, self.every_seconds
            ).run()
        if ended_by is not None:
            raise typer.Exit(_SIGNALLED + ended_by)

    def _print_once(self, operator: Operator, snapshot: Snapshot) -> None:
        for line in summary(self.shown, snapshot, url=operator.shown_url):
            typer.echo(line)
        print_rows(self.shown.listing.columns, ordered(self.shown, snapshot.rows))
        if trouble := away_sentence(snapshot.nodes) or snapshot.unknown:
            say(trouble)


# SIGINT is asyncio's own; it cancels `run`, and the screen is given back on the way out.
_ENDING = (signal.SIGTERM, signal.SIGHUP)


class TopScreen:
    """Shows one hub on a terminal: it refreshes in the background and answers keys at once."""

    def __init__(
        self,
        operator: Operator,
        screen: Screen,
        shown: Shown,
        first: Snapshot,
        every_seconds: float,
    ) -> None:
        self._operator = operator
        self._screen = screen
        self._shown = shown
        self._snapshot = first
        self._every_seconds = every_seconds
        self._trouble = ""
        self._wanted = asyncio.Event()
        """The event is set when the next refresh should come at once."""
        self._end: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def run(self) -> int | None:
        """Return None after a key that ends it, or the number of the signal that does."""
        refreshing = asyncio.create_task(self._refresh())
        self._listen()
        try:
            self._draw()
            waits: set[asyncio.Future[Any]] = {refreshing, self._end}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            # A refresh ends by itself only with a defect, which must not look like a pause.
            return refreshing.result() if refreshing.done() else self._end.result()
        finally:
            self._ignore()
            refreshing.cancel()
            await asyncio.gather(refreshing, return_exceptions=True)

    # -- the terminal --------------------------------------------------------------------------

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._screen.input, self._read_keys)
        loop.add_signal_handler(signal.SIGWINCH, self._draw)
        loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        for ending in _ENDING:
            loop.add_signal_handler(ending, self._finish, int(ending))

    def _ignore(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._screen.input)
        for number in (signal.SIGWINCH, signal.SIGTSTP, *_ENDING):
            loop.remove_signal_handler(number)

    def _read_keys(self) -> None:
        try:
            keys = self._screen.keys()
        except (EOFError, OSError):
            self._finish(int(signal.SIGHUP))
            return
        for key in keys:
            self._press(key)
        self._draw()

    def _press(self, key: str) -> None:
        chosen = pressed(self._shown, key, self._names())
        if chosen is None:
            self._finish(None)
            return
        if _asked(chosen) != _asked(self._shown):
            self._wanted.set()
        self._shown = chosen

    def _names(self) -> list[str]:
        """Return the names of the rows on the screen."""
        if self._snapshot.listing != self._shown.listing.name:
            return []
        rows = ordered(self._shown, self._snapshot.rows)[: room(self._screen.height)]
        return row_names(self._shown, rows)

    def _suspend(self) -> None:
        self._screen.suspend()
        self._draw()

    def _finish(self, number: int | None) -> None:
        if not self._end.done():
            self._end.set_result(number)

    def _draw(self) -> None:
        snapshot = self._snapshot
        if snapshot.listing != self._shown.listing.name:
            # Its rows are on their way.
            snapshot = snapshot.without_rows(self._shown.listing.name)
        self._screen.show(
            picture(
                self._shown,
                snapshot,
                url=self._operator.shown_url,
                trouble=self._trouble,
                width=self._screen.width,
                height=self._screen.height,
            )
        )

    # -- the hub -------------------------------------------------------------------------------

    async def _refresh(self) -> None:
        while True:
            await self._wait()
            if self._shown.paused and self._snapshot.listing == self._shown.listing.name:
                continue
            try:
                await self._take()
            except OperatorError as error:
                # It may come back, and the user wants to see that too.
                self._trouble = str(error)
            self._draw()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._every_seconds):
                await self._wanted.wait()
        except TimeoutError:
            pass
        self._wanted.clear()

    async def _take(self) -> None:
        shown, rows = self._shown, room(self._screen.height)
        snapshot = await take(self._operator, shown, rows, self._snapshot)
        self._trouble = ""
        if snapshot.listing == self._shown.listing.name:
            self._snapshot = snapshot
        else:
            self._wanted.set()  # a key was quicker


def _asked(shown: Shown) -> Shown:
    """Return the parts of `shown` that the hub's answer depends on: no mark, help or typing."""
    selected = shown.selected if shown.is_open else ""
    filtered = "*" if shown.filter else ""
    return replace(shown, help=False, is_typing=False, selected=selected, filter=filtered)
