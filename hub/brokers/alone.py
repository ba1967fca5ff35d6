"""The nodes of a hub that has one: what `hub.core.ports.Peers` is without Redis."""

from collections.abc import Callable, Sequence

from hub.core.listing import ConnectionPage, ConnectionQuery, merge
from hub.core.ports import Connections, OwnConnections
from hub.core.records import NodeRecord


class Alone:
    """Nobody else holds a connection."""

    def __init__(self, record: Callable[[], NodeRecord], here: OwnConnections) -> None:
        self._record = record
        self._here = here

    async def start(self) -> None:
        """Nobody is to be told."""

    async def stop(self) -> None:
        """Nobody is to be told."""

    async def nodes(self) -> Sequence[NodeRecord]:
        return (self._record(),)

    async def connections(self, query: ConnectionQuery) -> ConnectionPage:
        return merge(query, [await self._here.listed(query)])

    def holder(self, connection: str) -> Connections:  # noqa: ARG002 - the port's
        return self._here
