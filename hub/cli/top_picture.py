"""`hub top` as lines of a terminal: header, table, keys. Pure."""

from typing import TYPE_CHECKING

from hub.cli.columns import clock, rate, shown, size
from hub.cli.tables import table
from hub.cli.top_lists import LISTINGS, Shown, ordered
from hub.cli.top_snapshot import Snapshot

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

# Two of figures, one of trouble, one of lists, the table's titles, one of keys.
_BESIDES_ROWS = 6
_KEYS = "1-3 list  ←→ sort  r reverse  space pause  ? help  q quit"


def room(height: int) -> int:
    """How many rows a terminal of `height` lines has room for; 1 at least."""
    return max(1, height - _BESIDES_ROWS)


def picture(
    chosen: Shown, snapshot: Snapshot, *, url: str, trouble: str, width: int, height: int
) -> "Group":
    """The whole screen; `trouble` says why the snapshot is not a newer one, if it is not."""
    from rich.console import Group
    from rich.text import Text

    rows = _help(chosen) if chosen.help else _rows(chosen, snapshot, width, height)
    lines = height - _BESIDES_ROWS + 1
    body = [rows] if chosen.help else [rows, *_blank(lines - 1 - _visible(snapshot, height))]
    if chosen.help:
        body += _blank(lines - rows.plain.count("\n") - 1) if isinstance(rows, Text) else []
    return Group(*_header(chosen, snapshot, url, trouble), *body, _line(_KEYS, "reverse"))


def _visible(snapshot: Snapshot, height: int) -> int:
    return min(len(snapshot.rows), room(height))
