"""An epoch that was left is never served again, whatever a server says about itself.

Sentinel makes a former master a replica only some ten seconds after a failover. When it leads
again before that, it is the same process with the same name for its replication history, and
without anything that the other one took in between.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
from msgspec import structs
from redis import Redis
from redis.exceptions import ResponseError

from hub.brokers.redis.keys import Keys
from hub.brokers.redis.options import RedisOptions
from hub.core.publication import Position
from hub.core.recovery.start import start
from hub.errors import HubError
from tests.brokers.redis.acl import PASSWORD, PUBLISHER_RULES
from tests.brokers.redis.nodes import FAST, Stream, TestNode, node
from tests.brokers.redis.test_redis_failures import KEEPS_ALL, Feed, arrives, feeding
from tests.support.redis_sentinel import SentinelSet
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

# A node of production asks the sentinels once a second.
USUAL = replace(
    FAST,
    command_timeout_seconds=2.0,
    connect_timeout_seconds=3.0,
    canary_deadline_seconds=30.0,
)
SCRIPTS = replace(FAST, use_functions=False)
# Sentinels agree, promote, and try again where that takes too long.
FAILOVER_SECONDS = 45.0


@dataclass
class Watched(Stream):
    """A stream that never comes back to an epoch that it has left."""

    left: set[str] = field(default_factory=set)

    def add(self, item: object) -> None:
        if isinstance(item, Position):
            assert self.head is not None
            self.left.add(self.head.epoch)
            assert item.epoch not in self.left, f"back in {item.epoch}"
        super().add(item)  # type: ignore[arg-type]


async def watch(one: TestNode, channel: str) -> Watched:
    stream = Watched()

    def on_open(head: Position) -> None:
        stream.open(head)
        one.streams[channel] = stream

    await one.broker.subscribe(channel, on_open)
    return stream


async def resumes_whole(one: TestNode, channel: str, since: Position) -> bool:
    """Whether who comes from there is told that it misses nothing."""
    page = await one.broker.history(channel, since.offset, 1)
    return start(since=since, last=None, head=page.head, oldest=page.oldest).recovered


def _leads(redis: SentinelSet, server: RedisServer) -> bool:
    redis.insist()
    return redis.master is server


async def _fails_over(redis: SentinelSet, to: RedisServer) -> None:
    redis.fail_over()
    await eventually(partial(_leads, redis, to), seconds=FAILOVER_SECONDS)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("guarded", [False, True], ids=["alone", "min-replicas-to-write 1"])
async def test_planned_failover_there_and_back(channel: str, guarded: bool) -> None:
    """At Sentinel's own timing; the second one comes while A has not been demoted yet."""
    channel = f"deep:{channel}"
    good = "1" if guarded else "0"
    with SentinelSet(hurried=False, min_replicas_to_write=good) as redis:
        first, second = redis.servers
        async with (
            node(redis.url, options=USUAL, namespaces=KEEPS_ALL) as one,
            node(redis.url, options=USUAL, namespaces=KEEPS_ALL) as two,
        ):
            streams = [await watch(one, channel), await watch(two, channel)]
            async with feeding(one, channel) as feed:
                await feed.runs()
                at_first = list(feed.made)[-1]
                moved_at = time.monotonic()
                await _fails_over(redis, second)
                if not guarded:
                    await eventually(lambda: all(stream.resets for stream in streams))
                    await feed.runs()
                at_second = [p for p in feed.made if p.epoch != at_first.epoch]
                await asyncio.sleep(max(0.0, moved_at + 4 - time.monotonic()))
                await _fails_over(redis, first)
                # Nearly always it was never demoted; on a busy machine that may have been too slow.
                former = {at_first.epoch, *(position.epoch for position in at_second)}
                for stream in streams:
                    await eventually(partial(_is_beyond, stream, former), seconds=FAILOVER_SECONDS)
                await feed.runs()
            async with node(redis.url, options=USUAL, namespaces=KEEPS_ALL) as anew:
                for stream in streams:
                    await arrives(stream, feed)
                    _is_told(stream, feed)
                for left in (at_first, *at_second[-1:]):
                    for each in (one, two, anew):
                        assert not await resumes_whole(each, channel, left)


