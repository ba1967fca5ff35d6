"""Which server a channel lives on: what the broker's URL (see `urls`) says."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from hub.brokers.redis import urls
from hub.brokers.redis.cluster import Cluster
from hub.brokers.redis.ring import Ring
from hub.brokers.redis.sentinel import SentinelMaster
from hub.brokers.redis.server import Server
from hub.brokers.redis.shard import Shard
from hub.brokers.redis.surroundings import Surroundings
from hub.errors import SettingsError


class Topology(Protocol):
    """The shards of one Redis deployment."""

    async def start(self) -> None:
        """Begin to connect; returns also when nothing can be reached."""
        ...

    async def stop(self) -> None: ...

    def shard(self, channel: str) -> Shard:
        """Where a channel lives."""
        ...

    def shards(self) -> Sequence[Shard]: ...


class Fixed:
    """As many shards as the URL names, for ever."""

    def __init__(self, shards: Sequence[Shard], names: Sequence[str]) -> None:
        self._shards = tuple(shards)
        self._ring = Ring(names)

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


def make_topology(url: str, around: Surroundings) -> Topology:
    """What `HUB_BROKER` describes; raise `SettingsError` where it names no Redis."""
    if urls.scheme(url) in urls.SENTINEL:
        master = SentinelMaster(url, options=around.options, clock=around.clock, log=around.log)
        return Fixed([Shard(master, around)], [master.name])
    if urls.scheme(url) in urls.CLUSTER:
        return Cluster(url, around)
    servers = [Server(part) for part in urls.split(url)]
    names = [server.place for server in servers]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"the Redis at {name} is named more than once")
    return Fixed([Shard(server, around) for server in servers], names)
