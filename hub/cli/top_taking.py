"""What `hub top` asks the hub at each refresh, and what it holds of the answers."""

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
    unknown: str = ""
    """Why it could not be asked which nodes there are; empty where it could."""
    opened: Json | None = None
    """Everything about the row that is open, as far as the hub still knows it."""
    taken_seconds: float = field(default_factory=time.monotonic)
    """Monotonic: rates must not jump with a clock that is set."""

    def without_rows(self, listing: str) -> "Snapshot":
        """What is known before the rows of another list have come."""
        return replace(self, listing=listing, rows=(), total=0, silent=(), opened=None)

    def document(self) -> Json:
        """As `hub top --json` prints it."""
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
        answer = await operator.ask("nodes")
        nodes = with_age(answer)
        unknown = answer.get("unknown") or ""
        return Snapshot(listing, time.time(), nodes, nodes, len(nodes), unknown=unknown)
    # What is filtered is filtered here.
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
    """A connection's own answer holds more than its row, and is there where its row is not."""
    if not shown.is_open or shown.listing.name != "connections":
        return None
    try:
        return await operator.ask("connections", shown.selected)
    except OperatorError as error:
        if error.code != "not_found":
            raise
        return None


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
