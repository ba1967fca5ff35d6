"""The nodes of a hub that has one: what `hub.core.peers.Peers` is without Redis."""

from collections.abc import Callable, Mapping, Sequence

from hub.core.listing import ConnectionPage, ConnectionQuery, merge
from hub.core.peers import Arguments, Connections, Operate, OwnConnections, Told
from hub.core.records import NodeRecord


class Alone:
    """Nobody else holds a connection."""

    def __init__(
        self, tag: str, record: Callable[[], NodeRecord], here: OwnConnections, operate: Operate
    ) -> None:
        self._tag = tag
        self._record = record
        self._here = here
        self._operate = operate

    async def start(self) -> None:
        """Nobody is to be told."""

    async def stop(self) -> None:
        """Nobody is to be told."""

    async def nodes(self) -> Sequence[NodeRecord]:
        return (self._record(),)

    async def by_tag(self) -> Mapping[str, NodeRecord]:
        return {self._tag: self._record()}

    def tag_of(self, connection: str) -> str:  # noqa: ARG002 - the port's
        return self._tag

    async def operate(self, tag: str, name: str, arguments: Arguments) -> Told:  # noqa: ARG002 - the port's
        return await self._operate(name, arguments)

    async def connections(self, query: ConnectionQuery) -> ConnectionPage:
        return merge(query, [await self._here.listed(query)])

    def holder(self, connection: str) -> Connections:  # noqa: ARG002 - the port's
        return self._here