def _is_beyond(stream: Watched, former: set[str]) -> bool:
    return stream.head is not None and stream.head.epoch > max(former)


def _is_told(stream: Watched, feed: Feed) -> None:
    """All of each epoch that it was in, as far as it was there."""
    assert stream.head is not None
    newest = {position for position in feed.made if position.epoch == stream.head.epoch}
    assert newest <= set(stream.seen)
    assert not stream.gaps, "history held it"


async def test_two_masters_take_turns_by_hand(channel: str) -> None:
    """Operators who take a master out of the sentinels' view have these count from 0 again."""
    with SentinelSet() as redis:
        first, second = redis.servers
        async with node(redis.url, options=USUAL, namespaces=KEEPS_ALL) as one:
            stream = await watch(one, channel)
            made = [await one.publish(channel, 0)]
            for number, server in enumerate((second, first, second, first), 1):
                redis.move_to(server)
                await eventually(partial(_has_resets, stream, number))
                made.append(await one.publish(channel, number))
                await eventually(partial(_has_got, stream, b"%d" % number))
            assert len({result.position.epoch for result in made}) == 5


def _has_resets(stream: Stream, count: int) -> bool:
    return len(stream.resets) == count


def _has_got(stream: Stream, data: bytes) -> bool:
    return stream.data[-1:] == [data]


# Hears nothing of a failover by itself, and waits long for an answer.
UNAWARE = replace(
    USUAL, sentinel_seconds=1000.0, command_timeout_seconds=30.0, connect_timeout_seconds=20.0
)


async def _answered_at(one: TestNode, channel: str, until: str) -> list[Position]:
    """Publish until something is numbered in another epoch; all that was answered."""
    made: list[Position] = []

    async def is_there() -> bool:
        try:
            made.append((await one.publish(channel, 7)).position)
        except HubError:
            return False
        return made[-1].epoch != until

    await eventually(is_there, seconds=FAILOVER_SECONDS)
    return made


@pytest.mark.timeout(240)
async def test_node_that_has_not_noticed_a_failover_takes_nothing_after_others_left(
    channel: str,
) -> None:
    """The quick node tells the old master that it leaves, so that the master accepts
    nothing that nobody would hear."""
    with SentinelSet() as redis:
        # Nobody makes it a replica.
        redis.be_patient(milliseconds=60_000)
        async with (
            node(redis.url, options=UNAWARE) as slow,
            node(redis.url, options=USUAL) as quick,
        ):
            stream = await watch(quick, channel)
            left = (await slow.publish(channel, 0)).position.epoch
            async with feeding(slow, channel) as feed:
                await feed.runs()
                await _fails_over(redis, redis.servers[1])
                await eventually(lambda: stream.resets)
                taken = len(feed.made)
                await eventually(lambda: len(feed.made) > taken + 10, seconds=FAILOVER_SECONDS)
            after = list(feed.made)[taken:]
            assert {position.epoch for position in after} == {stream.resets[0].epoch}
            assert left != stream.resets[0].epoch
            await arrives(stream, feed)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("asked", ["while it is frozen", "when it wakes"])
async def test_master_that_wakes_after_others_left_takes_nothing(channel: str, asked: str) -> None:
    """The answers of the old master do not count, because its publications reach nobody."""
    with SentinelSet() as redis:
        first = redis.master
        async with (
            node(redis.url, options=UNAWARE) as slow,
            node(redis.url, options=USUAL) as quick,
        ):
            stream = await watch(quick, channel)
            left = (await slow.publish(channel, 1)).position.epoch
            first.freeze()
            await eventually(lambda: redis.master is not first, seconds=FAILOVER_SECONDS)
            await eventually(lambda: stream.resets, seconds=FAILOVER_SECONDS)
            waiting = asyncio.create_task(_answered_at(slow, channel, left))
            if asked == "while it is frozen":
                await eventually(lambda: slow.broker.shards()[0].calls.pending > 1)
            first.thaw()
            made = await waiting
            assert {position.epoch for position in made} == {stream.resets[0].epoch}


