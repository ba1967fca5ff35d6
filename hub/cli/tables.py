"""Rows of the API as tables: what fits a terminal's width, and everything in a pipe."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hub.cli.columns import Column
from hub.cli.operator import Json

if TYPE_CHECKING:
    from rich.table import Table

_BETWEEN = 1
# Of one cell on a terminal: longer ones would drive out the other columns.
_WIDEST = 40


def print_rows(columns: Sequence[Column], rows: Sequence[Json]) -> None:
    """A table on stdout; a pipe gets all columns, uncut, whatever width it claims."""
    from rich.console import Console

    if sys.stdout.isatty():
        console = Console(highlight=False)
        console.print(table(columns, rows, width=console.width))
    else:
        whole = sum(_widths(columns, rows, most=None)) + _BETWEEN * len(columns)
        Console(highlight=False, width=whole).print(table(columns, rows, width=None))


def table(
    columns: Sequence[Column],
    rows: Sequence[Json],
    *,
    width: int | None,
    sort: str = "",
    descending: bool = False,
) -> "Table":
    """As many of `columns` as `width` has room for; the one sorted by is marked."""
    from rich.table import Table
    from rich.text import Text

    fitting = columns if width is None else fitted(columns, rows, width, sort)
    widths = _widths(fitting, rows, most=None if width is None else _WIDEST)
    made = Table(box=None, padding=(0, _BETWEEN, 0, 0), pad_edge=False, header_style="bold")
    for column, cells in zip(fitting, widths, strict=True):
        by = bool(sort) and column.sort == sort
        made.add_column(
            Text(title(column, sort, descending=descending), style="reverse" if by else ""),
            justify="right" if column.number else "left",
            min_width=min(cells, width or cells),
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in rows:
        made.add_row(*(Text(column.text(row)) for column in fitting))
    return made


def fitted(
    columns: Sequence[Column], rows: Sequence[Json], width: int, sort: str = ""
) -> Sequence[Column]:
    """`columns` without those of the highest rank, until the others find room.

    Then from the right: a figure that is cut looks like another one. The first column stays, and
    what the rows are sorted by: an order that nobody sees looks like none.
    """
    left = list(columns)
    while sum(_widths(left, rows, most=_WIDEST)) + _BETWEEN * len(left) > width:
        spare = [column for column in left[1:] if column.sort != (sort or None)]
        if not spare:
            break
        least = max(reversed(spare), key=lambda column: column.rank)
        left.remove(least)
    return left


def title(column: Column, sort: str, *, descending: bool) -> str:
    """With an arrow where the list is sorted by it."""
    if not sort or column.sort != sort:
        return column.title
    return f"{column.title}{'↓' if descending else '↑'}"


def _widths(columns: Sequence[Column], rows: Sequence[Json], *, most: int | None) -> list[int]:
    """Of the titles with their arrows, and of all cells."""
    from rich.cells import cell_len

    natural = [
        max(column.width, len(column.title) + 1, *(cell_len(column.text(row)) for row in rows), 0)
        for column in columns
    ]
    return natural if most is None else [min(cells, most) for cells in natural]
