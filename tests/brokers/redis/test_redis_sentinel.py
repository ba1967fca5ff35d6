"""Failovers that Redis Sentinel makes, in the middle of a numbered stream."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import pytest
import structlog

from hub.brokers.redis.link import urls
from hub.brokers.redis.link.connection import FixedServer
from hub.brokers.redis.link.outcomes import LostError
from hub.brokers.redis.topology.sentinel import Master, SentinelMaster
from hub.errors import SettingsError
from tests.brokers.redis.nodes import FAST, Stream, node
from tests.brokers.redis.test_redis_failures import KEEPS_ALL, Feed, arrives, feeding
from tests.support.redis_sentinel import SERVICE, SentinelSet
from tests.support.redis_server import RedisServer, free_port
from tests.support.waiting import eventually

# Sentinels agree, promote, and try again where that takes too long; a busy machine makes it long.
FAILOVER_SECONDS = 45.0

# A frozen master must be noticed by asking the sentinels, not by the canary's silence.
PATIENT = replace(
    FAST,
    command_timeout_seconds=2.0,
    connect_timeout_seconds=3.0,
    canary_deadline_seconds=30.0,
    sentinel_seconds=0.2,
)


@pytest.fixture
def sentinels() -> Iterator[SentinelSet]:
    with SentinelSet() as made:
        yield made


def planned(redis: SentinelSet) -> None:
    # Who is only busy would be taken for dead, and the former master be the next one.
    redis.be_patient(milliseconds=60_000)
    redis.fail_over()


def killed(redis: SentinelSet) -> None:
    redis.master.kill()


def frozen(redis: SentinelSet) -> None:
    redis.master.freeze()


def _is_whole(stream: Stream, feed: Feed) -> None:
    """All of the newest epoch has arrived; of former ones what was lost ended with a reset."""
    assert stream.head is not None
    made = {position for position in feed.made if position.epoch == stream.head.epoch}
    assert made
    assert made <= set(stream.seen)
    assert not stream.gaps, "history held it"
    assert len(stream.resets) == 1


def _have_moved(sentinels: SentinelSet, streams: Sequence[Stream]) -> bool:
    sentinels.insist()
    return all(stream.resets for stream in streams)


@pytest.mark.parametrize("fault", [planned, killed, frozen])
async def test_stream_goes_on_at_the_new_master(
    sentinels: SentinelSet, channel: str, fault: Callable[[SentinelSet], None]
) -> None:
    """Nothing is lost in silence, and both connections of both nodes move."""
    channel = f"deep:{channel}"
    former = sentinels.master
    async with (
        node(sentinels.url, options=PATIENT, namespaces=KEEPS_ALL) as one,
        node(sentinels.url, options=PATIENT, namespaces=KEEPS_ALL) as two,
    ):
        streams = [await one.subscribe(channel), await two.subscribe(channel)]
        async with feeding(one, channel) as feed:
            await feed.runs()
            fault(sentinels)
            await eventually(partial(_have_moved, sentinels, streams), seconds=FAILOVER_SECONDS)
            await feed.runs()
        for stream in streams:
            await arrives(stream, feed)
            feed.check(stream)
            _is_whole(stream, feed)
        await eventually(lambda: sentinels.master is not former)
        for shard in (one.broker.shard(channel), two.broker.shard(channel)):
            assert shard.statistics().command_connects > 1
            assert shard.statistics().subscriber_connects > 1
        await eventually(lambda: _subscribers(sentinels.master) == 2)
        former.thaw() if fault is frozen else None


async def test_master_that_works_but_is_none_any_more_is_left(
    sentinels: SentinelSet, channel: str
) -> None:
    """No connection breaks, as where the former master was cut off from the sentinels alone."""
    async with node(sentinels.url, options=PATIENT) as one:
        await one.is_ready()
        stream = await one.subscribe(channel)
        sentinels.move_to(sentinels.servers[1])
        await eventually(lambda: _subscribers(sentinels.servers[1]) == 1)
        await eventually(lambda: stream.resets)
        await one.publish(channel, 1)
        await eventually(lambda: stream.data == [b"1"])


def _subscribers(server: RedisServer) -> int:
    return server.ask("CLIENT", "LIST", "TYPE", "pubsub").count(b":subscriber")


async def test_master_with_a_name_in_capitals_is_stayed_with() -> None:
    """As sentinels that announce names may tell; a URL holds it in small letters."""
    url = f"redis+sentinel://127.0.0.1/{SERVICE}"
    place = SentinelMaster(url, options=FAST, clock=time.monotonic, log=structlog.get_logger())
    place._set(Master(1, "Redis-0.Example", 6379))
    connection = FixedServer(place._url.master("Redis-0.Example", 6379)).make("test")
    leaving = asyncio.create_task(place.left(connection))
    for _ in range(2):
        await asyncio.sleep(0)
        assert not leaving.done()
        place._set(Master(1, "Redis-0.Example", 6379))
    place._set(Master(2, "Redis-1.Example", 6379))
    with pytest.raises(LostError, match="elsewhere"):
        await leaving


async def test_sentinels_that_are_away_are_not_needed(sentinels: SentinelSet, channel: str) -> None:
    for sentinel in sentinels.sentinels[:2]:
        sentinel.kill()
    async with node(sentinels.url) as one:
        await one.is_ready()
        stream = await one.subscribe(channel)
        sentinels.sentinels[2].kill()
        await one.publish(channel, 1)
        await eventually(lambda: stream.data == [b"1"])


async def test_no_sentinel_is_a_problem_that_names_them(channel: str) -> None:
    port = free_port()
    url = f"redis+sentinel://:s3cret@127.0.0.1:{port}/{SERVICE}"
    async with node(url, options=replace(FAST, connect_timeout_seconds=0.2)) as one:
        await eventually(lambda: "no sentinel tells" in one.broker.problems()[0])
        assert f"127.0.0.1:{port}/{SERVICE}" in one.broker.problems()[0]
        assert "s3cret" not in str((one.broker.problems(), one.logged))


def test_passwords_of_servers_and_of_sentinels_are_told_apart() -> None:
    url = urls.parse_sentinel(
        "rediss+sentinel://me:p{w,x@a,[::1]:5/svc/2?sentinel_password=q&socket_read_size=9"
    )
    assert url.service == "svc"
    assert url.sentinels == [
        "rediss://:q@a:26379?socket_read_size=9",
        "rediss://:q@[::1]:5?socket_read_size=9",
    ]
    assert url.master("::2", 7) == "rediss://me:p{w,x@[::2]:7/2?socket_read_size=9"


@pytest.mark.parametrize(
    "url", ["redis+sentinel://a", "redis+sentinel://a,/svc", "redis+sentinel:///svc"]
)
def test_sentinels_without_a_service_are_a_wrong_setting(url: str) -> None:
    with pytest.raises(SettingsError, match="expected redis\\+sentinel"):
        urls.parse_sentinel(url)
