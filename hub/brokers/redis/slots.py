"""Which server of a Redis Cluster owns which slots, as its servers tell.

Whom to believe is the cluster's own rule: a slot belongs to who claims it with the greatest
config epoch. So the answers of several servers are laid over each other, and one that was cut
off or frozen cannot bring an old map back.

Two may claim it with the same one for a moment: a replica is elected while a slot moves to its
master, which takes the next epoch without asking anybody. The cluster leaves the slots where
they were until one of the two has taken another epoch, so whom the others believe has them. To
follow the replica would lead to a server whose publications are thrown away.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

NOBODY = ""


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """A master's word on a range of slots; the greater one is the newer."""

    epoch: int
    address: str
    """host:port"""
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class View:
    """What one server sees."""

    claims: Sequence[Claim]
    members: Sequence[str]
    """Addresses of masters and replicas that can be asked as well."""
    names: Mapping[str, str] = field(default_factory=dict)
    """host:port by address, of those that announce the name of a host."""
    preferred: frozenset[str] = frozenset()
    """host:port of each server as the cluster wants it to be reached; empty where unknown."""
    own: str = ""
    """The address of the server that was asked."""


def slot(channel: str) -> int:
    """Where all keys of a channel lie: their hash tag alone counts."""
    return key_slot(channel.encode())


def parse_nodes(answer: object, host: str, slots: object = None) -> View:
    """Read CLUSTER NODES, and CLUSTER SLOTS where that was asked too.

    `host` is whom it was asked, who may not know its own address. Raises `ValueError` for
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
    """From CLUSTER SLOTS: each range has two numbers, and host, port and more of each server."""
    for stretch in answer if isinstance(answer, list) else ():
        for server in stretch[2:] if isinstance(stretch, list) else ():
            match server:
                case [bytes() as host, int() as port, *_]:
                    yield f"{host.decode()}:{port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _claims(epoch: int, address: str, ranges: Iterable[str]) -> Iterable[Claim]:
    for stretch in ranges:
        # [93-<-node] and [93->-node]: on its way, still with the one who has it.
        if not stretch.startswith("["):
            first, _, last = stretch.partition("-")
            yield Claim(epoch, address, int(first), int(last or first))


def owners(views: Sequence[View]) -> Sequence[str]:
    """The address of each slot's master, or `NOBODY`."""
    believed: Counter[tuple[int, str]] = Counter()
    for view in views:
        masters = {(claim.epoch, claim.address) for claim in view.claims}
        believed.update(master for master in masters if master[1] != view.own)
    claims = {claim for view in views for claim in view.claims}
    found = [NOBODY] * REDIS_CLUSTER_HASH_SLOTS
    for claim in sorted(claims, key=lambda c: (c.epoch, believed[c.epoch, c.address], c)):
        found[claim.first : claim.last + 1] = [claim.address] * (claim.last + 1 - claim.first)
    return found
