"""Redis Cluster: channels by slot, slots that move, masters that fail."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from redis import Redis

from hub.brokers.redis.options import RedisOptions
from hub.brokers.redis.topology import slots
from hub.core.options import Namespaces
from hub.core.publication import Position
from hub.errors import SettingsError
from tests.brokers.redis.nodes import FAST, Stream, TestNode, node
from tests.brokers.redis.test_redis_failures import KEEPS_ALL, arrives, feeding
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

QUICK = replace(FAST, cluster_seconds=0.2)
# The channels of a master that lives are to notice nothing, also on a busy machine.
UNHURRIED = replace(QUICK, command_timeout_seconds=3.0)
# The map is looked at only where a server points elsewhere or is lost.
ON_DOUBT = replace(FAST, cluster_seconds=1000.0)


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as made:
        yield made


@pytest.fixture(scope="module")
def calm() -> Iterator[RedisCluster]:
    """One for all tests that leave it as it is."""
    with RedisCluster() as made:
        yield made


def channel_of(cluster: RedisCluster, number: int, prefix: str) -> str:
    """A channel that lives on the given master."""
    first, last = 16384 * number // 3, 16384 * (number + 1) // 3 - 1
    names = (f"{prefix}-{suffix}" for suffix in range(1000))
    return next(name for name in names if first <= slots.slot(name) <= last)


def test_slot_is_that_of_the_keys(calm: RedisCluster, channel: str) -> None:
    answer = calm.masters[0].ask("CLUSTER", "KEYSLOT", f"hub:{{{channel}}}:meta")
    assert answer == b":%d\r\n" % slots.slot(channel)


async def test_channels_of_all_masters_reach_every_node(calm: RedisCluster, channel: str) -> None:
    channels = [channel_of(calm, number, channel) for number in range(3)]
    async with node(calm.url) as one, node(calm.url) as two:
        streams = [await two.subscribe(name) for name in channels]
        for name in channels:
            await one.publish(name, 1, idempotency_key="x")
        await eventually(lambda: all(stream.data == [b"1"] for stream in streams))
        await one.is_ready()
        assert len(one.broker.statistics()) == 3
        for name in channels:
            assert (await two.broker.history(name, 0, 10)).publications
        assert len({one.broker.shard(name) for name in channels}) == 3


async def test_any_client_publishes_with_the_function(calm: RedisCluster, channel: str) -> None:
    async with node(calm.url) as one:
        name = channel_of(calm, 2, channel)
        stream = await one.subscribe(name)
        with Redis(port=calm.masters[2].port, protocol=2) as client:
            client.fcall("hub_publish", 2, f"hub:{{{name}}}:meta", f"hub:{{{name}}}:log", "7")
        await eventually(lambda: stream.data == [b"7"])


@pytest.mark.parametrize("fault", [RedisServer.kill, RedisServer.freeze])
async def test_stream_goes_on_at_the_replica_that_took_over(
    cluster: RedisCluster, channel: str, fault: Callable[[RedisServer], None]
) -> None:
    """The other masters' channels notice nothing."""
    channel = channel_of(cluster, 0, f"deep:{channel}")
    quiet = channel_of(cluster, 1, "deep:calm")
    async with (
        node(cluster.url, options=UNHURRIED, namespaces=KEEPS_ALL) as one,
        node(cluster.url, options=UNHURRIED, namespaces=KEEPS_ALL) as two,
    ):
        streams = [await one.subscribe(channel), await two.subscribe(channel)]
        other = await two.subscribe(quiet)
        async with feeding(one, quiet) as calm_feed, feeding(one, channel) as feed:
            await feed.runs()
            fault(cluster.masters[0])
            await calm_feed.runs()
            await eventually(lambda: all(stream.resets for stream in streams))
            await feed.runs()
        for stream in streams:
            await arrives(stream, feed)
            feed.check(stream)
            _is_whole(stream, feed.made)
        await arrives(other, calm_feed)
        # A machine so busy that two masters of three are silent has them refuse, and is told so.
        assert not other.resets
        assert not other.gaps
        calm_feed.check(other)
        assert set(calm_feed.made.values()) <= set(other.data)


def _is_whole(stream: Stream, made: dict[Position, bytes]) -> None:
    assert stream.head is not None
    newest = {position for position in made if position.epoch == stream.head.epoch}
    assert newest
    assert newest <= set(stream.seen)
    assert not stream.gaps, "history held it"


