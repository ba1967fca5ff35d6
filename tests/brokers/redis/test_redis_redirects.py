"""Slots of a cluster that are on their way: calls follow, and nothing is done twice."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hub.brokers.redis.keys import Keys
from hub.brokers.redis.options import RedisOptions
from hub.brokers.redis.topology import slots
from hub.brokers.redis.topology.cluster import ClusterTopology
from hub.brokers.redis.topology.moves import Redirects
from hub.core.options import ChannelOptions
from hub.errors import HubError, NotPublishedError, OutcomeUnknownError
from tests.brokers.redis.nodes import FAST, TestNode, node
from tests.brokers.redis.test_redis_failures import KEEPS_ALL, arrives, feeding
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

# A busy machine may take longer than `FAST` allows; the map is looked at only when in doubt.
PATIENT = replace(
    FAST, command_timeout_seconds=5.0, cluster_seconds=1000.0, reconcile_seconds=1000.0
)


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as made:
        yield made


class Move:
    """A slot of the first master, and a channel in it, on its way to another master."""

    def __init__(self, cluster: RedisCluster, prefix: str, target: RedisServer) -> None:
        names = (f"{prefix}-{number}" for number in range(1000))
        self.channel = next(n for n in names if slots.slot(n) < 16384 // 3)
        self._cluster = cluster
        self._way = (slots.slot(self.channel), cluster.masters[0], target)

    def begin(self) -> None:
        self._cluster.begin_move(*self._way)

    def keys(self, only: bytes = b"") -> None:
        self._cluster.move_keys(*self._way, only=only)

    def end(self) -> None:
        self._cluster.end_move(*self._way)


async def _refusals(hub: TestNode, channel: str, count: int) -> list[HubError]:
    """Why some of so many publications, asked for at once, were refused."""
    made = await asyncio.gather(
        *(hub.publish(channel, number) for number in range(count)), return_exceptions=True
    )
    return [result for result in made if isinstance(result, HubError)]


async def test_calls_follow_to_where_the_keys_are(cluster: RedisCluster, channel: str) -> None:
    """Nothing is lost on the way, so nothing is announced, and history comes along."""
    move = Move(cluster, f"deep:{channel}", cluster.masters[1])
    async with node(cluster.url, options=PATIENT, namespaces=KEEPS_ALL) as one:
        await one.is_ready()
        stream = await one.subscribe(move.channel)
        assert not await _refusals(one, move.channel, 3)
        before = one.broker.shard(move.channel)
        move.begin()
        move.keys()
        assert not await _refusals(one, move.channel, 20)
        assert before is one.broker.shard(move.channel)
        await eventually(lambda: len(stream.data) == 23)
        assert stream.data[3:] == [b"%d" % number for number in range(20)], "in their order"
        page = await one.broker.history(move.channel, 0, 100)
        assert [publication.offset for publication in page.publications] == list(range(1, 24))
        move.end()
        await eventually(lambda: one.broker.shard(move.channel) is not before)
        assert not await _refusals(one, move.channel, 1)
        await eventually(lambda: len(stream.data) == 24)
        assert not stream.resets
        assert not stream.gaps


@pytest.mark.parametrize("moved", [b":meta", b""], ids=["some keys", "all keys"])
async def test_call_that_needs_a_key_of_either_server_waits(
    cluster: RedisCluster, channel: str, moved: bytes
) -> None:
    """No server has what an idempotency key is kept in, and neither may make it now."""
    move = Move(cluster, f"deep:{channel}", cluster.masters[1])
    async with node(cluster.url, options=PATIENT, namespaces=KEEPS_ALL) as one:
        stream = await one.subscribe(move.channel)
        assert not await _refusals(one, move.channel, 1)
        move.begin()
        move.keys(moved)
        waiting = asyncio.create_task(one.publish(move.channel, 2, idempotency_key="k"))
        other = asyncio.create_task(one.publish(move.channel, 3, idempotency_key="l"))
        topology = one.broker._topology
        assert isinstance(topology, ClusterTopology)
        redirects = topology._redirects
        await eventually(lambda: len(_waiting(redirects, move.channel)) == 2)
        move.keys()
        move.end()
        first, second = await waiting, await other
        assert second.position.offset == first.position.offset + 1
        again = await one.publish(move.channel, 2, idempotency_key="k")
        assert again.duplicate
        assert again.position == first.position
        await eventually(lambda: stream.data == [b"0", b"2", b"3"])
        await eventually(lambda: not redirects._lanes)
        assert redirects._waiting == redirects._bytes == 0


async def test_rows_of_a_table_come_along_with_their_channel(
    cluster: RedisCluster, channel: str
) -> None:
    """Keys go one by one: a row that is written meanwhile must not begin another table."""
    tables = {"table": ChannelOptions(history_size=100, keyed=True)}
    move = Move(cluster, f"table:{channel}", cluster.masters[1])
    async with node(cluster.url, options=PATIENT, namespaces=tables) as one:
        await one.is_ready()
        for key in ("a", "b"):
            await one.publish(move.channel, 1, key=key)
        move.begin()
        move.keys(b":meta")
        move.keys(b":log")
        waiting = asyncio.create_task(one.publish(move.channel, 2, key="b"))
        await asyncio.sleep(0.05)
        move.keys()
        move.end()
        assert (await waiting).position.offset == 3
        page = await one.broker.state(move.channel, "", 9)
        assert [(row.key, row.data) for row in page.rows] == [("a", b"1"), ("b", b"2")]


async def test_an_outsider_s_row_waits_while_its_table_moves(
    cluster: RedisCluster, channel: str
) -> None:
    """The public function is passed no keys of the table: it looks whether they are all there."""
    tables = {"table": ChannelOptions(history_size=100, keyed=True)}
    move = Move(cluster, f"table:{channel}", cluster.masters[1])
    stem = f"hub:{{{move.channel}}}"
    async with node(cluster.url, options=PATIENT, namespaces=tables) as one:
        await one.is_ready()
        await one.publish(move.channel, 1, key="a")
        put = ("FCALL", "hub_publish", "2", f"{stem}:meta", f"{stem}:log", "2", "a")
        before, after = cluster.masters[:2]
        assert b"\r\n:2\r\n" in before.ask(*put)
        move.begin()
        move.keys(b":rows")
        assert before.ask(*put).startswith(b"-TRYAGAIN")
        assert before.ask("HGET", f"{stem}:meta", "offset") == b"$1\r\n2\r\n"
        move.keys()
        move.end()
        # Until the node has looked at what came there, an outsider is to try again.
        await eventually(lambda: b"\r\n:3\r\n" in after.ask(*put))
        page = await one.broker.state(move.channel, "", 9)
        assert [(row.key, row.offset) for row in page.rows] == [("a", 3)]


def _waiting(redirects: Redirects, channel: str) -> list[bytes]:
    """Publications of a channel that follow, or wait to."""
    lane = redirects._lanes.get(Keys().meta(channel), ())
    return [journey.call.packed for journey in lane if journey.call.keys == 3]


async def test_order_is_not_given_up_for_a_call_that_waits(
    cluster: RedisCluster, channel: str
) -> None:
    """A later publication whose keys are still there is made first, and
    the waiting one is refused."""
    move = Move(cluster, f"deep:{channel}", cluster.masters[1])
    async with node(cluster.url, options=PATIENT, namespaces=KEEPS_ALL) as one:
        assert not await _refusals(one, move.channel, 1)
        move.begin()
        first = asyncio.create_task(one.publish(move.channel, 1, idempotency_key="k"))
        second = asyncio.create_task(one.publish(move.channel, 2))
        assert (await second).position.offset == 2
        move.keys()
        move.end()
        with pytest.raises(NotPublishedError):
            await first


async def test_server_that_has_just_joined_is_followed_to(channel: str) -> None:
    """A server that has just joined owns no slot, so no node is connected to it and
    it has no functions yet."""
    with RedisCluster(spare=True) as cluster:
        move = Move(cluster, f"deep:{channel}", cluster.spares[0])
        async with node(cluster.url, options=PATIENT, namespaces=KEEPS_ALL) as one:
            await one.is_ready()
            stream = await one.subscribe(move.channel)
            assert not await _refusals(one, move.channel, 1)
            move.begin()
            move.keys()
            assert not await _refusals(one, move.channel, 2)
            await eventually(lambda: len(stream.data) == 3)
            assert len(one.broker.statistics()) == 3
            move.end()
            # Nothing but an answer that points elsewhere has the map looked at here.
            assert not await _refusals(one, move.channel, 1)
            await eventually(lambda: len(one.broker.statistics()) == 4)
            await one.is_ready()
            assert not await _refusals(one, move.channel, 1)
            await eventually(lambda: len(stream.data) == 5)
            assert not stream.resets


@pytest.mark.parametrize("options", [PATIENT, replace(PATIENT, use_functions=False)])
async def test_slot_that_moves_under_load_costs_no_publication(
    cluster: RedisCluster, channel: str, options: RedisOptions
) -> None:
    """No channel has a reset either."""
    move = Move(cluster, f"deep:{channel}", cluster.masters[1])
    async with (
        node(cluster.url, options=options, namespaces=KEEPS_ALL) as one,
        node(cluster.url, options=options, namespaces=KEEPS_ALL) as two,
    ):
        await one.is_ready()
        streams = [await one.subscribe(move.channel), await two.subscribe(move.channel)]
        async with feeding(one, move.channel) as feed:
            for step in (move.begin, move.keys, move.end):
                await feed.runs()
                step()
            await feed.runs()
        for stream in streams:
            await arrives(stream, feed)
            feed.check(stream)
            assert not stream.resets
        assert (feed.refused, feed.unknown) == (0, set())


@pytest.mark.parametrize(
    ("fault", "told"),
    [(RedisServer.kill, NotPublishedError), (RedisServer.freeze, OutcomeUnknownError)],
)
async def test_outcome_is_unknown_only_where_it_was_sent_again(
    cluster: RedisCluster, channel: str, fault: object, told: type[HubError]
) -> None:
    move = Move(cluster, f"deep:{channel}", cluster.masters[1])
    async with node(cluster.url, namespaces=KEEPS_ALL) as one:
        await one.is_ready()
        assert not await _refusals(one, move.channel, 1)
        move.begin()
        move.keys()
        target = cluster.masters[1]
        shards = {shard.statistics().server: shard for shard in one.broker.shards()}
        commands = shards[f"redis://127.0.0.1:{target.port}"].calls
        assert callable(fault)
        fault(target)
        if fault is RedisServer.kill:
            await eventually(lambda: commands.trouble)
        with pytest.raises(told):
            await one.publish(move.channel, 2)
