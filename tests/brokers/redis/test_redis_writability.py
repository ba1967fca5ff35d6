"""A Redis that takes no publications is told of, and everything else goes on."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hub.brokers.redis.options import RedisOptions
from hub.core.options import STATS_CHANNEL
from hub.errors import NotPublishedError
from tests.brokers.redis.nodes import FAST, node
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually, eventually_blocking

SCRIPTS = replace(FAST, use_functions=False)


class Fault:
    """Makes a Redis refuse to write, and mends it."""

    def __init__(self, code: str, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self.code = code
        self.begin = begin
        self.end = end


def full(redis: RedisServer) -> Fault:
    def limit(size: str) -> None:
        redis.ask("CONFIG", "SET", "maxmemory", size)

    return Fault("OOM", lambda: limit("1"), lambda: limit("0"))


def unable_to_save(redis: RedisServer, folder: Path) -> Fault:
    """Its folder is gone: the next save fails, and works again where there is a folder."""

    def save(status: bytes) -> None:
        redis.ask("BGSAVE")
        state = b"rdb_last_bgsave_status:" + status
        eventually_blocking(lambda: state in redis.ask("INFO", "persistence"))

    def begin() -> None:
        shutil.rmtree(folder)
        save(b"err")

    def end() -> None:
        folder.mkdir()
        redis.ask("CONFIG", "SET", "dir", str(folder))
        save(b"ok")

    return Fault("MISCONF", begin, end)


def without_replicas(redis: RedisServer) -> Fault:
    def need(count: str) -> None:
        redis.ask("CONFIG", "SET", "min-replicas-to-write", count)

    return Fault("NOREPLICAS", lambda: need("1"), lambda: need("0"))


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "saved"
    folder.mkdir()
    with RedisServer(dir=str(folder), save="3600 1", enable_protected_configs="yes") as server:
        yield server


@pytest.fixture(params=["full", "unable to save", "without replicas"])
def fault(request: pytest.FixtureRequest, redis: RedisServer, tmp_path: Path) -> Fault:
    if request.param == "full":
        return full(redis)
    if request.param == "without replicas":
        return without_replicas(redis)
    return unable_to_save(redis, tmp_path / "saved")


@pytest.mark.parametrize("options", [FAST, SCRIPTS], ids=["functions", "scripts"])
async def test_redis_that_takes_nothing_is_told_of_though_nobody_publishes(
    redis: RedisServer, channel: str, fault: Fault, options: RedisOptions
) -> None:
    """The problem is told in the words of Redis until it takes publications again,
    and the node stays ready."""
    async with node(redis.url, options=options) as one:
        await one.is_ready()
        stream = await one.subscribe(channel)
        await one.publish(channel, 1)
        assert not one.broker.impaired()
        fault.begin()
        await eventually(one.broker.impaired)
        (told,) = one.broker.impaired()
        assert f"takes no publications: {fault.code}" in told
        assert one.broker.record().unwritable_servers == 1
        assert not one.broker.problems()
        with pytest.raises(NotPublishedError, match=fault.code):
            await one.publish(channel, 2)
        fault.end()
        await eventually(lambda: not one.broker.impaired())
        assert one.broker.record().unwritable_servers == 0
        await one.publish(channel, 3)
        await eventually(lambda: stream.data == [b"1", b"3"])
        events = [event["event"] for event in one.logged]
        assert events.count("redis_takes_no_publications") == 1
        assert events.count("redis_takes_publications_again") == 1


@pytest.mark.parametrize("options", [FAST, SCRIPTS], ids=["functions", "scripts"])
async def test_figures_of_nodes_get_through_a_full_redis(
    redis: RedisServer, options: RedisOptions
) -> None:
    """They say that it is full, and cost it nothing that it does not have."""
    fault = full(redis)
    async with node(redis.url, options=options) as one:
        await one.is_ready()
        stream = await one.subscribe(STATS_CHANNEL)
        fault.begin()
        await eventually(one.broker.impaired)
        await one.publish(STATS_CHANNEL, 1)
        await eventually(lambda: stream.data == [b"1"])


async def test_cluster_that_takes_scripts_is_asked_without_a_complaint(channel: str) -> None:
    """Where the key that is looked at is another server's."""
    with RedisCluster() as made:
        async with node(made.url, options=SCRIPTS) as one:
            await one.is_ready()
            # Each server is asked by canaries and by this.
            many = sum(one.counters.broker_calls.buckets) + 30
            await eventually(lambda: sum(one.counters.broker_calls.buckets) > many)
            await one.publish(channel, 1)
            assert not [event for event in one.logged if event["event"] == "redis_refused"]
            assert not one.broker.impaired()


async def test_redis_that_is_away_is_no_redis_that_takes_nothing(redis: RedisServer) -> None:
    """A Redis that is away is a problem, and the node is not ready; it is
    not counted as unwritable."""
    async with node(redis.url) as one:
        await one.is_ready()
        redis.kill()
        await eventually(one.broker.problems)
        assert not one.broker.impaired()
        assert one.broker.record().unwritable_servers == 0
