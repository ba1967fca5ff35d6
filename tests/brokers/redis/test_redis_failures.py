"""A stream of publications while Redis or the way to it fails.

`Stream` proves order and that nothing comes twice or is skipped; here: that everything that was
published is there, and that nothing is announced as lost that history holds.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
from redis import Redis

from hub.core.options import ChannelOptions
from hub.core.publication import Position
from hub.errors import NotPublishedError, OutcomeUnknownError
from tests.brokers.redis.nodes import FAST, Stream, TestNode, node
from tests.brokers.redis.proxy import proxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

KEEPS_ALL = {"deep": ChannelOptions(history_size=100_000)}
KEEPS_NONE = {"bare": ChannelOptions(history_size=0)}


@dataclass
class Feed:
    """Publishes 0, 1, 2, ... again and again, until the end of `feeding`."""

    publisher: TestNode
    channel: str
    made: dict[Position, bytes] = field(default_factory=dict)
    """The publications that the broker acknowledged."""
    unknown: set[bytes] = field(default_factory=set)
    refused: int = 0
    number: int = 0
    stopping: bool = False

    async def run(self) -> None:
        while not self.stopping:
            await asyncio.gather(*(self._publish() for _ in range(5)))
            await asyncio.sleep(0.001)

    async def _publish(self) -> None:
        self.number += 1
        data = b"%d" % self.number
        try:
            result = await self.publisher.publish(self.channel, data)
        except NotPublishedError:
            self.refused += 1
        except OutcomeUnknownError:
            self.unknown.add(data)
        else:
            assert result.position not in self.made
            self.made[result.position] = data

    async def runs(self, count: int = 50) -> None:
        """Wait until so many more publications were taken."""
        goal = len(self.made) + count
        await eventually(lambda: len(self.made) >= goal, what=f"{count} publications")

    def check(self, stream: Stream) -> None:
        """Checks that the stream has only what was published at each position, and
        nothing that was refused."""
        published = set(self.made.values()) | self.unknown
        for position, data in stream.seen.items():
            assert self.made.get(position, data) == data
            assert data in published
        assert len(set(stream.seen.values())) == len(stream.seen)


@contextlib.asynccontextmanager
async def feeding(publisher: TestNode, channel: str) -> AsyncGenerator[Feed]:
    feed = Feed(publisher, channel)
    task = asyncio.create_task(feed.run())
    try:
        yield feed
    finally:
        feed.stopping = True
        await task


async def arrives(stream: Stream, feed: Feed) -> None:
    """Wait until the stream has come as far as the newest publication."""
    await feed.publisher.is_ready()
    feed.number += 1
    last = await feed.publisher.publish(feed.channel, feed.number)
    feed.made[last.position] = b"%d" % feed.number
    await eventually(lambda: stream.head == last.position, what=f"{last.position} at {stream.head}")


def publish_blocking(redis: RedisServer, channel: str, items: Sequence[bytes]) -> None:
    """Publish as any Redis client may, in one pipeline."""
    stem = f"hub:{{{channel}}}"
    with Redis(port=redis.port, protocol=2) as client, client.pipeline(transaction=False) as calls:
        for data in items:
            calls.fcall("hub_publish", 2, f"{stem}:meta", f"{stem}:log", data)
        calls.execute()


def kill_subscribers(redis: RedisServer) -> None:
    redis.ask("CLIENT", "KILL", "TYPE", "pubsub")


def kill_everybody(redis: RedisServer) -> None:
    redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
    redis.ask("CLIENT", "KILL", "TYPE", "normal")


@pytest.mark.parametrize("cut", [kill_subscribers, kill_everybody])
async def test_connections_cut_in_a_stream_cost_nothing_that_history_holds(
    redis: RedisServer, channel: str, cut: Callable[[RedisServer], None]
) -> None:
    channel = f"deep:{channel}"
    async with (
        node(redis.url, namespaces=KEEPS_ALL) as one,
        node(redis.url, namespaces=KEEPS_ALL) as two,
    ):
        streams = [await one.subscribe(channel), await two.subscribe(channel)]
        async with feeding(one, channel) as feed:
            for _ in range(5):
                await feed.runs()
                cut(redis)
            await feed.runs()
        for stream in streams:
            await arrives(stream, feed)
            feed.check(stream)
            assert not stream.gaps
            assert not stream.resets
            assert set(feed.made) <= set(stream.seen)
        assert two.broker.statistics()[0].subscriber_connects > 1


async def test_publications_that_a_cut_loses_without_history_are_announced_and_no_others(
    redis: RedisServer, channel: str
) -> None:
    channel = f"bare:{channel}"
    async with (
        node(redis.url, namespaces=KEEPS_NONE) as one,
        node(redis.url, namespaces=KEEPS_NONE) as two,
    ):
        stream = await two.subscribe(channel)
        async with feeding(one, channel) as feed:
            for _ in range(5):
                await feed.runs()
                kill_subscribers(redis)
            await feed.runs()
        await arrives(stream, feed)
        feed.check(stream)
        assert stream.lost, "a cut of 5 connections in a stream lost nothing"
        offsets = {position.offset for position in stream.seen}
        assert not offsets & stream.lost
        assert {position.offset for position in feed.made} <= offsets | stream.lost


async def test_frozen_redis_makes_the_node_unready_and_loses_nothing(
    redis: RedisServer, channel: str
) -> None:
    channel = f"deep:{channel}"
    async with (
        node(redis.url, namespaces=KEEPS_ALL) as one,
        node(redis.url, namespaces=KEEPS_ALL) as two,
    ):
        stream = await two.subscribe(channel)
        await one.is_ready()
        async with feeding(one, channel) as feed:
            await feed.runs()
            redis.freeze()
            await eventually(lambda: one.broker.problems() and two.broker.problems())
            assert "no canary" in two.broker.problems()[0]
            # What was on its way is unknown; everything after that is refused at once.
            await eventually(lambda: feed.unknown and feed.refused > 20)
            redis.thaw()
            await feed.runs()
        await arrives(stream, feed)
        feed.check(stream)
        assert not stream.gaps
        assert not stream.resets
        assert set(feed.made) <= set(stream.seen)
        await two.is_ready()


@pytest.mark.parametrize("empty", [True, False])
async def test_killed_and_restarted_redis_gives_one_reset(channel: str, empty: bool) -> None:
    channel = f"deep:{channel}"
    with RedisServer(appendonly="yes", appendfsync="always") as redis:
        async with (
            node(redis.url, namespaces=KEEPS_ALL) as one,
            node(redis.url, namespaces=KEEPS_ALL) as two,
        ):
            stream = await two.subscribe(channel)
            async with feeding(one, channel) as feed:
                await feed.runs()
                redis.kill()
                await eventually(lambda: feed.refused > 20)
                redis.restart(empty=empty)
                await feed.runs()
            await arrives(stream, feed)
            feed.check(stream)
            assert len(stream.resets) == 1
            assert not stream.gaps
            new = {position for position in feed.made if position.epoch == stream.resets[0].epoch}
            assert min(position.offset for position in new) == 1
            assert new <= set(stream.seen)


async def test_subscriber_over_its_output_buffer_limit_catches_up(channel: str) -> None:
    """Redis cuts a subscriber that reads too slowly, and history fills what it had not read."""
    channel = f"deep:{channel}"
    data = b'"' + b"x" * 20_000 + b'"'
    with RedisServer(client_output_buffer_limit="pubsub 64kb 64kb 1") as redis:
        async with (
            node(redis.url, namespaces=KEEPS_ALL) as two,
        ):
            stream = await two.subscribe(channel)
            # Not awaited: this node reads nothing meanwhile, and 20 MB are more than the
            # kernel takes in.
            publish_blocking(redis, channel, [data] * 1000)
            await eventually(lambda: len(stream.data) == 1000)
            assert not stream.gaps
            assert two.broker.statistics()[0].subscriber_connects > 1


async def test_redis_that_is_down_at_the_start_is_joined_when_it_comes(channel: str) -> None:
    with RedisServer() as redis:
        redis.kill()
        async with node(redis.url) as one:
            assert one.broker.problems()
            with pytest.raises(NotPublishedError):
                await one.publish(channel, 1)
            redis.start()
            await one.is_ready()
            assert (await one.publish(channel, 1)).position.offset == 1


async def test_deaf_subscriber_is_noticed_and_made_anew(redis: RedisServer, channel: str) -> None:
    """The connection is open and answers nothing, while commands go on beside it."""
    async with proxy(redis.port) as between, node(between.url) as one:
        await one.is_ready()
        stream = await one.subscribe(channel)
        between.make_subscribers_deaf()
        await one.publish(channel, 1)
        await eventually(one.broker.problems, what="a problem")
        await eventually(lambda: stream.data == [b"1"], what="what the deaf connection missed")
        await one.is_ready()
        assert not stream.gaps
        assert one.broker.statistics()[0].command_connects == 1


async def test_subscriber_left_behind_on_a_former_master_is_noticed_at_once(
    redis: RedisServer, channel: str
) -> None:
    """Commands go to another server already; no deadline has to pass to see that."""
    patient = replace(FAST, canary_deadline_seconds=60, reconcile_seconds=60)
    with RedisServer() as successor:
        async with proxy(redis.port) as between, node(between.url, options=patient) as one:
            await one.is_ready()
            stream = await one.subscribe(channel)
            between.target = successor.port
            redis.ask("CLIENT", "KILL", "TYPE", "normal")
            await eventually(lambda: stream.resets, what="the successor's epoch")
            await one.publish(channel, 1)
            await eventually(lambda: stream.data == [b"1"])
            await eventually(
                lambda: one.broker.statistics()[0].subscriber_connects == 2,
                what="the subscriber's move",
            )


async def test_subscriber_that_is_back_before_commands_is_compared_when_they_are(
    redis: RedisServer, channel: str
) -> None:
    patient = replace(FAST, reconcile_seconds=60)
    async with (
        proxy(redis.port) as between,
        node(between.url, options=patient) as one,
        node(redis.url) as two,
    ):
        stream = await one.subscribe(channel)
        between.refused = b":commands"
        between.close()
        await two.publish(channel, 1)
        shard = one.broker.shard(channel)
        await eventually(lambda: one.broker.statistics()[0].subscriber_connects == 2)
        await eventually(lambda: channel.encode() in redis.ask("PUBSUB", "CHANNELS"))
        assert shard.calls.trouble
        between.refused = None
        await eventually(lambda: stream.data == [b"1"])


async def test_reconnecting_many_channels_reconciles_each(redis: RedisServer) -> None:
    names = [f"deep:{n}" for n in range(1000)]
    async with (
        node(redis.url, namespaces=KEEPS_ALL) as one,
        node(redis.url, namespaces=KEEPS_ALL, options=replace(FAST, reconcile_seconds=60)) as two,
    ):
        streams = await asyncio.gather(*(two.subscribe(name) for name in names))
        kill_subscribers(redis)
        await asyncio.gather(*(one.publish(name, 7) for name in names))
        await eventually(lambda: all(stream.data == [b"7"] for stream in streams))
        assert not any(stream.gaps for stream in streams)
