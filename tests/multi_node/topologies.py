"""The ways to run Redis that a hub may be told, and what goes wrong in each.

Every `Case` names one Redis deployment and one stretch of bad luck in it. The faults are told
apart from what has to hold (see `test_topologies`), because that is the same in all of them.
"""

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from hub.brokers.redis.link.connection import FixedServer
from hub.brokers.redis.topology import slots
from hub.brokers.redis.topology.topology import HashRing
from tests.multi_node.fleet import is_ready, status
from tests.support.hub_process import HubProcess
from tests.support.redis_cluster import SLOTS, RedisCluster
from tests.support.redis_sentinel import SentinelSet
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

# The hub promises 10 s; the rest is for a busy machine.
NOT_READY_SECONDS = 15.0
READY_SECONDS = 20.0


class Topology(Protocol):
    """A running deployment."""

    @property
    def url(self) -> str: ...


@dataclass(frozen=True)
class Case:
    """One deployment and what happens to it.

    Args:
        channels: names that begin with the given text: first those that the fault hits, then
            those that must not notice it.
        fault: returns as soon as it is over.
        hit: how many of the channels begin a new epoch.
    """

    name: str
    start: Callable[[], AbstractContextManager[Topology]]
    channels: Callable[[Topology, str], Sequence[str]]
    fault: Callable[["Scene"], Awaitable[None]]
    hit: int
    refused: bool = True
    """Whether publishers may be told to try again."""


@dataclass(frozen=True)
class Scene:
    """The servers, nodes and channels that are up when the fault comes."""

    redis: Topology
    nodes: Sequence[HubProcess]
    channels: Sequence[str]


async def unready(nodes: Sequence[HubProcess]) -> None:
    for hub in nodes:
        await eventually(partial(_is_unready, hub), seconds=NOT_READY_SECONDS, what="/readyz 503")


async def ready(nodes: Sequence[HubProcess]) -> None:
    for hub in nodes:
        await eventually(partial(is_ready, hub), seconds=READY_SECONDS, what="/readyz 200")


async def _is_unready(hub: HubProcess) -> bool:
    return await status(hub, "/readyz") == 503


# -- Sentinel ------------------------------------------------------------------------------------


def _any_three(_: Topology, prefix: str) -> Sequence[str]:
    return [f"{prefix}-{number}" for number in range(3)]


async def sentinel_takes_its_time(scene: Scene) -> None:
    """The master dies, and for long nobody takes over."""
    redis = scene.redis
    assert isinstance(redis, SentinelSet)
    redis.be_patient(milliseconds=60_000)
    redis.servers[0].kill()
    await unready(scene.nodes)
    # Less, and the replica would have been without a master for too long to be trusted.
    redis.be_patient(milliseconds=2_000)
    await ready(scene.nodes)


async def sentinel_master_freezes(scene: Scene) -> None:
    """The master wakes up when another server is the master, and still has
    what it was sent meanwhile."""
    redis = scene.redis
    assert isinstance(redis, SentinelSet)
    first, second = redis.servers
    first.freeze()
    await eventually(lambda: b"role:master" in second.ask("INFO", "replication"))
    await eventually(lambda: b":subscriber" in second.ask("CLIENT", "LIST", "TYPE", "pubsub"))
    first.thaw()
    await eventually(lambda: b"role:slave" in first.ask("INFO", "replication"))


# -- Cluster -------------------------------------------------------------------------------------


def _one_per_master(_: Topology, prefix: str) -> Sequence[str]:
    names = [f"{prefix}-{number}" for number in range(100)]
    return [next(n for n in names if slots.slot(n) * 3 // SLOTS == master) for master in range(3)]


async def cluster_loses_masters(scene: Scene) -> None:
    """The first has a replica, the second has none and comes back empty."""
    redis = scene.redis
    assert isinstance(redis, RedisCluster)
    redis.masters[0].kill()
    # Two at once would leave too few to elect anybody.
    await eventually(lambda: b"role:master" in redis.replica.ask("INFO", "replication"))
    redis.masters[1].kill()
    await unready(scene.nodes)
    redis.masters[1].restart(empty=True)
    await ready(scene.nodes)


async def cluster_is_resharded(scene: Scene) -> None:
    """The first channel's slot moves, alive, to the last master."""
    redis = scene.redis
    assert isinstance(redis, RedisCluster)
    redis.move_slot(slots.slot(scene.channels[0]), redis.masters[0], redis.masters[2])


# -- several servers -----------------------------------------------------------------------------


class Pair:
    """Two servers that know nothing of each other."""

    def __init__(self, *servers: RedisServer) -> None:
        self.servers = servers

    @property
    def url(self) -> str:
        return ",".join(server.url for server in self.servers)


@contextlib.contextmanager
def pair() -> Iterator[Pair]:
    with RedisServer() as first, RedisServer() as second:
        yield Pair(first, second)


def _two_per_server(redis: Topology, prefix: str) -> Sequence[str]:
    ring = HashRing([FixedServer(url).identity for url in redis.url.split(",")])
    names = [f"{prefix}-{number}" for number in range(100)]
    owned = [[n for n in names if ring.owner(n) == server][:2] for server in range(2)]
    return [*owned[0], *owned[1]]


async def hashed_server_comes_back_empty(scene: Scene) -> None:
    """The first; nobody stands in for it meanwhile."""
    redis = scene.redis
    assert isinstance(redis, Pair)
    redis.servers[0].kill()
    await unready(scene.nodes)
    redis.servers[0].restart(empty=True)
    await ready(scene.nodes)


CASES = [
    Case("a master dies for long", SentinelSet, _any_three, sentinel_takes_its_time, 3),
    Case("a master freezes", SentinelSet, _any_three, sentinel_master_freezes, 3),
    Case("masters of a cluster die", RedisCluster, _one_per_master, cluster_loses_masters, 2),
    Case("a cluster is resharded", RedisCluster, _one_per_master, cluster_is_resharded, 0),
    Case("one of two servers dies", pair, _two_per_server, hashed_server_comes_back_empty, 2),
]
