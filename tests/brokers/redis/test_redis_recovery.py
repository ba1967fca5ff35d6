"""Pub/sub loses messages silently: a node finds holes and tails, and channels that come and go."""

import asyncio
from dataclasses import replace

from redis import Redis

from hub.core.options import ChannelOptions
from hub.core.pushes import Gap, GapReason
from tests.brokers.redis.nodes import FAST, node
from tests.brokers.redis.proxy import proxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

DEEP = {"deep": ChannelOptions(history_size=1000)}
BARE = {"bare": ChannelOptions(history_size=0)}


def publish_unheard(redis: RedisServer, channel: str, *, kept: bool) -> None:
    """Do what publishing does, except for the PUBLISH: as if a subscriber had missed it."""
    stem = f"hub:{{{channel}}}"
    with Redis(port=redis.port, protocol=2) as client:
        epoch = client.hget(f"{stem}:meta", "epoch")
        assert isinstance(epoch, bytes)
        offset = client.hincrby(f"{stem}:meta", "offset", 1)
        if kept:
            message = b"%s\n%d\n%d\n\n%d" % (epoch, offset, 10**13, offset)
            client.xadd(f"{stem}:log", {"m": message}, id=f"{offset}-0")


async def test_hole_is_filled_from_history_before_what_follows(
    redis: RedisServer, channel: str
) -> None:
    channel = f"deep:{channel}"
    async with node(redis.url, namespaces=DEEP) as one:
        stream = await one.subscribe(channel)
        await one.publish(channel, 1)
        for _ in range(200):
            publish_unheard(redis, channel, kept=True)
        await one.publish(channel, 202)
        await eventually(lambda: len(stream.data) == 202)
        assert stream.data == [b"%d" % n for n in range(1, 203)]
        assert not stream.gaps


async def test_hole_that_history_does_not_have_is_announced_exactly(
    redis: RedisServer, channel: str
) -> None:
    async with node(redis.url) as one:
        stream = await one.subscribe(channel)
        await one.publish(channel, 1)
        for kept in (False, False, True):
            publish_unheard(redis, channel, kept=kept)
        await one.publish(channel, 5)
        await eventually(lambda: len(stream.data) == 3)
        epoch = stream.head.epoch if stream.head else ""
        assert stream.gaps == [Gap(channel, epoch, 2, 3, GapReason.BROKER)]
        assert stream.data == [b"1", b"4", b"5"]


async def test_lost_tail_is_found_though_nothing_follows(redis: RedisServer, channel: str) -> None:
    bare = f"bare:{channel}"
    async with node(redis.url, namespaces=BARE) as one:
        kept_stream, bare_stream = await one.subscribe(channel), await one.subscribe(bare)
        publish_unheard(redis, channel, kept=True)
        publish_unheard(redis, bare, kept=False)
        await eventually(lambda: kept_stream.items and bare_stream.items)
        assert kept_stream.data == [b"1"]
        assert [(gap.first, gap.last) for gap in bare_stream.gaps] == [(1, 1)]


async def test_channel_that_redis_refuses_does_not_hold_up_the_others(
    redis: RedisServer, channel: str
) -> None:
    """Something else stands under its key; a lost tail of another one is found all the same."""
    async with node(redis.url) as one:
        await one.subscribe(f"broken-{channel}")
        stream = await one.subscribe(channel)
        redis.ask("SET", f"hub:{{broken-{channel}}}:meta", "no hash")
        publish_unheard(redis, channel, kept=True)
        await eventually(lambda: stream.data == [b"1"])


