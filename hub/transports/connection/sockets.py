"""How many sockets a node holds, of every kind, and which of them speak HTTP now."""

from typing import TYPE_CHECKING

from hub.auth.proxies import TrustedProxies
from hub.core.counters import Counts
from hub.core.limits import party
from hub.core.registry import SessionRegistry
from hub.errors import HubError, RateLimitedError, UnavailableError

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
        proxies: have the connections of many clients, and are no client with too many.
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
        """What is left of the answers of peers that take nothing now, the oldest first."""
        self.unsent_bytes = 0
        self.http: dict[Connection, str] = {}
        """Connections that no stream has taken over, each with its party; "" where none counts."""
        self._proxies = proxies
        self._by_party = Counts()

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

    def enter(self, connection: "Connection", address: str) -> None:
        """Count a connection that was just accepted."""
        counted = self._registry.limiter.counts_addresses and not self._proxies.trusts(address)
        self.http[connection] = one = party(address) if counted else ""
        if one:
            self._by_party[one] += 1

    def leave(self, connection: "Connection") -> None:
        """The connection is gone, or a stream has taken it over. Harmless when repeated."""
        if one := self.http.pop(connection, ""):
            self._by_party[one] -= 1
            if not self._by_party[one]:
                del self._by_party[one]

    def refusal(self, address: str) -> HubError | None:
        """Why a connection that was just counted is one too many; None where it is not."""
        if self.count() > self._max_connections:
            return UnavailableError("the node holds no more connections")
        if (others := self._others(address)) is not None:
            try:
                self._registry.limiter.check_address(others, address)
            except RateLimitedError as error:
                return error
        return None

    def is_overrun(self, address: str) -> bool:
        """Whether there is no room even to say so."""
        if self.count() > self._max_connections + RESERVE:
            return True
        others = self._others(address)
        return others is not None and self._registry.limiter.overruns_address(others, address)

    def _others(self, address: str) -> int | None:
        """How many connections the address has beside the one just counted; None: any number."""
        if not self._registry.limiter.counts_addresses or self._proxies.trusts(address):
            return None
        one = party(address)
        return self._by_party[one] + self._registry.by_address[one] - 1
