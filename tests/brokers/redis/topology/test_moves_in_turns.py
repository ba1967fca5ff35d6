"""Channels move to other servers of a cluster some in each turn of the loop; no Redis is there."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from redis.crc import REDIS_CLUSTER_HASH_SLOTS

from hub.brokers.redis.shard import Shard
from hub.brokers.redis.topology import cluster
from hub.brokers.redis.topology.cluster import ClusterTopology
from hub.brokers.redis.topology.slots import NOBODY, slot
from hub.core.publication import Position
from tests.brokers.redis.channels.rig import ShardRig

A, B = "10.0.0.1:7000", "10.0.0.2:7000"
NAMES = [f"c{number}" for number in range(10)]
WHOLE = {name: number for number, name in enumerate(NAMES)}
SLOTS = range(REDIS_CLUSTER_HASH_SLOTS)


async def _nothing(_: Shard) -> None:
    """There is no server to connect to."""


@pytest.fixture
async def topology(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[ClusterTopology]:
    """All slots are A's, which has ten channels."""
    monkeypatch.setattr(Shard, "start", _nothing)
    monkeypatch.setattr(Shard, "stop", _nothing)
    monkeypatch.setattr(cluster, "MOVED_AT_ONCE", 4)
    rig = ShardRig()
    made = ClusterTopology(f"redis+cluster://{A}", rig.context)
    await made._follow(everything_at(A))
    for number, name in enumerate(NAMES):
        made.shard(name).channels.take(name, Position("e", number))
    yield made
    await made.stop()


def everything_at(address: str) -> list[str]:
    return [address] * len(SLOTS)


def held(topology: ClusterTopology, address: str) -> dict[str, int]:
    """The channels at a server, and their offsets."""
    shard = topology._shards.get(address)
    trackers = () if shard is None else shard.channels.trackers()
    return {tracker.channel: tracker.position.offset for tracker in trackers}


async def test_channels_of_a_server_that_was_replaced_move_some_in_each_turn(
    topology: ClusterTopology,
) -> None:
    following = asyncio.create_task(topology._follow(everything_at(B)))
    moved = []
    while not following.done():
        await asyncio.sleep(0)
        moved.append(len(held(topology, B)))
        here = held(topology, A) | held(topology, B)
        assert here == WHOLE
    assert moved[:3] == [4, 8, 10]
    assert held(topology, B) == WHOLE
    assert topology._shards.keys() == {B}


async def test_a_channel_that_is_asked_for_before_its_turn_has_moved(
    topology: ClusterTopology,
) -> None:
    """The channel is at one server only, and keeps its position."""
    following = asyncio.create_task(topology._follow(everything_at(B)))
    await asyncio.sleep(0)
    last = NAMES[-1]
    tracker = topology.shard(last).channels.tracker(last)
    assert tracker is not None
    assert tracker.position == Position("e", 9)
    assert last not in held(topology, A)
    await following
    assert held(topology, B) == WHOLE
    assert topology._formers == ()


async def test_a_slot_that_moves_takes_its_channels_along_and_no_others(
    topology: ClusterTopology,
) -> None:
    moves = slot(NAMES[5])
    found = [B if number == moves else A for number in SLOTS]
    await topology._follow(found)
    assert held(topology, B) == {NAMES[5]: 5}
    assert held(topology, A) | held(topology, B) == WHOLE
    assert NOBODY not in topology._owners
