"""Publications between nodes on a healthy Redis."""

import asyncio

from tests.brokers.redis.nodes import node
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually


async def test_publication_of_one_node_reaches_the_other_in_order(
    redis: RedisServer, channel: str
) -> None:
    async with node(redis.url) as one, node(redis.url) as two:
        streams = [await one.subscribe(channel), await two.subscribe(channel)]
        results = await asyncio.gather(*(one.publish(channel, n) for n in range(500)))

        assert [result.position.offset for result in results] == list(range(1, 501))
        await eventually(lambda: all(len(stream.data) == 500 for stream in streams))
        for stream in streams:
            assert stream.data == [b"%d" % n for n in range(500)]
            assert not stream.gaps
