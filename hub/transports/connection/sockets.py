"""The sockets of a node: the number of all kinds, and the connections that speak HTTP now."""

from typing import TYPE_CHECKING

from hub.auth.proxies import TrustedProxies
from hub.core.counters import Counts
from hub.core.limits import party
from hub.core.registry import SessionRegistry
from hub.errors import HubError, RateLimitedError, UnavailableError

if TYPE_CHECKING:
    from hub.transports.connection.connection import Connection

# Above the bound so many connections are still accepted, to refuse them with a reason and to answer
# probes and metrics. The process keeps as many more descriptors free. Guess, not measured.
RESERVE = 128


class Sockets:
    """Counts the sockets; one per node.

    Args:
        max_connections: of sockets of all kinds together.
        max_unsent_bytes: of answers that peers do not take, all together.
        proxies: have the connections of many clients, so the bound of one address leaves them out.
    """

    def __init__(
        self,
        registry: SessionRegistry,
        *,
        max_connections: int,
        max_unsent_bytes: int,
        proxies: TrustedProxies,
    ) -> None:
        self._registry = registry
        self._max_connections = max_connections
        self._max_unsent_bytes = max_unsent_bytes
        self._unsent: dict[Connection, int] = {}
        """Unsent bytes by connection, of peers that take nothing now; the oldest first."""
        self.unsent_bytes = 0
        self.http: dict[Connection, str] = {}
        """Connections that no stream has taken over, each with its party; "" where none counts."""
        self._proxies = proxies
        self._by_party = Counts()

    def count(self) -> int:
        """Return the number of all sockets of peers; a polling session has none of its own."""
        registry = self._registry
        polls = registry.by_transport.get("poll", 0)
        return len(self.http) + len(registry.sessions) - polls + len(registry.leaving)

    def hold(self, connection: "Connection", unsent_bytes: int) -> None:
        """Count an answer that its peer does not take.

        Where all of them are too much, the connections that wait longest are aborted.
        """
        self.release(connection)
        self._unsent[connection] = unsent_bytes
        self.unsent_bytes += unsent_bytes
        while self.unsent_bytes > self._max_unsent_bytes and len(self._unsent) > 1:
            oldest = next(iter(self._unsent))
            self.release(oldest)
            oldest.abort()

    def release(self, connection: "Connection") -> None:
        """Forget an answer that was taken, or whose connection is gone. Harmless when repeated."""
        self.unsent_bytes -= self._unsent.pop(connection, 0)

    def enter(self, connection: "Connection", address: str) -> None:
        """Count a connection that was just accepted."""
        counted = self._registry.limiter.counts_addresses and not self._proxies.trusts(address)
        self.http[connection] = one = party(address) if counted else ""
        if one:
            self._by_party[one] += 1

    def stands_for_many(self, address: str) -> bool:
        """Return whether connections from `address` are those of many clients: a proxy's, or those
        of a socket that has no addresses."""
        return not address or self._proxies.trusts(address)

    def leave(self, connection: "Connection") -> None:
        """Forget a connection that is gone or has become a stream. Harmless when repeated."""
        if one := self.http.pop(connection, ""):
            self._by_party[one] -= 1
            if not self._by_party[one]:
                del self._by_party[one]

    def refusal(self, address: str) -> HubError | None:
        """Return the error where the connection that was just counted is one too many; or None."""
        if self.count() > self._max_connections:
            return UnavailableError("the node holds no more connections")
        if (others := self._others(address)) is not None:
            try:
                self._registry.limiter.check_address(others, address)
            except RateLimitedError as error:
                return error
        return None

    def is_overrun(self, address: str) -> bool:
        """Return whether there is no room even for a refusal."""
        if self.count() > self._max_connections + RESERVE:
            return True
        others = self._others(address)
        return others is not None and self._registry.limiter.overruns_address(others, address)

    def _others(self, address: str) -> int | None:
        """Return the address's connections beside the one just counted; None where any may be."""
        if not self._registry.limiter.counts_addresses or self._proxies.trusts(address):
            return None
        one = party(address)
        return self._by_party[one] + self._registry.by_address[one] - 1
