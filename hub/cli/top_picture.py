"""Draw the lines of `hub top` from the chosen view and a snapshot, without a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hub.cli.columns import (
    TerminalColumn,
    away_sentence,
    clock,
    node_state,
    rate,
    shown,
    size,
    table,
)
from hub.cli.operator import Json
from hub.cli.top_taking import Snapshot
from hub.cli.top_view import LISTINGS, Shown, ordered, row_names

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

_HEADER, _TITLES, _FOOTER = 4, 1, 1
_KEYS = "1-3 list  ←→ sort  r reverse  ↑↓ ⏎ open  / filter  space pause  ? help  q quit"
_HELP = (
    ("1 2 3  tab", "connections, channels, nodes"),
    ("← →  < >", "sort by the column beside"),
    ("r", "the other way round"),
    ("↑ ↓  Enter", "mark a row, and open it; Escape closes it"),
    ("/", "show rows that hold what is typed; Escape shows all"),
    ("space", "pause, and go on"),
    ("q  Ctrl-C", "quit"),
    ("", ""),
)


def room(height: int) -> int:
    """Return how many rows fit into `height` lines of a terminal; at least 1."""
    return max(1, height - _HEADER - _TITLES - _FOOTER)


def picture(
    chosen: Shown, snapshot: Snapshot, *, url: str, trouble: str, width: int, height: int
) -> "Group":
    """Return the whole screen; `trouble` says why the snapshot is old, and is empty otherwise."""
    from rich.console import Group

    first, figures = summary(chosen, snapshot, url=url)
    rows = ordered(chosen, snapshot.rows)
    header = [
        _line(first, "bold"),
        _line(figures),
        _trouble(snapshot, trouble),
        _lists(chosen, snapshot, len(rows)),
    ]
    footer = _line(_typing(chosen) if chosen.is_typing else _KEYS, "reverse")
    if chosen.help or chosen.is_open:
        texts = _help(chosen) if chosen.help else details(chosen, snapshot)
        free = max(0, height - len(header) - _FOOTER)
        lines = [_line(text) for text in texts[:free]]
        blank = free - len(lines)
        return Group(*header, *lines, *_blank(blank), footer)
    rows = rows[: room(height)]
    names = row_names(chosen, rows)
    made = table(
        chosen.listing.columns,
        rows,
        width=width,
        sort=chosen.sort,
        descending=chosen.descending,
        marked=names.index(chosen.selected) if chosen.selected in names else None,
    )
    none = [] if rows else [_line(f"no {chosen.listing.name}", "dim")]
    blank = height - len(header) - _TITLES - len(rows) - len(none) - _FOOTER
    return Group(*header, made, *none, *_blank(blank), footer)


def _typing(chosen: Shown) -> str:
    typed = shown(chosen.filter) if chosen.filter else ""
    return f"rows with: {typed}█   Enter keeps, Escape shows all"


def details(chosen: Shown, snapshot: Snapshot) -> list[str]:
    """Return every field of the opened row, one per line."""
    names = row_names(chosen, snapshot.rows)
    row = snapshot.opened
    if row is None and chosen.selected in names:
        row = snapshot.rows[names.index(chosen.selected)]
    if row is None:
        return [f"{shown(chosen.selected)} is not there any more"]
    known = {column.sort: column for column in chosen.listing.columns}
    lines = [
        f"{name.replace('_', ' '):<28}{_detail(known.get(name), row, value)}"
        for name, value in row.items()
        if name != "subscriptions"
    ]
    if (subscriptions := row.get("subscriptions")) is not None:
        lines += ["", f"{len(subscriptions):,} subscriptions"]
        lines += [_subscription(each) for each in subscriptions]
    return lines


def _detail(column: TerminalColumn | None, row: Json, value: object) -> str:
    if isinstance(value, list):
        return shown("; ".join(map(str, value)))
    if isinstance(value, dict):
        return shown(", ".join(f"{name} {each}" for name, each in value.items()))
    return column.text(row) if column else shown(value)


def _subscription(row: Json) -> str:
    owed, dropped = row.get("outbox_messages"), row.get("dropped")
    return (
        f"  {shown(row.get('channel')):<26}{shown(row.get('position')):<18}"
        f"{shown(row.get('state')):<11}owed {shown(owed)}, dropped {shown(dropped)}"
    )


def summary(chosen: Shown, snapshot: Snapshot, *, url: str) -> tuple[str, str]:
    """Return the cluster's figures in two lines."""
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
    """Return a line that is cut at the terminal's edge and never wrapped."""
    from rich.text import Text

    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _blank(lines: int) -> Sequence["Text"]:
    return [_line("") for _ in range(lines)]


def _trouble(snapshot: Snapshot, trouble: str) -> "Text":
    """Return the first problem as a line; an empty line where there is none."""
    if trouble:
        return _line(f"shown is an old state: {shown(trouble)}", "bold red")
    if snapshot.silent:
        return _line(f"no answer from {shown(', '.join(snapshot.silent))}", "red")
    if away := away_sentence(snapshot.nodes) or snapshot.unknown:
        return _line(shown(away), "bold red")
    states = [(row["node"], node_state(row)) for row in snapshot.nodes]
    said = "  ".join(f"{node}: {state}" for node, state in states if state != "ok")
    return _line(shown(said) if said else "", "yellow")


def _lists(chosen: Shown, snapshot: Snapshot, matching: int) -> "Text":
    from rich.text import Text

    line = Text(no_wrap=True, overflow="ellipsis")
    for number, listing in enumerate(LISTINGS, 1):
        style = "reverse" if listing is chosen.listing else "dim"
        line.append(f" {number} {listing.name} ", style=style)
    if not chosen.filter:
        return line.append(f"  {matching:,} of {snapshot.total:,}")
    seen = len(snapshot.rows)
    among = f"{seen:,}" if seen >= snapshot.total else f"the first {seen:,} of {snapshot.total:,}"
    return line.append(f"  {matching:,} of {among} with {shown(chosen.filter)}")


def _help(chosen: Shown) -> Sequence[str]:
    columns = [f"{column.key:<4}{column.title}" for column in chosen.listing.columns if column.sort]
    half = (len(columns) + 1) // 2
    left, right = columns[:half], [*columns[half:], ""]
    return [
        *(f"  {keys:<12}{meaning}" for keys, meaning in _HELP),
        "  sort by:",
        *(f"    {one:<24}{other}" for one, other in zip(left, right, strict=False)),
    ]
