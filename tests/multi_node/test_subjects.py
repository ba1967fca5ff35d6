"""A ban said at one node holds at every other within moments, and at nodes that start later."""

import asyncio

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.multi_node.fleet import hubs
from tests.multi_node.watcher import SETTINGS, operator, token, watching
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually


async def close_code(hub: HubProcess, subject: str) -> int:
    """Returns the close code of the subject's handshake, or 0 if it is let in."""
    url = f"{hub.url.replace('http', 'ws', 1)}/ws?channel=news&token={token(subject)}"
    async with connect(url) as socket:
        try:
            async with asyncio.timeout(30):
                while '"subscribed"' not in str(await socket.recv()):
                    pass
        except ConnectionClosed as closed:
            return 0 if closed.rcvd is None else closed.rcvd.code
    return 0


async def test_a_ban_holds_everywhere_and_after_all_nodes_are_new(redis: RedisServer) -> None:
    async with hubs(redis.url, 2, **SETTINGS) as (one, two):
        async with watching(two, "news", "ann") as ann, operator(one) as client:
            answer = await client.put(
                "/api/subjects/ann/ban", json={"seconds": 600, "reason": "spam"}
            )
            assert answer.status_code == 200
            async with asyncio.timeout(30):
                await ann.connection.wait_closed()
            assert (ann.connection.close_code, ann.connection.close_reason) == (4403, "spam")
            assert [await close_code(hub, "ann") for hub in (one, two)] == [4403, 4403]
            assert await close_code(two, "bob") == 0
    async with hubs(redis.url, 1, **SETTINGS) as (later,):
        assert await close_code(later, "ann") == 4403
        async with operator(later) as client:
            shown = (await client.get("/api/subjects/ann")).json()
            assert shown["ban"]["reason"] == "spam"
            assert (await client.delete("/api/subjects/ann/ban")).status_code == 204
        assert await close_code(later, "ann") == 0


@pytest.mark.slow
async def test_a_ban_outlives_a_redis_that_was_emptied(redis: RedisServer) -> None:
    """The nodes that know of the ban write it again."""
    async with hubs(redis.url, 1, **SETTINGS) as (one,):
        async with operator(one) as client:
            await client.put("/api/subjects/ann/ban", json={"seconds": 600})
        await asyncio.to_thread(redis.ask, "FLUSHALL")
        async with hubs(redis.url, 1, **SETTINGS) as (later,):

            async def refused() -> bool:
                return await close_code(later, "ann") == 4403

            await eventually(refused, seconds=40)
