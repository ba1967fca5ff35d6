"""The columns of each list as a terminal shows them, and the tables made of them.

Texts that peers chose (user agents, subjects, payloads) may hold escape sequences, so every text
goes through `shown`.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hub.cli.operator import Json
from hub.observe.terminal import visible

if TYPE_CHECKING:
    from rich.table import Table


_NOTHING = "-"
_STEP = 1024
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@dataclass(frozen=True, slots=True)
class TerminalColumn:
    """A column of a list."""

    title: str
    text: Callable[[Json], str]
    sort: str = ""
    """The API's name of the field to sort by; empty where the column cannot be sorted by."""
    key: str = ""
    """The key of `hub top` that sorts by this column: a letter of its own where `sort` is set."""
    number: bool = False
    """Whether the column is aligned to the right, and sorted with the greatest first."""
    width: int = 4
    """The least width in characters, so that columns keep still while figures change."""
    rank: int = 0
    """Columns of the highest rank are left out first where a terminal is too narrow."""


def shown(value: object) -> str:
    """Return any value as text that moves no cursor and changes no colour; `-` for no value."""
    if value is None or value == "":
        return _NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return visible(text)


def rate(value: object) -> str:
    """Return a number per second, or of milliseconds, with enough digits to show a small one."""
    if not isinstance(value, int | float):
        return _NOTHING
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 0.1 else f"{value:.1g}"


def size(value: object) -> str:
    """Return bytes as B, K, M or G of 1,024."""
    if not isinstance(value, int | float):
        return _NOTHING
    for unit in ("B", "K", "M"):
        if abs(value) < _STEP:
            return f"{value:.0f}{unit}" if unit == "B" or value >= 10 else f"{value:.1f}{unit}"
        value /= _STEP
    return f"{value:.1f}G"


def span(seconds: object) -> str:
    """Return a length of time in its two greatest units, such as `3m07s`."""
    if not isinstance(seconds, int | float):
        return _NOTHING
    whole = max(0, int(seconds))
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}m"
    return f"{whole // _DAY}d{whole % _DAY // _HOUR:02}h"


def clock(at_ms: object) -> str:
    """Return the local time of day of `milliseconds` since 1970 UTC."""
    if not isinstance(at_ms, int | float):
        return _NOTHING
    return time.strftime("%H:%M:%S", time.localtime(at_ms / 1000))


def of(field: str, write: Callable[[object], str] = shown) -> Callable[[Json], str]:
    """Return a function that writes one field of a row."""
    return lambda row: write(row.get(field))


def _opened(row: Json) -> str:
    """Return the time of opening by this machine's clock; a node's clock may differ a little."""
    opened = row.get("opened_ms")
    return f"{span(time.time() - opened / 1000)} ago" if isinstance(opened, int) else _NOTHING


def _oldest(row: Json) -> str:
    return span(row.get("outbox_age_seconds")) if row.get("outbox_messages") else _NOTHING


def _round_trip(row: Json) -> str:
    return rate(row.get("round_trip_ms"))


def with_age(answer: Json) -> list[Json]:
    """Return the nodes of `GET /api/nodes`, with the age of figures that are old.

    While the hub cannot reach the other nodes it lists their last figures; its own are current.
    """
    nodes: list[Json] = answer["nodes"]
    if answer.get("complete", True):
        return nodes
    now = max(row.get("at_ms") or 0 for row in nodes)
    return [
        row | {"old_seconds": (now - row["at_ms"]) / 1000}
        if row.get("node") != answer.get("node") and row.get("at_ms")
        else row
        for row in nodes
    ]


def away_sentence(nodes: Sequence[Json]) -> str:
    """Say which broker is away and since when; return an empty text where none is."""
    row = next((row for row in nodes if row.get("broker_away")), None)
    if row is None:
        return ""
    servers, since = " and ".join(row["broker_away"]), row.get("broker_away_since_ms")
    return f"{servers} away since {clock(since)}, says {row.get('node')}: it answers for itself"


def node_state(row: Json) -> str:
    """Return the state of a node: draining, stopping, or its fault."""
    if row.get("old_seconds") is not None:
        return f"figures {span(row['old_seconds'])} old"
    if row.get("leaving"):
        return f"{row['leaving']} {row.get('left_connections')}/{row.get('leaving_connections')}"
    if row.get("draining"):
        return "draining"
    wrong = row.get("problems") or row.get("impaired")
    return shown(", ".join(wrong)) if wrong else "ok"


