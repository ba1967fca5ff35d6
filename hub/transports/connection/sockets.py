"""How many sockets a node holds, of every kind, and which of them speak HTTP now."""

from typing import TYPE_CHECKING

from hub.core.engine import Engine

if TYPE_CHECKING:
    from hub.transports.connection.connection import Connection

# Beyond the bound connections are still taken to tell them why, and to answer probes and
# metrics. The process keeps so many more descriptors free. Guess, not measured.
RESERVE = 128


class Sockets:
    """One per node.

    Args:
        max_connections: of sockets of all kinds together.
    """

    def __init__(self, engine: Engine, *, max_connections: int) -> None:
        self._engine = engine
        self._max_connections = max_connections
        self.http: set[Connection] = set()
        """Connections that no stream has taken over."""

    def count(self) -> int:
        """All sockets of peers; a polling session has none of its own."""
        engine = self._engine
        streams = len(engine.sessions) - engine.by_transport["poll"]
        return len(self.http) + streams + len(engine.leaving)

    def is_crowded(self) -> bool:
        """Whether a connection that was just accepted is more than the node may hold."""
        return self.count() > self._max_connections

    def is_overrun(self) -> bool:
        """Whether there is no room even to say so."""
        return self.count() > self._max_connections + RESERVE
