"""The questions of `hub top` to the hub at each refresh, and the snapshot made of the answers."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hub.cli.columns import with_age
from hub.cli.operator import Json, Operator, OperatorError
from hub.cli.top_view import Shown

# The most that the API gives in one page.
MOST_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of the hub at one moment."""

    listing: str
    at_seconds: float
    """Seconds since 1970 UTC."""
    nodes: Sequence[Json]
    rows: Sequence[Json]
    total: int
    """The number of rows on all pages of the list."""
    silent: Sequence[str] = ()
    """Names of nodes that did not answer."""
    unknown: str = ""
    """The reason why the hub could not list the nodes; empty where it could."""
    opened: Json | None = None
    """Every field of the opened row, where the hub still has it."""
    taken_seconds: float = field(default_factory=time.monotonic)
    """Monotonic seconds, so that rates do not jump when the wall clock is set."""

    def without_rows(self, listing: str) -> "Snapshot":
        """Return the snapshot for another list, before the rows of that list have come."""
        return replace(self, listing=listing, rows=(), total=0, silent=(), opened=None)

    def document(self) -> Json:
        """Return the snapshot as `hub top --json` prints it."""
        return {
            "at_ms": int(self.at_seconds * 1000),
            "cluster": self.figures(),
            "nodes": list(self.nodes),
            self.listing: list(self.rows),
            "total": self.total,
            "unanswered": list(self.silent),
            "unknown": self.unknown or None,
        }

    def figures(self) -> dict[str, float]:
        """Return the sums over all nodes."""
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
"""Fields of a node that add up to figures of the cluster: the node that took a publication counts
it, and the node that made a delivery counts that."""


async def take(
    operator: Operator, shown: Shown, rows: int, before: Snapshot | None = None
) -> Snapshot:
    """Ask the hub now; rates of rows are the differences to `before`.

    Raises:
        OperatorError: The hub refuses, or is away.
    """
    listing = shown.listing.name
    if listing == "nodes":
        answer = await operator.ask("nodes")
        nodes = with_age(answer)
        unknown = answer.get("unknown") or ""
        return Snapshot(listing, time.time(), nodes, nodes, len(nodes), unknown=unknown)
    # The filter is applied here, not by the hub.
    limit = MOST_ROWS if shown.filter else min(max(rows, 1), MOST_ROWS)
    answer, page, opened = await asyncio.gather(
        operator.ask("nodes"),
        operator.ask(listing, sort=shown.order, limit=limit),
        _opened(operator, shown),
    )
    snapshot = Snapshot(
        listing,
        time.time(),
        with_age(answer),
        page[listing],
        page["total"],
        page.get("unanswered", ()),
        answer.get("unknown") or "",
        opened,
    )
    _add_rates(snapshot, before)
    return snapshot


async def _opened(operator: Operator, shown: Shown) -> Json | None:
    """Return the connection's own answer, which holds more fields than its row in the list."""
    if not shown.is_open or shown.listing.name != "connections":
        return None
    try:
        return await operator.ask("connections", shown.selected)
    except OperatorError as error:
        if error.code != "not_found":
            raise
        return None


def _add_rates(now: Snapshot, before: Snapshot | None) -> None:
    """Add a rate to each connection that the snapshot before has too."""
    if before is None or not (now.listing == before.listing == "connections"):
        return
    seconds = now.taken_seconds - before.taken_seconds
    sent = {row["connection"]: row["sent"] for row in before.rows}
    for row in now.rows:
        was = sent.get(row["connection"])
        if was is not None and seconds > 0:
            row["sent_per_second"] = round((row["sent"] - was) / seconds, 2)
