"""Several independent servers, channels spread over them by consistent hashing."""

import random
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.brokers.redis.topology.topology import HashRing
from hub.core.options import Namespaces
from hub.errors import NotPublishedError, SettingsError, UnavailableError
from tests.brokers.redis.nodes import FAST, Stream, TestNode, node
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

CHANNELS = [f"room-{number}" for number in range(1000)]
Pair = tuple[RedisServer, RedisServer]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with RedisServer() as a, RedisServer() as b:
        yield a, b


def _url(*servers: RedisServer) -> str:
    return ",".join(server.url for server in servers)


def _names(count: int) -> st.SearchStrategy[list[str]]:
    return st.lists(st.text(min_size=1), min_size=count, max_size=count, unique=True)


@given(st.integers(2, 8).flatmap(_names))
def test_server_that_joins_takes_its_share_and_moves_nothing_else(names: list[str]) -> None:
    before, after = HashRing(names[:-1]), HashRing(names)
    moved = [channel for channel in CHANNELS if before.owner(channel) != after.owner(channel)]
    share = len(CHANNELS) / len(names)
    assert all(after.owner(channel) == len(names) - 1 for channel in moved)
    assert share / 2 < len(moved) < share * 2


@given(st.integers(2, 5).flatmap(_names), st.randoms(use_true_random=False))
def test_order_of_the_list_does_not_matter(names: list[str], rng: random.Random) -> None:
    shuffled = rng.sample(names, len(names))
    one, two = HashRing(names), HashRing(shuffled)
    assert all(names[one.owner(c)] == shuffled[two.owner(c)] for c in CHANNELS)


def test_channels_stay_where_earlier_versions_put_them() -> None:
    """Nodes of two versions run side by side, and history stays behind on the old server."""
    ring = HashRing(["a:6379/0", "b:6379/0", "c:6379/0"])
    assert [ring.owner(c) for c in CHANNELS[:12]] == [
        1,
        0,
        0,
        1,
        2,
        2,
        1,
        2,
        2,
        1,
        2,
        0,
    ]


async def _subscribed(hub: TestNode, prefix: str) -> dict[str, Stream]:
    channels = [f"{prefix}-{number}" for number in range(20)]
    return {channel: await hub.subscribe(channel) for channel in channels}


async def test_channels_of_both_servers_reach_every_node(pair: Pair, channel: str) -> None:
    """The nodes name the servers in a different order."""
    async with node(_url(*pair)) as one, node(_url(*reversed(pair))) as two:
        streams = await _subscribed(two, channel)
        for name in streams:
            await one.publish(name, 1)
        await eventually(lambda: all(stream.data == [b"1"] for stream in streams.values()))
        assert set(two.broker.names()) == set(streams)
        used = Counter(shard.server for shard in one.broker.statistics())
        assert len(used) == 2
        for server in pair:
            assert b"hub:{" + channel.encode() in server.ask("KEYS", "hub:*:meta")


async def test_dead_server_costs_only_its_own_channels(pair: Pair, channel: str) -> None:
    async with node(_url(*pair)) as one:
        await one.is_ready()
        streams = await _subscribed(one, channel)
        dead = one.broker.shard(channel)
        theirs = [name for name in streams if one.broker.shard(name) is dead]
        others = [name for name in streams if one.broker.shard(name) is not dead]
        assert theirs
        assert others
        server = next(s for s in pair if s.url == dead.statistics().server)
        server.kill()

        await eventually(one.broker.problems)
        assert [str(server.port) in problem for problem in one.broker.problems()] == [True]
        for name in others:
            await one.publish(name, 1)
        await eventually(lambda: all(streams[name].data == [b"1"] for name in others))
        with pytest.raises(NotPublishedError):
            await one.publish(theirs[0], 1)
        with pytest.raises(UnavailableError):
            await one.broker.history(theirs[0], 0, 1)

        server.restart()
        await one.is_ready()
        for name in theirs:
            await one.publish(name, 2)
        await eventually(lambda: all(streams[name].data == [b"2"] for name in theirs))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://a,redis://a:6379/0", "named more than once"),
        ("redis://a,b", "needs a whole URL"),
        ("redis://a:6379,b:6379", "not the URL of a Redis"),
        ("redis://a,memory://", "not the URL of a Redis"),
    ],
)
def test_list_that_names_no_servers_is_a_wrong_setting(url: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        TestNode(url, options=FAST, namespaces=Namespaces())
