"""What `hub top` shows: which list in which order, what it asks for, and the lines it draws.

Keys change a `Shown`, a refresh takes a `Snapshot`, `picture` draws both. No terminal is touched.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hub.cli.columns import (
    CHANNELS,
    CONNECTIONS,
    NODES,
    Column,
    clock,
    node_state,
    of,
    rate,
    shown,
    size,
    table,
)
from hub.cli.operator import Json, Operator

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text


# -- which list, and what each key changes about that ----------------------------------------------


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


# -- what is asked at each refresh -----------------------------------------------------------------


# The most that the API gives in one page.
MOST_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The hub at one moment."""

    listing: str
    at_seconds: float
    """Since 1970 UTC."""
    nodes: Sequence[Json]
    rows: Sequence[Json]
    total: int
    """Of the list, on all pages."""
    silent: Sequence[str] = ()
    """Nodes whose part is missing."""
    taken_seconds: float = field(default_factory=time.monotonic)
    """Monotonic: rates must not jump with a clock that is set."""

    def without_rows(self, listing: str) -> "Snapshot":
        """What is known before the rows of another list have come."""
        return replace(self, listing=listing, rows=(), total=0, silent=())

    def document(self) -> Json:
        """As `hub top --json` prints it."""
        return {
            "at_ms": int(self.at_seconds * 1000),
            "cluster": self.figures(),
            "nodes": list(self.nodes),
            self.listing: list(self.rows),
            "total": self.total,
            "unanswered": list(self.silent),
        }

    def figures(self) -> dict[str, float]:
        """Sums over all nodes."""
        return {name: sum(row.get(name) or 0 for row in self.nodes) for name in FIGURES}


FIGURES = (
    "connections",
    "subscriptions",
    "publications_per_second",
    "deliveries_per_second",
    "dropped_per_second",
    "gaps_per_second",
    "outbox_bytes",
    "congested",
)
"""Fields of a node whose sums say something about the cluster: a publication is counted at the
node that took it, a delivery at the one that made it."""


async def take(
    operator: Operator, shown: Shown, rows: int, before: Snapshot | None = None
) -> Snapshot:
    """Ask the hub now; rates of rows are those since `before`.

    Raises:
        OperatorError: the hub refuses, or is away.
    """
    listing = shown.listing.name
    if listing == "nodes":
        nodes: list[Json] = (await operator.ask("nodes"))["nodes"]
        return Snapshot(listing, time.time(), nodes, nodes, len(nodes))
    limit = min(max(rows, 1), MOST_ROWS)
    answer, page = await asyncio.gather(
        operator.ask("nodes"), operator.ask(listing, sort=shown.order, limit=limit)
    )
    snapshot = Snapshot(
        listing,
        time.time(),
        answer["nodes"],
        page[listing],
        page["total"],
        page.get("unanswered", ()),
    )
    _add_rates(snapshot, before)
    return snapshot


def _add_rates(now: Snapshot, before: Snapshot | None) -> None:
    """To connections, where the snapshot before had them too."""
    if before is None or not (now.listing == before.listing == "connections"):
        return
    seconds = now.taken_seconds - before.taken_seconds
    sent = {row["connection"]: row["sent"] for row in before.rows}
    for row in now.rows:
        was = sent.get(row["connection"])
        if was is not None and seconds > 0:
            row["sent_per_second"] = round((row["sent"] - was) / seconds, 2)


# -- lines of a terminal ---------------------------------------------------------------------------


_HEADER, _TITLES, _FOOTER = 4, 1, 1
_KEYS = "1-3 list   ←→ sort   r reverse   space pause   ? help   q quit"
_HELP = (
    ("1 2 3  tab", "connections, channels, nodes"),
    ("← →  < >", "sort by the column beside"),
    ("r", "the other way round"),
    ("space", "pause, and go on"),
    ("q  Ctrl-C", "quit"),
    ("", ""),
)


