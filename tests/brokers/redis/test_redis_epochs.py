"""A Redis that is not the one that answered before never goes on counting where it left off."""

from dataclasses import replace
from itertools import pairwise

import pytest
from msgspec import structs
from redis import Redis

from hub.brokers.redis.options import RedisOptions
from tests.brokers.redis.nodes import FAST, node
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually, eventually_blocking

SCRIPTS = replace(FAST, use_functions=False)


def make_replica(replica: RedisServer, master: RedisServer) -> None:
    """Return when `replica` has everything that `master` has."""
    replica.ask("REPLICAOF", "127.0.0.1", str(master.port))

    def is_in_sync() -> bool:
        state = replica.ask("INFO", "replication")
        offset = _field(state, b"slave_repl_offset")
        return b"master_link_status:up" in state and offset == _field(
            master.ask("INFO", "replication"), b"master_repl_offset"
        )

    eventually_blocking(is_in_sync, what="replication")


def promote(replica: RedisServer) -> None:
    replica.ask("REPLICAOF", "NO", "ONE")


def _field(info: bytes, name: bytes) -> bytes:
    return info.partition(name + b":")[2].partition(b"\r")[0]


@pytest.mark.parametrize("options", [FAST, SCRIPTS], ids=["functions", "scripts"])
async def test_promoted_replica_begins_a_new_epoch_with_its_first_publication(
    redis: RedisServer, channel: str, options: RedisOptions
) -> None:
    with RedisServer(program=redis.program) as replica:
        async with node(redis.url, options=options) as one:
            before = await one.publish(channel, 1)
            make_replica(replica, redis)
        promote(replica)
        async with node(replica.url, options=options) as two:
            after = await two.publish(channel, 2)
            assert after.position.epoch != before.position.epoch
            assert after.position.offset == 1


@pytest.mark.parametrize("options", [FAST, SCRIPTS], ids=["functions", "scripts"])
async def test_former_master_that_lost_its_tail_and_leads_again_begins_a_new_epoch(
    channel: str, options: RedisOptions
) -> None:
    """Its process, and so its run_id, is the one that gave out the offsets that were lost."""
    with (
        RedisServer() as a,
        RedisServer() as b,
    ):
        async with node(a.url, options=options) as one:
            await one.publish(channel, 1)
            make_replica(b, a)
            promote(b)
            lost = [await one.publish(channel, n) for n in range(3)]
        make_replica(a, b)
        promote(a)
        async with node(a.url, options=options) as two:
            again = await two.publish(channel, 4)
            assert again.position not in {result.position for result in lost}
            assert again.position.epoch != lost[0].position.epoch


@pytest.mark.parametrize("options", [FAST, SCRIPTS], ids=["functions", "scripts"])
async def test_replicas_that_come_and_go_leave_the_epoch_alone(
    channel: str, options: RedisOptions
) -> None:
    """Redis renames its replication history then; nothing is lost, so nothing is announced."""
    with RedisServer(repl_backlog_ttl="1") as master:
        async with node(master.url, options=options) as one:
            stream = await one.subscribe(channel)
            await one.publish(channel, 1)
            name = _field(master.ask("INFO", "replication"), b"master_replid")
            with RedisServer() as replica:
                make_replica(replica, master)
                renamed = _field(master.ask("INFO", "replication"), b"master_replid")
                assert renamed != name
                await one.publish(channel, 2)
            await eventually(
                lambda: _field(master.ask("INFO", "replication"), b"master_replid") != renamed
            )
            await one.publish(channel, 3)
            await eventually(lambda: len(stream.data) == 3)
            assert not stream.resets


async def test_nodes_move_to_the_new_epoch_without_a_publication(
    redis: RedisServer, channel: str
) -> None:
    async with node(redis.url) as one:
        stream = await one.subscribe(channel)
        await one.publish(channel, 1)
        await eventually(lambda: stream.data)
        redis.restart()
        await eventually(lambda: stream.resets)
        assert stream.resets[0].offset == 0
        assert (await one.publish(channel, 2)).position == structs.replace(
            stream.resets[0], offset=1
        )


async def test_channel_that_expired_begins_a_new_epoch(redis: RedisServer, channel: str) -> None:
    options = replace(FAST, reconcile_seconds=60)
    async with node(redis.url, options=options) as one:
        stream = await one.subscribe(channel)
        await one.publish(channel, 1)
        redis.ask("DEL", f"hub:{{{channel}}}:meta")
        await one.publish(channel, 2)
        await eventually(lambda: stream.data == [b"1", b"2"])
        assert len(stream.resets) == 1
        page = await one.broker.history(channel, 0, 10)
        assert [p.data for p in page.publications] == [b"2"], "the old epoch's history is gone"


async def test_server_that_knows_less_than_the_node_begins_a_new_epoch(
    redis: RedisServer, channel: str
) -> None:
    """A restored backup is such a server: the offsets that subscribers have seen count."""
    async with node(redis.url) as one:
        stream = await one.subscribe(channel)
        for number in range(5):
            await one.publish(channel, number)
        await eventually(lambda: len(stream.data) == 5)
        redis.ask("HSET", f"hub:{{{channel}}}:meta", "offset", "2")
        await eventually(lambda: stream.resets)


async def test_quiet_channel_that_is_subscribed_keeps_its_epoch(
    redis: RedisServer, channel: str
) -> None:
    # A busy machine may stand still for a second: what is shown is that each look renews.
    options = replace(FAST, position_ttl_seconds=5.0, reconcile_seconds=0.05)
    async with node(redis.url, options=options) as one:
        stream = await one.subscribe(channel)
        first = await one.publish(channel, 1)
        with Redis(port=redis.port, protocol=2) as client:
            lifetimes: list[int] = [client.pttl(f"hub:{{{channel}}}:meta")]

            def is_renewed() -> bool:
                lifetimes.append(client.pttl(f"hub:{{{channel}}}:meta"))
                return sum(later > earlier for earlier, later in pairwise(lifetimes)) >= 15

            await eventually(is_renewed, what="fifteen renewals")
        assert (await one.publish(channel, 2)).position == structs.replace(first.position, offset=2)
        assert not stream.resets
