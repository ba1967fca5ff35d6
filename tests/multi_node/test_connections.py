"""An operator sees the connections of all nodes, at any node."""

import asyncio
import signal
from contextlib import AsyncExitStack

from tests.multi_node.fleet import hubs
from tests.multi_node.watcher import SETTINGS, operator, watching
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

EACH = 4


async def test_either_node_lists_the_connections_of_both(redis: RedisServer, channel: str) -> None:
    """The list comes in pages, sorted and filtered, and each row has its node."""
    async with hubs(redis.url, 2, **SETTINGS) as both, AsyncExitStack() as stack:
        for number, hub in enumerate(both * EACH):
            await stack.enter_async_context(watching(hub, channel, f"user-{number}"))
        for hub in both:
            async with operator(hub) as client:
                seen: list[tuple[str, str]] = []
                parameters = {"sort": "-subject", "limit": "3", "channel": channel}
                while True:
                    found = (await client.get("/api/connections", params=parameters)).json()
                    assert (found["total"], found["complete"]) == (2 * EACH, True)
                    seen += [(row["subject"], row["node"]) for row in found["connections"]]
                    if found["next"] is None:
                        break
                    parameters["after"] = found["next"]
                assert seen == [(f"user-{n}", f"node-{n % 2}") for n in reversed(range(2 * EACH))]
                only = (await client.get("/api/connections?node=node-1&limit=1")).json()
                assert (only["total"], only["connections"][0]["node"]) == (EACH, "node-1")


async def test_a_node_that_hangs_is_named_and_the_rest_is_shown(
    redis: RedisServer, channel: str
) -> None:
    """The silent node is named until its lease ends, and is then no longer listed."""
    async with hubs(redis.url, 2, **SETTINGS) as (one, two), watching(one, channel, "ann"):
        async with watching(two, channel, "bob"), operator(one) as client:
            two.signal(signal.SIGSTOP)
            found = (await client.get("/api/connections")).json()
            assert [row["subject"] for row in found["connections"]] == ["ann"]
            assert (found["complete"], found["unanswered"]) == (False, ["node-1"])

            async def gone() -> bool:
                return bool((await client.get("/api/connections")).json()["complete"])

            await eventually(gone, seconds=30)
            two.signal(signal.SIGCONT)

            async def back() -> bool:
                await asyncio.sleep(0.1)
                return bool((await client.get("/api/connections")).json()["total"] == 2)

            await eventually(back, seconds=30)
