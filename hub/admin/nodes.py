"""What operators do to nodes: drain one, let it take sessions again, spread connections evenly."""

import asyncio
import math
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import UNSET, UnsetType

from hub.admin.drain import Drainer
from hub.admin.requests import Admin, AdminRequest, AtTag, Handlers
from hub.core.node_records import NodeRecord
from hub.core.registry import SessionRegistry
from hub.errors import BadRequestError, HubError

MAX_WINDOW_SECONDS = 3600.0
# A rebalance leaves alone what is this little above the average: it would never be quite even.
TOLERANCE = 1.05


class Closing(msgspec.Struct, frozen=True):
    """What has begun. What is not set is left out."""

    closing: int | UnsetType = UNSET
    """How many sessions will be closed ..."""
    window_seconds: float | UnsetType = UNSET
    """... and over how long."""
    connections: int | UnsetType = UNSET
    """How many there are now."""


class Drain(AdminRequest[Closing], frozen=True, tag="drain"):
    """Close all sessions and take no more until `Undrain`; the process stays."""

    window_seconds: float | None = None
    """Over which the closes are spread; None for the node's own setting."""


class Undrain(AdminRequest[Closing], frozen=True, tag="undrain"):
    """Take sessions again."""


class Shed(AdminRequest[Closing], frozen=True, tag="shed"):
    """Ask `count` sessions to connect again, perhaps elsewhere."""

    count: int
    window_seconds: float | None = None


class Draining:
    """Carries these out at this node; one per node.

    Args:
        drain_seconds, ready_delay_seconds: what holds where the operator does not say.
    """

    def __init__(
        self,
        registry: SessionRegistry,
        drainer: Drainer,
        *,
        drain_seconds: float,
        ready_delay_seconds: float,
    ) -> None:
        self._registry = registry
        self._drainer = drainer
        self._drain_seconds = drain_seconds
        self._ready_delay_seconds = ready_delay_seconds

    def handlers(self) -> Handlers:
        return {Drain: self._drain, Undrain: self._undrain, Shed: self._shed}

    async def _drain(self, asked: Drain) -> Closing:
        sessions, window = len(self._registry.sessions), self._window(asked.window_seconds)
        self._drainer.begin_drain(
            ready_delay_seconds=self._ready_delay_seconds, window_seconds=window
        )
        return Closing(closing=sessions, window_seconds=window)

    async def _undrain(self, _asked: Undrain) -> Closing:
        await self._drainer.undo()
        return Closing(connections=len(self._registry.sessions))

    async def _shed(self, asked: Shed) -> Closing:
        window = self._window(asked.window_seconds)
        if asked.count:
            self._drainer.begin_shedding(asked.count, window_seconds=window)
        closing = min(asked.count, len(self._registry.sessions))
        return Closing(closing=closing, window_seconds=window)

    def _window(self, seconds: float | None) -> float:
        if seconds is None:
            return self._drain_seconds
        if not 0 <= seconds <= MAX_WINDOW_SECONDS:
            raise BadRequestError(f"window_seconds is not 0 to {MAX_WINDOW_SECONDS:g}")
        return seconds


# -- over all nodes --------------------------------------------------------------------------------


async def rebalance(admin: Admin, window_seconds: float | None) -> Sequence[Mapping[str, object]]:
    """Have nodes with more than their share ask what is too much to connect again.

    A row for each node: how many it has, and how many it closes; None where it does not answer.
    """
    nodes = await admin.nodes()
    staying = {tag: record for tag, record in nodes.items() if not record.draining}
    shares = excess(staying)

    async def shed(tag: str) -> int | None:
        try:
            told = await admin.call(Shed(shares[tag], window_seconds), AtTag(tag))
        except HubError:
            return None
        return told.closing or 0

    closing = await asyncio.gather(*map(shed, staying))
    rows = [
        {"node": record.node, "connections": record.connections, "closing": each}
        for record, each in zip(staying.values(), closing, strict=True)
    ]
    return sorted(rows, key=lambda row: str(row["node"]))


def excess(nodes: Mapping[str, NodeRecord]) -> Mapping[str, int]:
    """By tag, how many connections are more than an even share and the tolerance."""
    total = sum(record.connections for record in nodes.values())
    share = math.ceil(total / len(nodes)) if nodes else 0
    return {
        tag: record.connections - share if record.connections > share * TOLERANCE else 0
        for tag, record in nodes.items()
    }