@pytest.mark.timeout(240)
async def test_master_that_wakes_while_a_node_connects_is_none(channel: str) -> None:
    """The sentinels named it when the node began."""
    with SentinelSet() as redis:
        first = redis.master
        async with node(redis.url, options=USUAL) as quick:
            stream = await watch(quick, channel)
            left = (await quick.publish(channel, 1)).position.epoch
            first.freeze()
            starting = asyncio.create_task(_starts(redis, channel, left))
            await eventually(lambda: redis.master is not first, seconds=FAILOVER_SECONDS)
            await eventually(lambda: stream.resets, seconds=FAILOVER_SECONDS)
            first.thaw()
            made = await starting
            assert {position.epoch for position in made} == {stream.resets[0].epoch}


async def _starts(redis: SentinelSet, channel: str, left: str) -> list[Position]:
    async with node(redis.url, options=UNAWARE) as late:
        return await _answered_at(late, channel, left)


# -- what a server is told -----------------------------------------------------------------------


class Asked:
    """The functions of one server, as nodes call them."""

    def __init__(self, hub: TestNode, channel: str) -> None:
        self._commands = hub.broker.shards()[0].calls
        self._line = Keys().line()
        self._channel = channel

    async def call(self, name: str, *arguments: str | int) -> object:
        return await self._commands.run_function(name, (self._line, self._line), arguments)

    async def enter(self, met: str = "", config: int | str = "") -> str:
        name = await self.call("enter_line", 1000 * 3600, met, config)
        assert isinstance(name, bytes)
        return name.decode()


@contextlib.asynccontextmanager
async def asked(
    redis: RedisServer, channel: str, options: RedisOptions
) -> AsyncGenerator[tuple[Asked, TestNode]]:
    async with node(redis.url, options=options) as one:
        await one.is_ready()
        yield Asked(one, channel), one


both = pytest.mark.parametrize("options", [FAST, SCRIPTS], ids=["functions", "scripts"])


@both
async def test_line_goes_on_for_who_has_met_none_later(
    redis: RedisServer, channel: str, options: RedisOptions
) -> None:
    async with asked(redis, channel, options) as (server, one):
        stream = await watch(one, channel)
        name = await server.enter(config=3)
        for met, config in (("", ""), (name, 3), ("00000001-aaaaaaaa", 2), ("", 0)):
            assert await server.enter(met, config) == name
        await one.publish(channel, 1)
        await eventually(lambda: stream.data)
        assert not stream.resets


@both
@pytest.mark.parametrize("hint", ["later line", "another line", "failover"])
async def test_epoch_ends_where_others_went_on_in_between(
    redis: RedisServer, channel: str, options: RedisOptions, hint: str
) -> None:
    """The next call about the channel begins a new epoch, whichever client makes it."""
    async with asked(redis, channel, options) as (server, one):
        stream = await watch(one, channel)
        name = await server.enter(config=3)
        before = await one.publish(channel, 1)
        digits = name.partition("-")[0]
        shown = {
            "later line": ("ffffff00-aaaaaaaa", 3),
            "another line": (f"{digits}-aaaaaaaa", 3),
            "failover": ("", 5),
        }[hint]
        later = await server.enter(*shown)
        assert later > max(name, shown[0])
        assert later == await server.enter(*shown)
        after = await one.publish(channel, 2)
        assert after.position.epoch > before.position.epoch
        assert after.position.offset == 1
        await eventually(lambda: stream.data == [b"1", b"2"])
        assert len(stream.resets) == 1


