"""What `hub top` shows of which list, and what each key changes about that. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hub.cli.columns import CHANNELS, CONNECTIONS, NODES, Column, of, rate
from hub.cli.operator import Json

_SENT_RATE = Column("SENT/s", of("sent_per_second", rate), width=6, rank=4, number=True)


@dataclass(frozen=True, slots=True)
class Listing:
    """One of the lists, and the name of its rows in the API."""

    name: str
    columns: Sequence[Column]
    sort: str
    """What it is sorted by at first."""

    def column(self, sort: str) -> Column | None:
        return next((column for column in self.columns if column.sort == sort), None)


def _with_rate(columns: Sequence[Column]) -> tuple[Column, ...]:
    """With what was sent in a second, beside what was sent in all."""
    at = next(index for index, column in enumerate(columns) if column.sort == "sent") + 1
    return (*columns[:at], _SENT_RATE, *columns[at:])


LISTINGS = (
    Listing("connections", _with_rate(CONNECTIONS), "sent"),
    Listing("channels", CHANNELS, "subscribers"),
    Listing("nodes", NODES, "node"),
)
"""In the order of their keys, 1 to 3."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the user has chosen to see."""

    listing: Listing
    sort: str
    descending: bool
    paused: bool = False
    help: bool = False

    @property
    def order(self) -> str:
        """As the API's `sort`."""
        return f"-{self.sort}" if self.descending else self.sort


def shown_at_first(name: str, sort: str | None) -> Shown:
    """`sort` as in the API, with `-` for descending.

    Raises:
        ValueError: there is no such list, or it has no such column.
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


def _listed(listing: Listing, *, paused: bool = False) -> Shown:
    column = listing.column(listing.sort)
    return Shown(listing, listing.sort, bool(column and column.number), paused)


def pressed(shown: Shown, key: str) -> Shown | None:
    """What is shown after a key; None where it ends the command."""
    match key:
        case "q":
            return None
        case "?":
            return replace(shown, help=not shown.help)
        case " ":
            return replace(shown, paused=not shown.paused)
        case "r":
            return replace(shown, descending=not shown.descending)
        case "left" | "<":
            return _beside(shown, -1)
        case "right" | ">":
            return _beside(shown, +1)
        case "tab":
            return _numbered(shown, LISTINGS.index(shown.listing) + 1)
        case "1" | "2" | "3":
            return _numbered(shown, int(key) - 1)
        case _:
            found = next((each for each in shown.listing.columns if each.key == key), None)
            return _by(shown, found) if found else replace(shown, help=False)


def _numbered(shown: Shown, index: int) -> Shown:
    listing = LISTINGS[index % len(LISTINGS)]
    same = listing is shown.listing
    return replace(shown, help=False) if same else _listed(listing, paused=shown.paused)


def _beside(shown: Shown, step: int) -> Shown:
    """Sorted by the next column to either side that can be sorted by."""
    sortable = [column for column in shown.listing.columns if column.sort]
    now = next(index for index, column in enumerate(sortable) if column.sort == shown.sort)
    return _by(shown, sortable[(now + step) % len(sortable)])


def _by(shown: Shown, column: Column) -> Shown:
    """The same column again turns the order round."""
    descending = not shown.descending if column.sort == shown.sort else column.number
    return replace(shown, sort=column.sort, descending=descending, help=False)


def ordered(shown: Shown, rows: Sequence[Json]) -> list[Json]:
    """`rows` sorted as chosen; what has no value comes first, as at the hub."""
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