CONNECTIONS = (
    TerminalColumn("CONNECTION", of("connection"), "connection", "c", width=10),
    TerminalColumn("NODE", of("node"), "node", "n", width=6, rank=6),
    TerminalColumn("TRANSPORT", of("transport"), "transport", "w", width=9, rank=8),
    TerminalColumn("SUBJECT", of("subject"), "subject", "j", width=8, rank=3),
    TerminalColumn("ADDRESS", of("address"), "address", "i", width=9, rank=9),
    TerminalColumn("OPENED", _opened, "opened_ms", "a", width=10, rank=4, number=True),
    TerminalColumn("RTT ms", _round_trip, "round_trip_ms", "t", width=6, rank=2, number=True),
    TerminalColumn(
        "SUBS",
        lambda row: shown(len(row.get("subscriptions") or ())),
        "subscriptions",
        "u",
        width=4,
        rank=5,
        number=True,
    ),
    TerminalColumn(
        "PATTERNS",
        lambda row: shown(len(row.get("patterns") or ())),
        width=8,
        rank=11,
        number=True,
    ),
    TerminalColumn("SENT", of("sent"), "sent", "s", width=7, number=True),
    TerminalColumn("LACKS", of("missing"), "missing", "m", width=6, rank=6, number=True),
    TerminalColumn("DROPPED", of("dropped"), "dropped", "d", width=7, number=True),
    TerminalColumn(
        "OUTBOX", of("outbox_bytes", size), "outbox_bytes", "o", width=6, rank=1, number=True
    ),
    TerminalColumn("OLDEST", _oldest, "outbox_age_seconds", "l", width=6, rank=7, number=True),
    TerminalColumn("USER AGENT", of("user_agent"), "user_agent", "g", width=10, rank=10),
)
"""The columns of `GET /api/connections`; `hub.core.records.SessionRecord` describes each field."""

CHANNELS = (
    TerminalColumn("CHANNEL", of("channel"), "channel", "c", width=22),
    TerminalColumn("SUBSCRIBERS", of("subscribers"), "subscribers", "s", width=11, number=True),
    TerminalColumn(
        "PUB/s",
        of("publications_per_second", rate),
        "publications_per_second",
        "p",
        width=7,
        number=True,
    ),
    TerminalColumn("POSITION", of("position"), "offset", "o", width=14, rank=1, number=True),
    TerminalColumn("HISTORY", of("history"), "history", "i", width=7, number=True, rank=2),
    TerminalColumn("ROWS", of("rows"), "rows", "w", width=7, number=True, rank=4),
    TerminalColumn(
        "PRESENCE", lambda row: "yes" if row.get("presence") else _NOTHING, width=8, rank=3
    ),
)
"""The columns of `GET /api/channels`."""

NODES = (
    TerminalColumn("NODE", of("node"), "node", "n", width=12),
    TerminalColumn("CONNS", of("connections"), "connections", "c", width=6, number=True),
    TerminalColumn("SUBS", of("subscriptions"), "subscriptions", "u", width=6, number=True, rank=7),
    TerminalColumn(
        "PUB/s",
        of("publications_per_second", rate),
        "publications_per_second",
        "p",
        width=6,
        number=True,
    ),
    TerminalColumn(
        "DELIV/s",
        of("deliveries_per_second", rate),
        "deliveries_per_second",
        "s",
        width=7,
        number=True,
    ),
    TerminalColumn(
        "DROP/s", of("dropped_per_second", rate), "dropped_per_second", "d", width=6, number=True
    ),
    TerminalColumn(
        "p99 ms", of("latency_p99_ms", rate), "latency_p99_ms", "l", width=6, number=True
    ),
    TerminalColumn(
        "LAG ms", of("loop_lag_ms", rate), "loop_lag_ms", "g", width=6, number=True, rank=4
    ),
    TerminalColumn(
        "OUTBOX", of("outbox_bytes", size), "outbox_bytes", "o", width=6, number=True, rank=5
    ),
    TerminalColumn(
        "UPTIME", of("uptime_seconds", span), "uptime_seconds", "t", width=6, number=True
    ),
    TerminalColumn("VERSION", of("version"), "version", "v", width=7, rank=8),
    TerminalColumn("STATE", node_state, width=8),
)
"""The columns of `GET /api/nodes`."""

CLOSED = (
    TerminalColumn("CLOSED", of("closed_ms", clock), width=8),
    TerminalColumn("CONNECTION", of("connection"), width=10),
    TerminalColumn("CODE", lambda row: str(row.get("code", _NOTHING)), width=4),
    TerminalColumn("REASON", of("reason"), width=12),
    TerminalColumn("NODE", of("node"), width=6, rank=2),
    TerminalColumn("TRANSPORT", of("transport"), width=9, rank=6),
    TerminalColumn("SUBJECT", of("subject"), width=8, rank=1),
    TerminalColumn("ADDRESS", of("address"), width=9, rank=5),
    TerminalColumn("SENT", of("sent"), width=7, number=True, rank=3),
    TerminalColumn("DROPPED", of("dropped"), width=7, number=True, rank=4),
    TerminalColumn("USER AGENT", of("user_agent"), width=10, rank=7),
)
"""The columns of `GET /api/closed`."""

