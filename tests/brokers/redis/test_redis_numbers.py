"""Operators see counts of the broker's events, and its state now."""

from dataclasses import replace

import pytest
from redis import Redis

from hub.core.node_records import BrokerRecord
from hub.errors import HubError, NotPublishedError
from tests.brokers.redis.nodes import FAST, node
from tests.brokers.redis.test_redis_recovery import BARE, DEEP, publish_unheard
from tests.support.redis_server import RedisServer, free_port
from tests.support.waiting import eventually


async def test_a_calm_broker_shows_that_it_is_calm(redis: RedisServer, channel: str) -> None:
    """Canaries come back, nothing waits, no call failed, and what came is counted with its lag."""
    async with node(redis.url) as one, node(redis.url) as two:
        await two.subscribe(channel)
        await one.is_ready()
        await two.is_ready()
        # Before there was a connection, canaries were not sent.
        errors = one.counters.broker_call_errors.copy()
        for number in range(20):
            await one.publish(channel, number)
        await eventually(lambda: two.counters.broker_received == 20)
        shown = two.broker.record()
        assert replace(shown, canary_age_seconds=0, canary_round_trip_seconds=0) == BrokerRecord(
            servers=1, held_limit_bytes=FAST.hold_total_bytes, versions=shown.versions
        )
        assert 0 <= shown.canary_age_seconds < FAST.canary_deadline_seconds
        assert shown.canary_round_trip_seconds > 0
        assert sum(two.counters.broker_lag.buckets) == 20
        assert sum(one.counters.broker_calls.buckets) > 20
        assert one.counters.broker_call_errors == errors
        assert two.counters.broker_connects == {"commands": 1, "subscriber": 1}
        assert (two.counters.broker_holes, two.counters.broker_lost) == (0, 0)


async def test_the_version_of_redis_is_shown(redis: RedisServer) -> None:
    with Redis(port=redis.port, decode_responses=True) as client:
        version = client.info("server")["redis_version"]
    async with node(redis.url) as one:
        await one.is_ready()
        assert one.broker.record().versions == {version: 1}


async def test_publications_that_were_filled_in_and_those_that_were_lost_are_counted(
    redis: RedisServer, channel: str
) -> None:
    """The counts are of publications, so that an alert can say how many."""
    deep, bare = f"deep:{channel}", f"bare:{channel}"
    async with node(redis.url, namespaces=DEEP | BARE) as one:
        streams = [await one.subscribe(name) for name in (deep, bare)]
        for name in (deep, bare):
            await one.publish(name, 1)
            for _ in range(5):
                publish_unheard(redis, name, kept=name == deep)
            await one.publish(name, 7)
        await eventually(lambda: all(s.head and s.head.offset == 7 for s in streams))
        counters = one.counters
        assert counters.broker_holes >= 2
        # The seventh came twice, by pub/sub and with the page.
        assert counters.broker_filled in {6, 7}
        assert counters.broker_lost == 5
        assert one.broker.record().held_bytes == 0


async def test_a_broker_that_is_away_shows_as_refusing_and_deaf(
    redis: RedisServer, channel: str
) -> None:
    """Calls count as not sent; when Redis is back both connections have been made anew."""
    async with node(redis.url) as one:
        await one.is_ready()
        redis.kill()

        def is_away() -> bool:
            shown = one.broker.record()
            return (shown.refusing_servers, shown.deaf_servers) == (1, 1)

        await eventually(is_away)
        assert one.broker.record().canary_age_seconds > FAST.canary_deadline_seconds
        before = one.counters.broker_call_errors["not_sent"]
        with pytest.raises(NotPublishedError):
            await one.publish(channel, 1)
        assert one.counters.broker_call_errors["not_sent"] > before
        redis.restart(empty=True)
        await one.is_ready()
        await eventually(lambda: one.broker.record().refusing_servers == 0)
        assert one.counters.broker_connects["commands"] >= 2
        assert one.counters.broker_connects["subscriber"] >= 2


async def test_a_broker_that_was_never_there_grows_old_too() -> None:
    """The age of a canary that none has heard counts from the start: an alert must not wait."""
    async with node(f"redis://127.0.0.1:{free_port()}") as one:
        deadline_seconds = FAST.canary_deadline_seconds
        await eventually(lambda: one.broker.record().canary_age_seconds > deadline_seconds)
        assert one.broker.record().deaf_servers == 1


async def test_calls_without_an_answer_and_refused_ones_are_told_apart(
    redis: RedisServer, channel: str
) -> None:
    async with node(redis.url) as one:
        await one.is_ready()
        redis.ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(HubError):
            await one.publish(channel, 1)
        assert one.counters.broker_call_errors["refused"] == 1
        redis.ask("CONFIG", "SET", "maxmemory", "0")
        redis.freeze()
        with pytest.raises(HubError):
            await one.publish(channel, 1)
        redis.thaw()
        assert one.counters.broker_call_errors["no_answer"] >= 1


async def test_a_new_epoch_is_counted(redis: RedisServer, channel: str) -> None:
    async with node(redis.url) as one:
        stream = await one.subscribe(channel)
        redis.restart(empty=True)
        await eventually(lambda: stream.resets)
        assert one.counters.broker_resets == 1


async def test_a_publication_that_finds_no_room_is_counted_and_comes_all_the_same(
    redis: RedisServer, channel: str
) -> None:
    """The bound of the process costs memory nothing and subscribers nothing."""
    name = f"deep:{channel}"
    options = replace(FAST, hold_total_bytes=0)
    async with node(redis.url, namespaces=DEEP, options=options) as one:
        stream = await one.subscribe(name)
        publish_unheard(redis, name, kept=True)
        for number in range(2, 12):
            await one.publish(name, number)
        await eventually(lambda: len(stream.data) == 11)
        assert stream.data == [b"%d" % number for number in range(1, 12)]
        assert not stream.gaps
        assert one.counters.broker_hold_refused >= 1