@both
async def test_server_that_was_left_takes_nothing_from_who_has_not_noticed(
    redis: RedisServer, channel: str, options: RedisOptions
) -> None:
    """The server takes nothing until it is made the master again, or, because nobody
    may say so, for a while."""
    async with asked(redis, channel, options) as (server, one):
        await server.enter(config=3)
        before = await one.publish(channel, 1)
        await server.call("leave_line", 3, 60)
        await one.publish(channel, 2)
        await server.call("leave_line", 4, 60)
        with pytest.raises(HubError):
            await one.publish(channel, 3)
        with pytest.raises(HubError):
            await one.broker.history(channel, 0, 1)
        with Redis(port=redis.port, protocol=2) as client:
            if options.use_functions:
                with pytest.raises(ResponseError, match="LEFT"):
                    client.fcall(
                        "hub_publish", 2, f"hub:{{{channel}}}:meta", f"hub:{{{channel}}}:log", "3"
                    )
            client.hset(Keys().line(), "until", 1)
        after = await _publishes(one, channel)
        assert after.epoch > before.position.epoch


async def _publishes(one: TestNode, channel: str) -> Position:
    async def published() -> Position | None:
        try:
            return (await one.publish(channel, 4)).position
        except HubError:
            return None

    position = await eventually(published)
    assert position is not None
    return position


async def test_publisher_that_reaches_only_its_channels_begins_epochs_that_last(
    redis: RedisServer,
) -> None:
    """Such a publisher may not read the server's line; a node that may read it
    finds what was published."""
    names = ("prices", "orders:1")
    rules = [rule for rule in PUBLISHER_RULES if rule not in {"on", f">{PASSWORD}"}]
    assert redis.ask("ACL", "SETUSER", "shop", "on", "nopass", *rules) == b"+OK\r\n"
    async with asked(redis, names[0], FAST) as (server, one):
        with Redis(port=redis.port, protocol=2, username="shop", password="x") as client:

            def publish(channel: str) -> Position:
                keys = (Keys().meta(channel), Keys().log(channel))
                answer = client.fcall("hub_publish", 2, *keys, "1")
                assert isinstance(answer, list)
                return Position(answer[0].decode(), answer[1])

            for number, name in enumerate(names):
                first = publish(name)
                stream = await watch(one, name)
                assert stream.head == first
                assert len((await one.broker.history(name, 0, 9)).publications) == 1
                await server.enter(f"ffffff{number}0-aaaaaaaa")
                later = (await one.publish(name, 2)).position
                assert later.epoch > first.epoch
                assert publish(name) == structs.replace(later, offset=2)
                await eventually(partial(_has_got, stream, b"1"))


async def test_nodes_of_before_keep_their_epochs(redis: RedisServer, channel: str) -> None:
    """A roll-out resets nobody: an epoch without a term belongs to the first line of the data."""
    async with node(redis.url) as one:
        stream = await watch(one, channel)
        await one.publish(channel, 1)
        with Redis(port=redis.port, protocol=2) as client:
            client.delete(Keys().line())
            client.hset(Keys().meta(channel), "epoch", "0123456789ab")
        await eventually(lambda: stream.resets)
        assert stream.resets == [Position("0123456789ab", 0)]
        assert (await one.publish(channel, 2)).position == Position("0123456789ab", 2)


# -- what was answered in an epoch that has ended --------------------------------------------------


@pytest.fixture
def durable() -> Iterator[RedisServer]:
    with RedisServer(appendonly="yes") as server:
        yield server


@both
async def test_retry_after_a_restart_with_data_is_published_again(
    durable: RedisServer, channel: str, options: RedisOptions
) -> None:
    """Its first answer names an epoch that nobody reads any more."""
    async with node(durable.url, options=options) as one:
        stream = await watch(one, channel)
        first = await one.publish(channel, 1, idempotency_key="k")
        assert (await one.publish(channel, 1, idempotency_key="k")).duplicate
        await eventually(lambda: stream.data)
        await asyncio.to_thread(durable.restart)
        await one.is_ready()
        await eventually(lambda: stream.resets)
        again = await one.publish(channel, 1, idempotency_key="k")
        assert not again.duplicate
        assert again.position.epoch != first.position.epoch
        await eventually(lambda: stream.data == [b"1", b"1"])
        assert (await one.publish(channel, 1, idempotency_key="k")).position == again.position
