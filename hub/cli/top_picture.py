"""`hub top` as lines of a terminal: header, table, keys. Pure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hub.cli.columns import clock, node_state, rate, shown, size
from hub.cli.tables import table
from hub.cli.top_lists import LISTINGS, Shown, ordered
from hub.cli.top_snapshot import Snapshot

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

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