async def test_calm_hub_announces_nothing_while_it_compares(
    redis: RedisServer, channel: str
) -> None:
    """Without history a head that runs ahead of pub/sub must not pass for a loss."""
    bare = f"bare:{channel}"
    async with (
        node(redis.url, namespaces=BARE) as one,
        node(redis.url, namespaces=BARE) as two,
    ):
        streams = [await one.subscribe(bare), await two.subscribe(bare)]
        tracker = two.broker.shard(bare).channels.tracker(bare)
        assert tracker is not None
        for _ in range(100):
            publishing = [one.publish(bare, n) for n in range(20)]
            two.broker.shard(bare).poke(tracker)
            await asyncio.gather(*publishing)
        await eventually(lambda: all(len(stream.data) == 2000 for stream in streams))
        assert not any(stream.gaps for stream in streams)


async def test_publications_still_on_their_way_are_not_announced_as_lost(
    redis: RedisServer, channel: str
) -> None:
    """The head is known sooner than what led to it, and no history could tell."""
    channel = f"bare:{channel}"
    async with proxy(redis.port) as between, node(between.url, namespaces=BARE) as one:
        stream = await one.subscribe(channel)
        shard = one.broker.shard(channel)
        tracker = shard.channels.tracker(channel)
        assert tracker is not None
        between.hold_subscribers()
        await one.publish(channel, 1)
        comparing = asyncio.ensure_future(shard._backfill.compare([tracker]))
        await eventually(lambda: comparing.done() or shard._pubsub._barriers)
        between.release_subscribers()
        await comparing
        await eventually(lambda: stream.items)
        assert stream.data == [b"1"]


async def test_subscription_starts_at_the_head_and_misses_nothing_after_it(
    redis: RedisServer, channel: str
) -> None:
    async with node(redis.url) as one, node(redis.url) as two:
        publishing = asyncio.gather(*(one.publish(channel, n) for n in range(1000)))
        stream = await two.subscribe(channel)
        await publishing
        assert stream.head is not None
        await eventually(lambda: stream.head is not None and stream.head.offset == 1000)
        assert len(stream.data) == len(stream.items)


async def test_the_head_is_given_to_one_of_several_callers(
    redis: RedisServer, channel: str
) -> None:
    async with node(redis.url) as one:
        heads: list[object] = []
        waiting = [
            asyncio.ensure_future(one.broker.subscribe(channel, heads.append)) for _ in "abc"
        ]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.gather(*waiting[1:])
        assert len(heads) == 1
        await one.broker.subscribe(channel, heads.append)
        assert len(heads) == 2


async def test_channel_without_sessions_is_left_after_a_while(
    redis: RedisServer, channel: str
) -> None:
    async with node(redis.url) as one:
        await one.subscribe(channel)
        one.unsubscribe(channel)
        assert channel in one.broker.names()
        stream = await one.subscribe(channel)
        await one.publish(channel, 1)
        await eventually(lambda: stream.data == [b"1"])
        one.unsubscribe(channel)
        await eventually(lambda: channel not in one.broker.names())
        await eventually(lambda: channel.encode() not in redis.ask("PUBSUB", "CHANNELS"))
        again = await one.subscribe(channel)
        await one.publish(channel, 2)
        await eventually(lambda: again.data == [b"2"])


async def test_channel_that_is_left_and_taken_at_once_opens(
    redis: RedisServer, channel: str
) -> None:
    """Redis is told of neither, so it confirms nothing; nor need a comparison come first."""
    async with node(redis.url, options=replace(FAST, reconcile_seconds=60)) as one:
        await one.subscribe(channel)
        one.unsubscribe(channel)
        one.broker.shard(channel).channels._forget(f"hub:{{{channel}}}".encode())
        again = await one.subscribe(channel)
        await one.publish(channel, 1)
        await eventually(lambda: again.data == [b"1"])


async def test_caller_that_gives_up_leaves_nothing_behind(redis: RedisServer, channel: str) -> None:
    async with node(redis.url) as one:
        await one.is_ready()
        waiting = asyncio.ensure_future(one.subscribe(channel))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert not one.broker.names()
        await eventually(lambda: channel.encode() not in redis.ask("PUBSUB", "CHANNELS"))
