"""By which names the servers of a cluster are known, and reached.

A server is known by its address, `ip:port`, as every other server of the cluster knows it. It may
announce a host name besides (`cluster-announce-hostname`), and servers may point to each other by
these names (`cluster-preferred-endpoint-type hostname`). A name must not make a second server of
one that is known by its address, so each name that is heard leads back to that.

Which of both is connected to:

- With TLS the announced name, because certificates often name hosts only (ElastiCache, MemoryDB).
- Without TLS what CLUSTER SLOTS calls the server: the name where the cluster prefers names, else
  the address. An announced name alone need not resolve here.
"""

from collections.abc import Iterable, Mapping

from hub.brokers.redis.slots import View

# What Redis says in place of a name that is preferred and not announced.
_NO_NAME = "?"


class Names:
    """Of one cluster.

    Args:
        tls: connections are encrypted.
    """

    def __init__(self, *, tls: bool) -> None:
        self._tls = tls
        self._names: Mapping[str, str] = {}
        """By address: `host:port`."""
        self._addresses: Mapping[str, str] = {}
        """The other way round, in small letters."""
        self._reached: Mapping[str, str] = {}
        self._members: frozenset[str] = frozenset()

    def learn(self, views: Iterable[View]) -> None:
        """Know what these servers see from now on, and nothing else."""
        views = list(views)
        self._members = frozenset(address for view in views for address in view.members)
        self._names = {address: name for view in views for address, name in view.names.items()}
        self._addresses = {name.lower(): address for address, name in self._names.items()}
        preferred = {place for view in views for place in view.preferred}
        self._reached = {
            address: name for address, name in self._names.items() if self._tls or name in preferred
        }

    def endpoint(self, address: str) -> str:
        """What to connect to, as `host:port`."""
        return self._reached.get(address, address)

    def address(self, place: str) -> str:
        """Of the server that is at `place`, which may be a name; `place` where it is unknown."""
        host, _, port = place.rpartition(":")
        if host == _NO_NAME:
            there = [member for member in self._members if member.endswith(f":{port}")]
            return there[0] if len(there) == 1 else place
        return self._addresses.get(place.lower(), place)
