"""Any Redis client publishes in keyed channels too, by `FCALL hub_publish`."""

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from hub.core.options import ChannelOptions
from hub.core.publication import REMOVES, Publication
from tests.brokers.redis.nodes import TestNode, node
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

ROWS = ("rows", "keys", "ages")


def redis_ttl(redis: RedisServer, key: str) -> int:
    with Redis(port=redis.port, protocol=2) as client:
        return int(client.ttl(key))


class Outside:
    """Any Redis client, which publishes in one channel."""

    def __init__(self, redis: RedisServer, channel: str) -> None:
        self._redis = redis
        self._channel = channel

    def publish(self, *said: str) -> None:
        stem = f"hub:{{{self._channel}}}"
        with Redis(port=self._redis.port, protocol=2) as client:
            client.fcall("hub_publish", 2, f"{stem}:meta", f"{stem}:log", *said)

    async def rows(self, hub: TestNode) -> dict[str, bytes]:
        page = await hub.broker.state(self._channel, "", 100)
        return {row.key or "": row.data for row in page.rows}


async def test_any_client_keeps_the_table_of_a_keyed_channel(
    redis: RedisServer, channel: str
) -> None:
    """Rows are put and removed as by the hub, and anything else that the client says is refused."""
    name = f"table:{channel}"
    async with node(redis.url, namespaces={"table": ChannelOptions(keyed=True)}) as one:
        stream = await one.subscribe(name)
        outside = Outside(redis, name)
        outside.publish("1", "a")
        outside.publish("2", "b")
        outside.publish("null", "a", "remove")
        with pytest.raises(ResponseError, match="use: FCALL hub_publish 2"):
            outside.publish("3", "b", "removed")
        assert await outside.rows(one) == {"b": b"2"}
        await eventually(lambda: len(stream.items) == 3)
        removed = stream.items[2]
        assert isinstance(removed, Publication)
        assert (removed.key, removed.marks) == ("a", REMOVES)


@pytest.mark.parametrize("unkeyed_before", [False, True])
async def test_rows_that_come_before_any_node_are_there_when_one_comes(
    redis: RedisServer, channel: str, unkeyed_before: bool
) -> None:
    """Only a node knows that a channel is keyed: until then each key has a row, in case it is."""
    name = f"table:{channel}"
    outside = Outside(redis, name)
    async with node(redis.url):
        """The function is there from now on."""
    if unkeyed_before:
        outside.publish("0")
    outside.publish("1", "a")
    outside.publish("2", "b")
    assert redis_ttl(redis, f"hub:{{{name}}}:rows") > 0
    async with node(redis.url, namespaces={"table": ChannelOptions(keyed=True)}) as one:
        assert await outside.rows(one) == {"a": b"1", "b": b"2"}
        # It says how long they live: for ever.
        assert redis_ttl(redis, f"hub:{{{name}}}:rows") == -1
        outside.publish("3", "c")
        assert await outside.rows(one) == {"a": b"1", "b": b"2", "c": b"3"}


async def test_keys_of_a_channel_that_is_not_keyed_leave_no_rows(
    redis: RedisServer, channel: str
) -> None:
    """Those of a time without nodes go with the first that comes."""
    async with node(redis.url):
        """The function is there from now on."""
    outside = Outside(redis, channel)
    outside.publish("1", "a")
    async with node(redis.url) as one:
        await one.subscribe(channel)
        outside.publish("2", "b")
        with Redis(port=redis.port, protocol=2) as client:
            assert not client.exists(*(f"hub:{{{channel}}}:{each}" for each in ROWS))
        page = await one.broker.history(channel, 0, 10)
        assert [publication.data for publication in page.publications] == [b"1", b"2"]
