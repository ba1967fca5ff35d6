"""The map of a Redis Cluster: the owner of each slot, and the names of its servers.

**Slots.** By the cluster's own rule a slot belongs to the server that
claims it with the greatest config epoch. So the answers of several servers are laid over each
other, and one that was cut off or frozen cannot bring an old map back. For example, server A was
frozen while B took over its slots 0 to 99: A claims them with epoch 3, B with epoch 4; they are
B's.

Two servers may claim a slot with the same epoch for a moment: a replica is elected while a slot
moves to its master, which takes the next epoch without asking any other. The cluster leaves the
slots where they were until one of the two has taken another epoch, so they are those of the
server that the others believe. To follow the replica would lead to a server whose publications
are thrown away.

**Host names.** A server is known by its address, `ip:port`, as every other server of the cluster
knows it. It may announce a host name besides (`cluster-announce-hostname`), and servers may point
to each other by these names (`cluster-preferred-endpoint-type hostname`). A name must not make a
second server of one that is known by its address, so each name that is heard leads back to that.

Which of both a node connects to:

- With TLS the announced name, because certificates often name hosts only (ElastiCache, MemoryDB).
- Without TLS its name in CLUSTER SLOTS: the host name where the cluster prefers names, else
  the address. An announced name alone need not resolve here.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

NOBODY = ""


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """A master's claim to a range of slots; the greater one is the newer."""

    epoch: int
    address: str
    """host:port"""
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class View:
    """The cluster as one server sees it."""

    claims: Sequence[Claim]
    members: Sequence[str]
    """Addresses of masters and replicas that can be asked as well."""
    names: Mapping[str, str] = field(default_factory=dict)
    """host:port by address, for servers that announce the name of a host."""
    preferred: frozenset[str] = frozenset()
    """host:port of each server as the cluster wants it to be reached; empty where unknown."""
    own: str = ""
    """The address of the server that was asked."""


def slot(channel: str) -> int:
    """Return the slot of all keys of a channel: their hash tag alone counts."""
    return key_slot(channel.encode())


def parse_nodes(answer: object, host: str, slots: object = None) -> View:
    """Read CLUSTER NODES, and CLUSTER SLOTS where that was asked too.

    `host` is the server that was asked: it may not know its own address. Raises `ValueError` for
    anything that is not CLUSTER NODES.
    """
    text = answer if isinstance(answer, bytes) else b"no map"
    claims: list[Claim] = []
    members: list[str] = []
    names: dict[str, str] = {}
    own = ""
    for line in text.decode().splitlines():
        _, where, flags, _, _, _, epoch, _, *ranges = line.split(" ")
        # host:port@bus port, and after commas a name where one is announced, and more.
        place, name, *_ = (*where.split(","), "")
        found, _, port = place.partition("@")[0].rpartition(":")
        address = f"{_bracketed(found or host)}:{port}"
        if "noaddr" in flags or "handshake" in flags:
            continue
        members.append(address)
        if name and "=" not in name:
            names[address] = f"{name}:{port}"
        if "myself" in flags.split(","):
            own = address
        if "master" in flags.split(","):
            claims += _claims(int(epoch), address, ranges)
    return View(claims, members, names, frozenset(_preferred(slots)), own)


def _preferred(answer: object) -> Iterable[str]:
    """Yield places from CLUSTER SLOTS: a range has two numbers, then host, port and more each."""
    for stretch in answer if isinstance(answer, list) else ():
        for server in stretch[2:] if isinstance(stretch, list) else ():
            match server:
                case [bytes() as host, int() as port, *_]:
                    yield f"{host.decode()}:{port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _claims(epoch: int, address: str, ranges: Iterable[str]) -> Iterable[Claim]:
    for stretch in ranges:
        # [93-<-node] and [93->-node]: a slot on its way, still at the server that answers.
        if not stretch.startswith("["):
            first, _, last = stretch.partition("-")
            yield Claim(epoch, address, int(first), int(last or first))


def owners(views: Sequence[View]) -> Sequence[str]:
    """Return the address of each slot's master, or `NOBODY`."""
    believed: Counter[tuple[int, str]] = Counter()
    for view in views:
        masters = {(claim.epoch, claim.address) for claim in view.claims}
        believed.update(master for master in masters if master[1] != view.own)
    claims = {claim for view in views for claim in view.claims}
    found = [NOBODY] * REDIS_CLUSTER_HASH_SLOTS
    for claim in sorted(claims, key=lambda c: (c.epoch, believed[c.epoch, c.address], c)):
        found[claim.first : claim.last + 1] = [claim.address] * (claim.last + 1 - claim.first)
    return found


# Redis writes this in place of a name that is preferred and not announced.
_NO_NAME = "?"


class HostNames:
    """The names of one cluster's servers.

    Args:
        tls: connections are encrypted.
    """

    def __init__(self, *, tls: bool) -> None:
        self._tls = tls
        self._names: Mapping[str, str] = {}
        """By address: `host:port`."""
        self._addresses: Mapping[str, str] = {}
        """Addresses by name in small letters."""
        self._reached: Mapping[str, str] = {}
        self._members: frozenset[str] = frozenset()

    def learn(self, views: Iterable[View]) -> None:
        """Take the names that these servers see, in place of all before."""
        views = list(views)
        self._members = frozenset(address for view in views for address in view.members)
        self._names = {address: name for view in views for address, name in view.names.items()}
        self._addresses = {name.lower(): address for address, name in self._names.items()}
        preferred = {place for view in views for place in view.preferred}
        self._reached = {
            address: name for address, name in self._names.items() if self._tls or name in preferred
        }

    def endpoint(self, address: str) -> str:
        """Return the place to connect to, as `host:port`."""
        return self._reached.get(address, address)

    def address(self, place: str) -> str:
        """Return the address of the server at `place`, which may be a name; `place` if unknown."""
        host, _, port = place.rpartition(":")
        if host == _NO_NAME:
            there = [member for member in self._members if member.endswith(f":{port}")]
            return there[0] if len(there) == 1 else place
        return self._addresses.get(place.lower(), place)
