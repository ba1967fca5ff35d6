"""The view of `hub top`: its list, order and filter, and the change that each key makes.

A row is marked by its name, so that the mark stays with the row while rows change places.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from hub.cli.columns import CHANNELS, CONNECTIONS, NODES, TerminalColumn, of, rate
from hub.cli.operator import Json

_LONGEST_FILTER = 60
_SENT_RATE = TerminalColumn("SENT/s", of("sent_per_second", rate), width=6, rank=4, number=True)


@dataclass(frozen=True, slots=True)
class TopList:
    """A list, and the API's name of its rows."""

    name: str
    columns: Sequence[TerminalColumn]
    sort: str
    """The field that the list is sorted by at first."""
    name_field: str
    """The field that identifies a row."""

    def column(self, sort: str) -> TerminalColumn | None:
        return next((column for column in self.columns if column.sort == sort), None)


def _with_rate(columns: Sequence[TerminalColumn]) -> tuple[TerminalColumn, ...]:
    """Return the columns with a rate beside the total of sent messages."""
    at = next(index for index, column in enumerate(columns) if column.sort == "sent") + 1
    return (*columns[:at], _SENT_RATE, *columns[at:])


LISTINGS = (
    TopList("connections", _with_rate(CONNECTIONS), "sent", "connection"),
    TopList("channels", CHANNELS, "subscribers", "channel"),
    TopList("nodes", NODES, "node", "node"),
)
"""The lists in the order of their keys, 1 to 3."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The user's choice of what to see."""

    listing: TopList
    sort: str
    descending: bool
    paused: bool = False
    help: bool = False
    filter: str = ""
    """The text that a shown row has in some column, in upper or lower case."""
    is_typing: bool = False
    """Whether keys are characters of the filter."""
    selected: str = ""
    """The name of the marked row; empty for none."""
    is_open: bool = False
    """Whether the marked row is shown alone, with every field."""

    @property
    def order(self) -> str:
        """The order as the API's `sort`."""
        return f"-{self.sort}" if self.descending else self.sort


def shown_at_first(name: str, sort: str | None) -> Shown:
    """Return the first view; `sort` is as in the API, with `-` for descending.

    Raises:
        ValueError: There is no such list, or it has no such column.
    """
    listing = next((each for each in LISTINGS if each.name == name), None)
    if listing is None:
        raise ValueError(f"{name} is no list: {', '.join(each.name for each in LISTINGS)}")
    if sort is None:
        return _listed(listing)
    column = listing.column(sort.removeprefix("-"))
    if column is None or not column.sort:
        known = ", ".join(each.sort for each in listing.columns if each.sort)
        raise ValueError(f"--sort is {sort!r}, allowed are {known}, each also with - before it")
    return Shown(listing, column.sort, sort.startswith("-"))


def _listed(listing: TopList, *, paused: bool = False) -> Shown:
    column = listing.column(listing.sort)
    return Shown(listing, listing.sort, bool(column and column.number), paused)


def pressed(shown: Shown, key: str, names: Sequence[str] = ()) -> Shown | None:
    """Return the view after a key; None where the key ends the command.

    Args:
        names: Names of the rows on the screen, from above.
    """
    if shown.is_typing:
        return _typed(shown, key)
    if key == "q":
        return None
    if key in {"up", "down"}:
        return shown if shown.is_open else _marked(shown, -1 if key == "up" else 1, names)
    if key == "enter":
        return replace(shown, is_open=shown.is_open or shown.selected in names, help=False)
    if change := _CHANGES.get(key):
        return change(shown)
    found = next((each for each in shown.listing.columns if each.key == key), None)
    return _by(shown, found) if found else replace(shown, help=False)


def _typed(shown: Shown, key: str) -> Shown:
    match key:
        case "enter" | "tab" | "up" | "down":
            return replace(shown, is_typing=False)
        case "escape":
            return replace(shown, is_typing=False, filter="")
        case "backspace":
            return replace(shown, filter=shown.filter[:-1])
        case _:
            fits = len(key) == 1 and key.isprintable() and len(shown.filter) < _LONGEST_FILTER
            return replace(shown, filter=shown.filter + key) if fits else shown


def _marked(shown: Shown, step: int, names: Sequence[str]) -> Shown:
    """Mark the row above or below; without a mark the first or the last row."""
    if not names:
        return shown
    if shown.selected in names:
        at = min(max(names.index(shown.selected) + step, 0), len(names) - 1)
    else:
        at = 0 if step > 0 else len(names) - 1
    return replace(shown, selected=names[at], help=False)


def _back(shown: Shown) -> Shown:
    """Go back one step: out of help, out of a row, without a mark, without a filter."""
    if shown.help:
        return replace(shown, help=False)
    if shown.is_open:
        return replace(shown, is_open=False)
    if shown.selected:
        return replace(shown, selected="")
    return replace(shown, filter="")


def _numbered(shown: Shown, index: int) -> Shown:
    listing = LISTINGS[index % len(LISTINGS)]
    same = listing is shown.listing
    return replace(shown, help=False) if same else _listed(listing, paused=shown.paused)


def _beside(shown: Shown, step: int) -> Shown:
    """Sort by the next sortable column on either side."""
    sortable = [column for column in shown.listing.columns if column.sort]
    now = next(index for index, column in enumerate(sortable) if column.sort == shown.sort)
    return _by(shown, sortable[(now + step) % len(sortable)])


def _by(shown: Shown, column: TerminalColumn) -> Shown:
    """Sort by `column`; the same column again reverses the order."""
    descending = not shown.descending if column.sort == shown.sort else column.number
    return replace(shown, sort=column.sort, descending=descending, help=False)


_CHANGES: Mapping[str, Callable[[Shown], Shown]] = {
    "?": lambda shown: replace(shown, help=not shown.help),
    " ": lambda shown: replace(shown, paused=not shown.paused),
    "r": lambda shown: replace(shown, descending=not shown.descending),
    "/": lambda shown: replace(shown, is_typing=True, is_open=False, help=False),
    "escape": _back,
    "backspace": _back,
    "left": lambda shown: _beside(shown, -1),
    "<": lambda shown: _beside(shown, -1),
    "right": lambda shown: _beside(shown, +1),
    ">": lambda shown: _beside(shown, +1),
    "tab": lambda shown: _numbered(shown, LISTINGS.index(shown.listing) + 1),
    "1": lambda shown: _numbered(shown, 0),
    "2": lambda shown: _numbered(shown, 1),
    "3": lambda shown: _numbered(shown, 2),
}


def ordered(shown: Shown, rows: Sequence[Json]) -> list[Json]:
    """Return the rows that match the filter, sorted; rows without a value come first, as at the
    hub."""
    wanted = shown.filter.casefold()
    columns = shown.listing.columns
    if wanted:
        rows = [row for row in rows if any(wanted in each.text(row).casefold() for each in columns)]
    return sorted(rows, key=lambda row: _sortable(row, shown.sort), reverse=shown.descending)


def _sortable(row: Json, sort: str) -> tuple[float, str]:
    value = row.get(sort)
    if sort == "offset":
        return float(row["position"].rpartition(":")[2]), ""
    if isinstance(value, list):
        return float(len(value)), ""
    if isinstance(value, int | float):
        return float(value), ""
    return -1.0, "" if value is None else str(value)


def row_names(chosen: Shown, rows: Sequence[Json]) -> list[str]:
    """Return the identifying names of the rows."""
    return [str(row.get(chosen.listing.name_field)) for row in rows]
