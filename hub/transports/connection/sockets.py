"""How many sockets a node holds, of every kind, and which of them speak HTTP now."""

from typing import TYPE_CHECKING

from hub.core.registry import SessionRegistry

if TYPE_CHECKING:
    from hub.transports.connection.connection import Connection

# Beyond the bound connections are still taken to tell them why, and to answer probes and
# metrics. The process keeps so many more descriptors free. Guess, not measured.
RESERVE = 128


class Sockets:
    """One per node.

    Args:
        max_connections: of sockets of all kinds together.
        max_unsent_bytes: of answers that peers do not take, all together.
    """

    def __init__(
        self, registry: SessionRegistry, *, max_connections: int, max_unsent_bytes: int
    ) -> None:
        self._registry = registry
        self._max_connections = max_connections
        self._max_unsent_bytes = max_unsent_bytes
        self._unsent: dict[Connection, int] = {}
        """What is left of the answers of peers that take nothing now, the oldest first."""
        self.unsent_bytes = 0
        self.http: set[Connection] = set()
        """Connections that no stream has taken over."""

    def count(self) -> int:
        """All sockets of peers; a polling session has none of its own."""
        registry = self._registry
        polls = registry.by_transport.get("poll", 0)
        return len(self.http) + len(registry.sessions) - polls + len(registry.leaving)

    def hold(self, connection: "Connection", unsent_bytes: int) -> None:
        """Count an answer that its peer does not take.

        Where all of them are too much, those that wait longest are given up.
        """
        self.release(connection)
        self._unsent[connection] = unsent_bytes
        self.unsent_bytes += unsent_bytes
        while self.unsent_bytes > self._max_unsent_bytes and len(self._unsent) > 1:
            oldest = next(iter(self._unsent))
            self.release(oldest)
            oldest.abort()

    def release(self, connection: "Connection") -> None:
        """The answer was taken, or its connection is gone. Harmless when repeated."""
        self.unsent_bytes -= self._unsent.pop(connection, 0)

    def is_crowded(self) -> bool:
        """Whether a connection that was just accepted is more than the node may hold."""
        return self.count() > self._max_connections

    def is_overrun(self) -> bool:
        """Whether there is no room even to say so."""
        return self.count() > self._max_connections + RESERVE
