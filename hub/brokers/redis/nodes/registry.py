"""The nodes of one Redis that live: each is listed under a lease that it renews.

Kept with `hub.brokers.redis.keys.NODES`, so in one place whatever the topology.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping

import msgspec

from hub.brokers.redis.keys import NODES, Keys
from hub.brokers.redis.link.library import Argument
from hub.brokers.redis.link.outcomes import CallError
from hub.brokers.redis.shard import Shard
from hub.core.node_records import NodeRecord

# A node that is silent for so long is taken for dead; long enough for a stall and a reconnect.
LEASE_SECONDS = 10.0
RENEWALS = 3
"""In the time of a lease."""
_RECORD = msgspec.json.Decoder(NodeRecord)


class Registry:
    """One per node.

    Args:
        shard: where a name lives.
    """

    def __init__(self, shard: Callable[[str], Shard], tag: str, *, lease_seconds: float) -> None:
        self._shard = shard
        self._tag = tag
        self._lease_seconds = lease_seconds
        self._stopped = False
        self.known: Mapping[str, NodeRecord] = {}
        """The other nodes by tag, as they were when Redis said it last."""

    async def stay_known(
        self, record: Callable[[], NodeRecord], each_time: Callable[[], None]
    ) -> None:
        """Renew the lease until `leave`, after a call of `each_time`, and look who else lives."""
        while not self._stopped:
            await until_renewal(self._lease_seconds)
            each_time()
            await self.register(record)
            with contextlib.suppress(CallError):
                await self.others()

    async def register(self, record: Callable[[], NodeRecord]) -> None:
        """Be known from now on, as `record` says, unless Redis is away."""
        if self._stopped:
            return
        tag, lease_ms = self._tag, int(self._lease_seconds * 1000)
        encoded = msgspec.json.encode(record())
        names = (self.keys.node(tag), self.keys.nodes())
        with contextlib.suppress(CallError):
            calls = self._shard(NODES).calls
            await calls.run_function("register", names, (encoded, lease_ms, tag))

    async def leave(self) -> None:
        """Be known no more."""
        self._stopped = True
        with contextlib.suppress(CallError):
            await self.call("DEL", self.keys.node(self._tag))

    async def others(self) -> Mapping[str, NodeRecord]:
        """The other nodes by tag; raise `CallError` when Redis is away."""
        answer = await self.call("SMEMBERS", self.keys.nodes())
        tags = [tag.decode() for tag in answer] if isinstance(answer, list | set) else []
        others = [tag for tag in tags if tag != self._tag]
        if not others:
            self.known = {}
            return self.known
        values = await self.call("MGET", *map(self.keys.node, others))
        held = values if isinstance(values, list) else []
        if ended := [tag for tag, raw in zip(others, held, strict=True) if raw is None]:
            await self.call("SREM", self.keys.nodes(), *ended)
        pairs = zip(others, held, strict=True)
        self.known = {
            tag: record for tag, raw in pairs if raw is not None and (record := _decoded(raw))
        }
        return self.known

    async def lives(self, tag: str) -> bool:
        """Raise `CallError` when Redis is away."""
        return await self.call("EXISTS", self.keys.node(tag)) == 1

    @property
    def keys(self) -> Keys:
        return self._shard(NODES).keys

    async def call(self, *command: Argument) -> object:
        return await self._shard(NODES).calls.call(*command)


async def until_renewal(lease_seconds: float) -> None:
    """Return when a lease is to be renewed: not at the same time on all nodes."""
    await asyncio.sleep(lease_seconds / RENEWALS * random.uniform(0.7, 1))


def _decoded(raw: bytes) -> NodeRecord | None:
    try:
        return _RECORD.decode(raw)
    except (ValueError, RecursionError):
        return None