def room(height: int) -> int:
    """How many rows a terminal of `height` lines has room for; 1 at least."""
    return max(1, height - _HEADER - _TITLES - _FOOTER)


def picture(
    chosen: Shown, snapshot: Snapshot, *, url: str, trouble: str, width: int, height: int
) -> "Group":
    """The whole screen; `trouble` says why the snapshot is not a newer one, if it is not."""
    from rich.console import Group

    first, figures = summary(chosen, snapshot, url=url)
    header = [
        _line(first, "bold"),
        _line(figures),
        _trouble(snapshot, trouble),
        _lists(chosen, snapshot),
    ]
    if chosen.help:
        lines = [_line(text) for text in _help(chosen)]
        blank = height - len(header) - len(lines) - _FOOTER
        return Group(*header, *lines, *_blank(blank), _line(_KEYS, "reverse"))
    rows = ordered(chosen, snapshot.rows)[: room(height)]
    columns, by, down = chosen.listing.columns, chosen.sort, chosen.descending
    made = table(columns, rows, width=width, sort=by, descending=down)
    none = [] if rows else [_line(f"no {chosen.listing.name}", "dim")]
    blank = height - len(header) - _TITLES - len(rows) - len(none) - _FOOTER
    return Group(*header, made, *none, *_blank(blank), _line(_KEYS, "reverse"))


def summary(chosen: Shown, snapshot: Snapshot, *, url: str) -> tuple[str, str]:
    """The cluster in two lines."""
    nodes, figures = len(snapshot.nodes), snapshot.figures()
    first = [
        f"hub {shown(url)}",
        _counted(nodes, "node"),
        _counted(figures["connections"], "connection"),
        clock(snapshot.at_seconds * 1000),
        *(["PAUSED"] if chosen.paused else []),
    ]
    second = [
        f"publications {rate(figures['publications_per_second'])}/s",
        f"deliveries {rate(figures['deliveries_per_second'])}/s",
        f"drops {rate(figures['dropped_per_second'])}/s",
        f"gaps {rate(figures['gaps_per_second'])}/s",
        f"owed {size(figures['outbox_bytes'])}",
    ]
    return "  ".join(first), "  ".join(second)


def _counted(number: float, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _line(text: str, style: str = "") -> "Text":
    """Cut where the terminal ends, never wrapped."""
    from rich.text import Text

    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _blank(lines: int) -> Sequence["Text"]:
    return [_line("") for _ in range(lines)]


def _trouble(snapshot: Snapshot, trouble: str) -> "Text":
    """The first thing that is wrong; nothing where all is well."""
    if trouble:
        return _line(f"shown is an old state: {shown(trouble)}", "bold red")
    if snapshot.silent:
        return _line(f"no answer from {shown(', '.join(snapshot.silent))}", "red")
    states = [(row["node"], node_state(row)) for row in snapshot.nodes]
    said = "  ".join(f"{node}: {state}" for node, state in states if state != "ok")
    return _line(shown(said) if said else "", "yellow")


def _lists(chosen: Shown, snapshot: Snapshot) -> "Text":
    from rich.text import Text

    line = Text(no_wrap=True, overflow="ellipsis")
    for number, listing in enumerate(LISTINGS, 1):
        style = "reverse" if listing is chosen.listing else "dim"
        line.append(f" {number} {listing.name} ", style=style)
    return line.append(f"  {len(snapshot.rows):,} of {snapshot.total:,}")


def _help(chosen: Shown) -> Sequence[str]:
    columns = [f"{column.key:<4}{column.title}" for column in chosen.listing.columns if column.sort]
    half = (len(columns) + 1) // 2
    left, right = columns[:half], [*columns[half:], ""]
    return [
        *(f"  {keys:<12}{meaning}" for keys, meaning in _HELP),
        "  sort by:",
        *(f"    {one:<24}{other}" for one, other in zip(left, right, strict=False)),
    ]
