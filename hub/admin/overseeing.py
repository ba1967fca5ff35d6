"""What operators ask of all nodes and do to them, from whichever node they talk to."""

import asyncio
import math
from collections.abc import Mapping, Sequence

from hub.core.peers import Arguments, Operate, Peers, Told
from hub.core.records import NodeRecord
from hub.errors import HubError, NotFoundError

# A rebalance leaves alone what is this little above the average: it would never be quite even.
TOLERANCE = 1.05


class Overseeing:
    """One per node; it asks `Peers`, which asks whoever it concerns."""

    def __init__(self, peers: Peers, operate: Operate) -> None:
        self._peers = peers
        self._operate = operate

    async def here(self, name: str, arguments: Arguments) -> Told:
        """Carry out an operation at this node, also where the others cannot be asked."""
        return await self._operate(name, arguments)

    async def of_connection(self, connection: str, name: str, arguments: Arguments) -> Told:
        """Carry out an operation where the connection is, or was.

        Raises `NotFoundError` where that node lives no more, and what the operation raises.
        """
        arguments = {**arguments, "connection": connection}
        return await self._peers.operate(self._peers.tag_of(connection), name, arguments)

    async def closed(self, limit: int, subject: str | None = None) -> Told:
        """The connections that ended last, newest first; `unanswered` names silent nodes.

        Of one subject where it is given: nodes of an older version do not look for it.
        """
        nodes = await self._peers.by_tag()
        told = await self._everywhere(nodes, "closed", {"limit": limit, "subject": subject})
        every = (row for each in told.values() if each is not None for row in _rows(each))
        rows = [row for row in every if subject is None or row.get("subject") == subject]
        rows.sort(key=lambda row: -_whole(row, "closed_ms"))
        silent = sorted(nodes[tag].node for tag, each in told.items() if each is None)
        return {"closed": rows[:limit], "unanswered": silent}

    async def of_node(self, node: str, name: str, arguments: Arguments) -> Told:
        """Carry out an operation at every node of that name, which is one unless misnamed.

        Raises `NotFoundError` where there is none.
        """
        tags = [tag for tag, record in (await self._peers.by_tag()).items() if record.node == node]
        if not tags:
            raise NotFoundError(f"no node {node[:80]!r} lives")
        told = [await self._peers.operate(tag, name, arguments) for tag in tags]
        return {"node": node, **told[0]}

    async def rebalance(self, arguments: Arguments) -> Told:
        """Have nodes with more than their share ask what is too much to connect again."""
        nodes = await self._peers.by_tag()
        staying = {tag: record for tag, record in nodes.items() if not record.draining}
        shares = excess(staying)
        told = await asyncio.gather(
            *(self._silent(tag, "shed", {**arguments, "count": shares[tag]}) for tag in staying)
        )
        rows = [
            {
                "node": record.node,
                "connections": record.connections,
                "closing": None if each is None else each.get("closing"),
            }
            for record, each in zip(staying.values(), told, strict=True)
        ]
        return {"nodes": sorted(rows, key=lambda row: str(row["node"]))}

    async def _everywhere(
        self, nodes: Mapping[str, NodeRecord], name: str, arguments: Arguments
    ) -> Mapping[str, Told | None]:
        told = await asyncio.gather(*(self._silent(tag, name, arguments) for tag in nodes))
        return dict(zip(nodes, told, strict=True))

    async def _silent(self, tag: str, name: str, arguments: Arguments) -> Told | None:
        """None of a node that does not answer."""
        try:
            return await self._peers.operate(tag, name, arguments)
        except HubError:
            return None


def excess(nodes: Mapping[str, NodeRecord]) -> Mapping[str, int]:
    """By tag, how many connections are more than an even share and the tolerance."""
    total = sum(record.connections for record in nodes.values())
    share = math.ceil(total / len(nodes)) if nodes else 0
    return {
        tag: record.connections - share if record.connections > share * TOLERANCE else 0
        for tag, record in nodes.items()
    }


def _rows(told: Told) -> Sequence[Mapping[str, object]]:
    rows = told.get("closed")
    return rows if isinstance(rows, list) else ()


def _whole(row: Mapping[str, object], name: str) -> int:
    value = row.get(name)
    return value if isinstance(value, int) else 0