BANS = (
    TerminalColumn("KIND", of("kind"), width=7),
    TerminalColumn("NAME", lambda row: shown(row.get("sub") or row.get("jti")), width=12),
    TerminalColumn(
        "ENDS IN", lambda row: span(row["until_ms"] / 1000 - time.time()), width=7, number=True
    ),
    TerminalColumn("SINCE", of("at_ms", clock), width=8, rank=1),
    TerminalColumn("REASON", of("reason"), width=12),
)
"""The columns of `GET /api/bans`."""

REFUSALS = (
    TerminalColumn("LAST", of("last_ms", clock), width=8),
    TerminalColumn("REASON", of("reason"), width=12),
    TerminalColumn("TIMES", of("count"), width=6, number=True),
    TerminalColumn("ADDRESS", lambda row: shown(row.get("address") or "others"), width=9),
    TerminalColumn("ORIGIN", of("origin"), width=8, rank=2),
    TerminalColumn("SINCE", of("first_ms", clock), width=8, rank=1),
    TerminalColumn("NODE", of("node"), width=6, rank=3),
    TerminalColumn("HOST", of("host"), width=8, rank=5),
    TerminalColumn("TOLD", of("detail"), width=12, rank=4),
)
"""The columns of `GET /api/refusals`."""

LIMITED = (
    TerminalColumn("LAST", of("last_ms", clock), width=8),
    TerminalColumn("LIMIT", of("limit"), width=12),
    TerminalColumn("TIMES", of("count"), width=6, number=True),
    TerminalColumn("HOLDS", of("by"), width=7),
    TerminalColumn("NAME", lambda row: shown(row.get("name") or "others"), width=12),
    TerminalColumn("ADDRESS", of("address"), width=9, rank=2),
    TerminalColumn("SINCE", of("since_ms", clock), width=8, rank=1),
    TerminalColumn("NODE", of("node"), width=6, rank=3),
)
"""The columns of `GET /api/limited`."""


# -- tables: what fits a terminal's width, and everything in a pipe --------------------------------


_BETWEEN = 1
# Of one cell on a terminal: longer ones would drive out the other columns.
_WIDEST = 40


def print_rows(columns: Sequence[TerminalColumn], rows: Sequence[Json]) -> None:
    """Print a table on stdout. A pipe gets all columns uncut, whatever width it claims."""
    from rich.console import Console

    if sys.stdout.isatty():
        console = Console(highlight=False)
        console.print(table(columns, rows, width=console.width))
    else:
        whole = sum(_widths(columns, rows, most=None)) + _BETWEEN * len(columns)
        Console(highlight=False, width=whole).print(table(columns, rows, width=None))


def table(
    columns: Sequence[TerminalColumn],
    rows: Sequence[Json],
    *,
    width: int | None,
    sort: str = "",
    descending: bool = False,
    marked: int | None = None,
) -> "Table":
    """Return a table of as many `columns` as fit into `width`; the sorted column and one row are
    marked."""
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
    for number, row in enumerate(rows):
        style = "reverse" if number == marked else None
        made.add_row(*(Text(column.text(row)) for column in fitting), style=style)
    return made


def fitted(
    columns: Sequence[TerminalColumn], rows: Sequence[Json], width: int, sort: str = ""
) -> Sequence[TerminalColumn]:
    """Return `columns` without those of the highest rank, until the others fit.

    Where ranks do not suffice, columns are left out from the right, because a figure that is cut
    looks like another figure. The first column stays, and so does the sorted one: without it the
    order would look like none.
    """
    left = list(columns)
    while sum(_widths(left, rows, most=_WIDEST)) + _BETWEEN * len(left) > width:
        spare = [column for column in left[1:] if column.sort != (sort or None)]
        if not spare:
            break
        least = max(reversed(spare), key=lambda column: column.rank)
        left.remove(least)
    return left


def title(column: TerminalColumn, sort: str, *, descending: bool) -> str:
    """Return the title, with an arrow where the list is sorted by the column."""
    if not sort or column.sort != sort:
        return column.title
    return f"{column.title}{'↓' if descending else '↑'}"


def _widths(
    columns: Sequence[TerminalColumn], rows: Sequence[Json], *, most: int | None
) -> list[int]:
    """Return each column's width: that of its title with its arrow, or of its longest cell."""
    from rich.cells import cell_len

    natural = [
        max(column.width, len(column.title) + 1, *(cell_len(column.text(row)) for row in rows), 0)
        for column in columns
    ]
    return natural if most is None else [min(cells, most) for cells in natural]
