"""What the commands share that print a page of the hub's lists."""

from collections.abc import Sequence
from typing import Annotated

import typer

from hub.cli.columns import Column
from hub.cli.ending import say
from hub.cli.operator import Json, print_json
from hub.cli.tables import print_rows

Limit = Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")]
After = Annotated[str | None, typer.Option(help="Go on after a list's mark.")]


def print_list(page: Json, name: str, columns: Sequence[Column], *, as_json: bool) -> None:
    """The rows under `name` as a table, and on stderr what the page leaves out."""
    if as_json:
        print_json(page)
        return
    print_rows(columns, page[name])
    _tell_rest(page, len(page[name]))
    _tell_silent(page)


def _tell_rest(page: Json, listed: int) -> None:
    """On stderr, how many there are and how to see more, unless all are listed."""
    if page.get("next") is not None:
        say(f"{listed:,} of {page['total']:,}; more with --after {page['next']}")


def _tell_silent(page: Json) -> None:
    """On stderr, whose part is missing."""
    silent = page.get("unanswered") or ()
    if silent:
        say(f"no answer from {', '.join(silent)}: what is there is not listed")
    elif not page.get("complete", True):
        say("a part is missing: not all nodes could be asked")
