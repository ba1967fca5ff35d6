"""The server of each channel, as the broker's URL (see `urls`) describes the deployment.

Several fixed servers share the channels by consistent hashing. Each server owns many points of a
circle, and a channel belongs to the owner of the next point. So a server that joins n others
takes about 1/(n + 1) of the channels and moves no other. All nodes and versions must agree: the
points depend on the servers' names alone, not on their order.
"""

import asyncio
from bisect import bisect
from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

from hub.brokers.redis.link import urls
from hub.brokers.redis.link.connection import FixedServer
from hub.brokers.redis.options import ShardContext
from hub.brokers.redis.shard import Shard
from hub.brokers.redis.topology.cluster import ClusterTopology
from hub.brokers.redis.topology.sentinel import SentinelMaster
from hub.errors import SettingsError

# The fullest of 2 to 10 servers gets at most 1.2 times its share (simulated, 5,000 channels).
POINTS_PER_SERVER = 256


class HashRing:
    """`names` are different from each other, and at least one."""

    def __init__(self, names: Sequence[str]) -> None:
        points = sorted(
            (_point(f"{name}#{number}"), name, index)
            for index, name in enumerate(names)
            for number in range(POINTS_PER_SERVER)
        )
        self._points = [point for point, _, _ in points]
        self._owners = [index for _, _, index in points]

    def owner(self, channel: str) -> int:
        """Return the place in `names` of the channel's server."""
        return self._owners[bisect(self._points, _point(channel)) % len(self._owners)]


def _point(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


class Topology(Protocol):
    """The shards of one Redis deployment."""

    async def start(self) -> None:
        """Begin to connect; return also when no server can be reached."""
        ...

    async def stop(self) -> None: ...

    def shard(self, channel: str) -> Shard:
        """Return the shard of a channel."""
        ...

    def shards(self) -> Sequence[Shard]: ...


class FixedServers:
    """Has the shards that the URL names, for ever."""

    def __init__(self, shards: Sequence[Shard], names: Sequence[str]) -> None:
        self._shards = tuple(shards)
        self._ring = HashRing(names)

    async def start(self) -> None:
        await asyncio.gather(*(shard.start() for shard in self._shards))

    async def stop(self) -> None:
        await asyncio.gather(*(shard.stop() for shard in self._shards))

    def shard(self, channel: str) -> Shard:
        if len(self._shards) == 1:
            return self._shards[0]
        return self._shards[self._ring.owner(channel)]

    def shards(self) -> Sequence[Shard]:
        return self._shards


def make_topology(url: str, context: ShardContext) -> Topology:
    """Make the topology of `HUB_BROKER`; raise `SettingsError` where it names no Redis."""
    if urls.scheme(url) in urls.SENTINEL:
        master = SentinelMaster(url, options=context.options, clock=context.clock, log=context.log)
        return FixedServers([Shard(master, context)], [master.name])
    if urls.scheme(url) in urls.CLUSTER:
        return ClusterTopology(url, context)
    servers = [FixedServer(part) for part in urls.split(url)]
    names = [server.identity for server in servers]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"the Redis at {name} is named more than once")
    return FixedServers([Shard(server, context) for server in servers], names)
