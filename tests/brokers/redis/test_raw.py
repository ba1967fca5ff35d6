"""Plain PUBLISH to `hub:raw:<channel>`, from clients that know nothing of the hub."""

import shutil
import subprocess

import pytest
from redis import Redis

from hub.core.options import ChannelOptions
from hub.core.publication import Publication
from hub.core.pushes import Gap, GapReason
from tests.brokers.redis.nodes import FAST, Item, TestNode, node
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

NAMESPACES = {"open": ChannelOptions(allow_raw=True)}


class Unsequenced:
    """A downstream that keeps what comes, in order."""

    def __init__(self, at: TestNode) -> None:
        self.items: list[Item] = []
        self._streams = at
        at.deliver = self.items.append  # type: ignore[method-assign, assignment]  # a spy
        at.lost = self.items.append  # type: ignore[method-assign, assignment]  # a spy

    @property
    def data(self) -> list[bytes]:
        return [item.data for item in self.items if isinstance(item, Publication)]


def receivers(redis: RedisServer, name: str) -> int:
    """How many connections would get what is published there."""
    with Redis(port=redis.port) as client:
        return int(client.execute_command("PUBSUB", "NUMSUB", name)[1])


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")
async def test_a_message_that_redis_cli_publishes_arrives_without_an_offset(
    redis: RedisServer,
) -> None:
    """The message has the time at which the node got it, and no position moves."""
    async with node(redis.url, namespaces=NAMESPACES) as one:
        got = Unsequenced(one)
        await one.subscribe("open:a")
        port = str(redis.port)
        command = ["redis-cli", "-p", port, "PUBLISH", "hub:raw:open:a", '{"eur":\n1.09}']
        told = subprocess.run(command, capture_output=True, timeout=10, check=True)
        assert told.stdout.strip() == b"1"
        await eventually(lambda: got.items)
        (item,) = got.items
        assert isinstance(item, Publication)
        assert (item.channel, item.offset, item.data) == ("open:a", 0, b'{"eur": 1.09}')
        assert item.time_ms > 1_600_000_000_000
        assert (await one.publish("open:a", 1)).offset == 1


async def test_every_node_gets_it_as_often_as_it_was_sent(redis: RedisServer) -> None:
    """Equal ones are not duplicates, and none of them is kept."""
    async with (
        node(redis.url, namespaces=NAMESPACES) as one,
        node(redis.url, namespaces=NAMESPACES) as two,
    ):
        got = [Unsequenced(one), Unsequenced(two)]
        for each in (one, two):
            await each.subscribe("open:a")
        with Redis(port=redis.port) as client:
            for _ in range(3):
                assert client.publish("hub:raw:open:a", "1") == 2
        await eventually(lambda: all(len(each.data) == 3 for each in got))
        assert (await one.broker.history("open:a", 0, 10)).publications == ()


async def test_nobody_listens_where_the_namespace_does_not_allow_it(redis: RedisServer) -> None:
    async with node(redis.url, namespaces=NAMESPACES) as one:
        await one.subscribe("closed:a")
        assert receivers(redis, "hub:raw:closed:a") == 0


async def test_a_node_listens_only_while_it_has_sessions_there(redis: RedisServer) -> None:
    """As with the channel itself; what came after the last session has left is nobody's."""
    async with node(redis.url, namespaces=NAMESPACES) as one:
        got = Unsequenced(one)
        await one.subscribe("open:a")
        assert receivers(redis, "hub:raw:open:a") == 1
        one.unsubscribe("open:a")
        with Redis(port=redis.port) as client:
            client.publish("hub:raw:open:a", "1")
        await eventually(lambda: receivers(redis, "hub:raw:open:a") == 0)
        assert not got.items
        await one.subscribe("open:a")
        assert receivers(redis, "hub:raw:open:a") == 1


@pytest.mark.parametrize(
    "sent", [b"{", b"", b"\xff", b'"' + b"x" * FAST.max_message_bytes + b'"'],
    ids=["no JSON", "empty", "no UTF-8", "too large"],
)  # fmt: skip
async def test_a_raw_message_that_cannot_be_delivered_is_announced(
    redis: RedisServer, sent: bytes
) -> None:
    """One unsequenced publication is announced as invalid, and later publications arrive."""
    async with node(redis.url, namespaces=NAMESPACES) as one:
        got = Unsequenced(one)
        stream = await one.subscribe("open:a")
        assert stream.head is not None
        with Redis(port=redis.port) as client:
            client.publish("hub:raw:open:a", sent)
            client.publish("hub:raw:open:a", "2")
        await eventually(lambda: len(got.items) == 2)
        assert got.items[0] == Gap("open:a", stream.head.epoch, 0, 0, GapReason.INVALID, 1)
        assert got.data == [b"2"]
        assert (one.counters.broker_raw, one.counters.broker_raw_refused) == (2, 1)


async def test_after_a_lost_connection_it_is_listened_to_again(redis: RedisServer) -> None:
    async with node(redis.url, namespaces=NAMESPACES) as one:
        got = Unsequenced(one)
        await one.subscribe("open:a")
        with Redis(port=redis.port) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await eventually(lambda: client.publish("hub:raw:open:a", "1"))
        await eventually(lambda: got.data)
