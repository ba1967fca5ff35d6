"""A channel whose slot moves in order goes on; one that was lost on the way begins anew."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
from msgspec import structs
from redis import Redis
from redis.exceptions import ResponseError

from hub.brokers.redis.keys import Keys
from hub.brokers.redis.options import RedisOptions
from hub.brokers.redis.topology import slots
from hub.brokers.redis.topology.moves import Stray, is_origin
from hub.core.publication import Position
from hub.core.recovery.start import start
from hub.errors import HubError
from tests.brokers.redis.nodes import FAST, TestNode, node
from tests.brokers.redis.test_redis_failures import KEEPS_ALL
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_server import RedisServer, free_port
from tests.support.waiting import eventually, eventually_blocking

# A call follows its channel until its deadline, and a busy machine takes seconds to move a slot.
PATIENT = replace(FAST, command_timeout_seconds=20.0, cluster_seconds=0.2)
SCRIPTS = replace(PATIENT, use_functions=False)
# A node that looks at nothing by itself, so that somebody else is the first to ask.
ASLEEP = replace(PATIENT, cluster_seconds=1000.0, reconcile_seconds=1000.0)


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster(spare=True) as made:
        yield made


def of_the_second(prefix: str) -> str:
    """A channel of the second master, which has no replica."""
    names = (f"deep:{prefix}-{number}" for number in range(1000))
    return next(n for n in names if 16384 // 3 <= slots.slot(n) < 16384 * 2 // 3)


async def are_at(server: RedisServer, channel: str, *hubs: TestNode) -> None:
    """Wait until these ask `server` for the channel."""

    def is_there(hub: TestNode) -> bool:
        return hub.broker.shard(channel).statistics().server.endswith(f":{server.port}")

    for hub in hubs:
        await eventually(partial(is_there, hub))
        await hub.is_ready()


async def resumes_whole(one: TestNode, channel: str, since: Position) -> bool:
    page = await one.broker.history(channel, since.offset, 100)
    return start(since=since, last=None, head=page.head, oldest=page.oldest).recovered


@pytest.mark.parametrize("options", [PATIENT, SCRIPTS], ids=["functions", "scripts"])
@pytest.mark.parametrize("quiet", [False, True], ids=["published in", "quiet"])
async def test_slot_that_moves_there_and_back_costs_nobody_anything(
    cluster: RedisCluster, channel: str, options: RedisOptions, quiet: bool
) -> None:
    channel, slot = of_the_second(channel), slots.slot(of_the_second(channel))
    servers = (cluster.masters[1], cluster.masters[2], cluster.spares[0])
    async with (
        node(cluster.url, options=options, namespaces=KEEPS_ALL) as one,
        node(cluster.url, options=options, namespaces=KEEPS_ALL) as two,
    ):
        await one.is_ready()
        stream = await two.subscribe(channel)
        first = await one.publish(channel, 0)
        at, count = servers[0], 1
        for to in (servers[1], servers[0], servers[2], servers[0], servers[1]):
            cluster.move_slot(slot, at, to)
            at = to
            await are_at(to, channel, one, two)
            if not quiet:
                await one.publish(channel, count)
                count += 1
            assert (await two.broker.history(channel, 0, 100)).head == structs.replace(
                first.position, offset=count
            )
        last = await one.publish(channel, count)
        await eventually(lambda: stream.head == last.position)
        assert stream.data == [b"%d" % number for number in range(count + 1)]
        assert not stream.resets
        assert not stream.gaps
        assert await resumes_whole(one, channel, structs.replace(first.position, offset=0))
        assert not await resumes_whole(one, channel, Position("0123456789ab", 0))


async def test_server_that_gives_its_last_slot_away_vouches_as_a_replica(
    cluster: RedisCluster, channel: str
) -> None:
    """The server follows the new owner at once, and forgets the name of its history."""
    channel, slot = of_the_second(channel), slots.slot(of_the_second(channel))
    spare, target = cluster.spares[0], cluster.masters[2]
    async with node(cluster.url, options=PATIENT, namespaces=KEEPS_ALL) as one:
        await one.is_ready()
        stream = await one.subscribe(channel)
        cluster.move_slot(slot, cluster.masters[1], spare)
        await are_at(spare, channel, one)
        await one.publish(channel, 0)
        cluster.move_slot(slot, spare, target)
        await are_at(target, channel, one)
        await one.publish(channel, 1)
        await eventually(lambda: stream.data == [b"0", b"1"])
        assert not stream.resets
        eventually_blocking(
            lambda: b"role:slave" in spare.ask("INFO", "replication"), what="a replica"
        )


@pytest.fixture
def lone() -> Iterator[RedisServer]:
    """A cluster of one server."""
    with RedisServer(cluster_enabled="yes", cluster_port=str(free_port())) as server:
        server.ask("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        eventually_blocking(lambda: b"cluster_state:ok" in server.ask("CLUSTER", "INFO"))
        yield server


@pytest.mark.parametrize("later", [0, 1000], ids=["begun at the same time", "begun later"])
@pytest.mark.parametrize("first", ["head", "page"])
async def test_epoch_that_was_left_in_vain_does_not_come_back(
    lone: RedisServer, channel: str, first: str, later: int
) -> None:
    """A replica was elected, began an epoch, and its master leads on without having noticed."""
    async with node(f"redis+cluster://127.0.0.1:{lone.port}", options=PATIENT) as one:
        before = (await one.publish(channel, 1)).position.epoch
        term = int(before.partition("-")[0], 16)
        elsewhere = Position(f"{term + later:08x}-of-the-replica", 3)
        reading = one.broker.shard(channel).history
        if first == "head":
            head = await reading.head(channel, elsewhere)
        else:
            head = (await reading.page(channel, 3, 10, 1 << 20, seen=elsewhere.epoch)).head
        assert int(head.epoch.partition("-")[0], 16) > term + later
        assert head.offset == 0
        # For everybody, also who is still in the other one.
        assert (await one.publish(channel, 2)).position == Position(head.epoch, 1)
        assert (await reading.head(channel, Position(before, 1))).epoch == head.epoch


async def test_a_loss_of_a_server_before_the_move_is_told(
    cluster: RedisCluster, channel: str
) -> None:
    """The server returns with its saved state, and nobody asks for the channel before it moves."""
    channel, slot = of_the_second(channel), slots.slot(of_the_second(channel))
    source = cluster.masters[1]
    async with node(cluster.url, options=ASLEEP, namespaces=KEEPS_ALL) as one:
        await one.is_ready()
        await one.publish(channel, 0)
        source.ask("SAVE")
        lost = await one.publish(channel, 1)
    source.restart()
    eventually_blocking(lambda: b"cluster_state:ok" in source.ask("CLUSTER", "INFO"))
    cluster.move_slot(slot, source, cluster.masters[2])
    async with node(cluster.url, options=PATIENT, namespaces=KEEPS_ALL) as one:
        await one.is_ready()
        again = await one.publish(channel, 2)
        assert again.position.epoch != lost.position.epoch
        assert not await resumes_whole(one, channel, structs.replace(lost.position, offset=1))


@pytest.mark.parametrize("watched", [True, False], ids=["by a node", "by nobody"])
async def test_a_process_that_is_no_node_waits_until_a_node_has_asked(
    cluster: RedisCluster, channel: str, watched: bool
) -> None:
    """Without any node that has the channel it begins anew after a while."""
    channel, slot = of_the_second(channel), slots.slot(of_the_second(channel))
    target = cluster.masters[2]
    keys = (Keys().meta(channel), Keys().log(channel))
    async with node(cluster.url, options=ASLEEP, namespaces=KEEPS_ALL) as one:
        await one.is_ready()
        first = await one.publish(channel, 0)
        cluster.move_slot(slot, cluster.masters[1], target)
        with Redis(port=target.port, protocol=2) as client:
            for _ in range(2):
                with pytest.raises(ResponseError, match="has just come from another"):
                    client.fcall("hub_publish", 2, *keys, "1")
            if watched:
                await one.publish(channel, 2)
            else:
                noted = client.hget(keys[0], "stray")
                assert isinstance(noted, bytes)
                client.hset(keys[0], "stray", noted.split(b" ")[0] + b" 1")
            answer = client.fcall("hub_publish", 2, *keys, "3")
        assert isinstance(answer, list)
        epoch = first.position.epoch.encode()
        assert answer[:2] == [epoch, 3] if watched else answer[0] != epoch


STRAY = Stray("b" * 40, "c" * 40, "10.0.0.2:6379", "10.0.0.1:6379")
MASTER = {"role": "master", "run_id": "d" * 40, "master_replid": "e" * 40}
NO_NAME = "0" * 40


@pytest.mark.parametrize(
    ("address", "said", "whole"),
    [
        ("10.0.0.1:6379", {"master_replid": STRAY.history}, True),
        ("10.0.0.9:6379", {"master_replid": STRAY.history}, True),
        ("10.0.0.1:6379", {}, False),
        ("10.0.0.1:6379", {"run_id": STRAY.run, "master_replid2": NO_NAME}, True),
        ("10.0.0.1:6379", {"run_id": STRAY.run, "master_replid2": STRAY.history}, False),
    ],
    ids=["its own", "anywhere", "another", "renamed only", "was promoted"],
)
def test_master_vouches_for_its_own_line_alone(
    address: str, said: dict[str, str], whole: bool
) -> None:
    assert is_origin(STRAY, address, MASTER | said) == whole


@pytest.mark.parametrize(
    ("address", "said", "whole"),
    [
        ("10.0.0.1:6379", {}, True),
        ("10.0.0.3:6379", {}, False),
        ("10.0.0.1:6379", {"run_id": "d" * 40}, False),
        ("10.0.0.1:6379", {"master_host": "10.0.0.4"}, False),
    ],
    ids=["of who has it", "somebody else", "restarted", "of another one"],
)
def test_replica_vouches_only_where_it_had_the_channel_last(
    address: str, said: dict[str, str], whole: bool
) -> None:
    replica = {"role": "slave", "run_id": STRAY.run, "master_replid": "e" * 40}
    replica |= {"master_host": "10.0.0.2", "master_port": "6379"}
    assert is_origin(STRAY, address, replica | said) == whole


def test_server_without_a_name_for_its_history_vouches_for_nothing() -> None:
    assert not is_origin(STRAY, STRAY.former, {})
    assert not is_origin(STRAY, STRAY.former, {"role": "master"})


async def test_restart_in_place_begins_anew(cluster: RedisCluster, channel: str) -> None:
    """The server has the same slot and has lost what it gave out since its last save."""
    channel = of_the_second(channel)
    source: RedisServer = cluster.masters[1]
    async with node(cluster.url, options=PATIENT, namespaces=KEEPS_ALL) as one:
        await one.is_ready()
        stream = await one.subscribe(channel)
        await one.publish(channel, 0)
        source.ask("SAVE")
        await one.publish(channel, 1)
        await eventually(lambda: len(stream.data) == 2)
        source.restart()
        await eventually(lambda: stream.resets)
        assert stream.resets[0].offset == 0


# Looks at no map by itself, and waits long for an answer.
UNAWARE = replace(
    FAST, cluster_seconds=1000.0, command_timeout_seconds=30.0, connect_timeout_seconds=20.0
)


@pytest.mark.timeout(240)
async def test_master_that_wakes_after_its_replica_took_over_takes_nothing(
    cluster: RedisCluster, channel: str
) -> None:
    """Subscribers have had their reset by then, so the master's answers to
    former calls do not count."""
    names = (f"deep:{channel}-{number}" for number in range(1000))
    channel = next(n for n in names if slots.slot(n) < 16384 // 3)
    first = cluster.masters[0]
    async with (
        node(cluster.url, options=UNAWARE) as slow,
        node(cluster.url, options=PATIENT) as quick,
    ):
        await slow.is_ready()
        await quick.is_ready()
        stream = await quick.subscribe(channel)
        left = (await slow.publish(channel, 1)).position.epoch
        first.freeze()
        await eventually(lambda: stream.resets, seconds=45)
        commands = slow.broker.shard(channel).calls
        waiting = asyncio.create_task(slow.publish(channel, 2))
        await eventually(lambda: commands.pending > 1)
        first.thaw()
        # It may have been done, and is told so.
        with contextlib.suppress(HubError):
            assert (await waiting).position.epoch != left