@pytest.mark.parametrize("options", [QUICK, ON_DOUBT], ids=["looking", "pointed"])
async def test_slot_that_moves_takes_its_channels_along(
    cluster: RedisCluster, channel: str, options: RedisOptions
) -> None:
    """Without a reset: the server that it came from says that nothing was lost."""
    channel = channel_of(cluster, 0, f"deep:{channel}")
    async with node(cluster.url, options=options, namespaces=KEEPS_ALL) as one:
        await one.is_ready()
        stream = await one.subscribe(channel)
        before = one.broker.shard(channel)
        async with feeding(one, channel) as feed:
            await feed.runs()
            cluster.move_slot(slots.slot(channel), cluster.masters[0], cluster.masters[1])
            await eventually(lambda: one.broker.shard(channel) is not before)
            await feed.runs()
        await arrives(stream, feed)
        feed.check(stream)
        _is_whole(stream, feed.made)
        assert not stream.resets
        assert before.channels.tracker(channel) is None
        assert len(one.broker.statistics()) == 3


async def test_cluster_that_is_away_is_a_problem_and_found_later(channel: str) -> None:
    with RedisCluster() as cluster:
        for server in (*cluster.masters, cluster.replica):
            server.freeze()
        async with node(cluster.url, options=replace(QUICK, locate_timeout_seconds=0.1)) as one:
            assert "no server is known to own" in one.broker.problems()[0]
            for server in (*cluster.masters, cluster.replica):
                server.thaw()
            await one.is_ready()
            stream = await one.subscribe(channel)
            await one.publish(channel, 1)
            await eventually(lambda: stream.data == [b"1"])


async def test_server_that_is_no_cluster_is_told_once(redis: RedisServer) -> None:
    options = replace(FAST, cluster_seconds=0.05)
    with Redis(port=redis.port, protocol=2) as client:
        async with node(f"redis+cluster://127.0.0.1:{redis.port}", options=options) as one:
            before = client.info("stats")["total_connections_received"]
            # Each look is a connection of its own.
            await eventually(
                lambda: client.info("stats")["total_connections_received"] > before + 3
            )
            (told,) = [event for event in one.logged if event["event"] == "redis_cluster_silent"]
            assert "cluster support disabled" in str(told["reasons"])


def test_server_with_the_greater_config_epoch_is_believed() -> None:
    """A server that was cut off still claims slots that another one was given."""
    cut_off = slots.parse_nodes(
        b"aa :7000@17000 myself,master - 0 0 1 connected 0-9 12\n"
        b"bb 10.0.0.2:7001@17001,name slave,fail aa 0 0 1 connected\n",
        "10.0.0.1",
    )
    lead = slots.parse_nodes(
        b"bb 10.0.0.2:7001@17001 myself,master - 0 0 2 connected 0-9 [13->-aa]\n"
        b"aa 10.0.0.1:7000@17000 master,fail - 0 0 1 connected 12\n"
        b"cc :0@0 master,noaddr - 0 0 9 disconnected 3\n",
        "10.0.0.2",
    )
    assert cut_off.members == ["10.0.0.1:7000", "10.0.0.2:7001"]
    for views in ([cut_off, lead], [lead, cut_off]):
        found = slots.owners(views)
        assert set(found[:10]) == {"10.0.0.2:7001"}
        assert found[10:14] == ["", "", "10.0.0.1:7000", ""]


@pytest.mark.parametrize("elected", [7001, 7009], ids=["the lower", "the higher"])
def test_server_that_was_elected_in_vain_is_not_believed(elected: int) -> None:
    """Its master took the same config epoch meanwhile, and the others believe that one."""
    master, replica = b"aa 10.0.0.1:7005@17005", b"bb 10.0.0.2:%d@17001" % elected
    other = slots.parse_nodes(
        b"cc 10.0.0.3:7002@17002 myself,master - 0 0 3 connected 10-19\n"
        b"%b master - 0 0 18 connected 0-9 12\n"
        b"%b slave aa 0 0 18 connected\n" % (master, replica),
        "10.0.0.3",
    )
    itself = slots.parse_nodes(
        b"cc 10.0.0.3:7002@17002 master - 0 0 3 connected 10-19\n"
        b"%b master - 0 0 18 connected 12\n"
        b"%b myself,master - 0 0 18 connected 0-9\n" % (master, replica),
        "10.0.0.2",
    )
    for views in ([other, itself], [itself, other]):
        assert set(slots.owners(views)[:10]) == {"10.0.0.1:7005"}


@pytest.mark.parametrize("url", ["redis+cluster://", "redis+cluster://a,", "redis+cluster://a/1"])
def test_url_of_no_cluster_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(SettingsError, match="expected redis\\+cluster"):
        TestNode(url, options=FAST, namespaces=Namespaces())
