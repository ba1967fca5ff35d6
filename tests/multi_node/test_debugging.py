"""A live node is looked into from any other, without a restart."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2 as httpx
import pytest

from tests.multi_node.fleet import hubs
from tests.multi_node.watcher import SETTINGS, operator, watching
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

PATHS = ["/api/debug/tasks", "/api/debug/stalls", "/api/debug/memory", "/api/debug/log-levels"]


@pytest.fixture
async def pair(redis: RedisServer) -> AsyncIterator[tuple[HubProcess, httpx.AsyncClient]]:
    """A node, and an operator who talks to the other one."""
    async with hubs(redis.url, 2, **SETTINGS) as (one, two), operator(two) as client:
        yield one, client


async def get(client: httpx.AsyncClient, path: str) -> Any:
    return (await client.get(path)).raise_for_status().json()


async def test_any_node_tells_of_any_other(
    pair: tuple[HubProcess, httpx.AsyncClient], channel: str
) -> None:
    """The node is chosen by its name, and without a name the asked node tells of itself."""
    _one, client = pair
    for path in PATHS:
        assert (await get(client, f"{path}?node=node-0"))["node"] == "node-0"
        assert (await get(client, path))["node"] == "node-1"
        assert (await client.get(f"{path}?node=nobody")).status_code == 404
    tasks = (await get(client, "/api/debug/tasks?node=node-0"))["tasks"]
    lines = [line for task in tasks for line in task["waits_at"]]
    assert any("redis/link/pubsub.py" in line for line in lines), lines


async def test_a_node_says_more_for_as_long_as_it_is_asked_to(
    pair: tuple[HubProcess, httpx.AsyncClient], channel: str
) -> None:
    """The ends of sessions are logged only while the level is `debug`."""
    one, client = pair
    levels = "/api/debug/log-levels?node=node-0"

    async def visit(user: str) -> None:
        async with watching(one, channel, user):
            pass

        async def ended() -> bool:
            told = await get(client, "/api/closed")
            return any(row["subject"] == user for row in told["closed"])

        await eventually(ended, what=f"the end of {user}")

    await visit("before")
    told = (await client.put(levels, json={"session": "debug"})).json()
    assert (told["node"], told["levels"]["session"]) == ("node-0", "debug")
    await visit("while")
    (await client.put(levels, json={"session": None})).raise_for_status()
    await visit("after")
    closed = [line for line in one.stderr.splitlines() if '"session_closed"' in line]
    assert len(closed) == 1
    assert '"subject":"while"' in closed[0]
    assert '"subsystem":"session"' in closed[0]
    assert (await client.put(levels, json={"sessions": "debug"})).status_code == 400


async def test_memory_of_another_node_is_traced_for_a_while(
    pair: tuple[HubProcess, httpx.AsyncClient],
) -> None:
    """Nobody waits for it at the end of a request."""
    _one, client = pair
    path = "/api/debug/memory?node=node-0"
    begun = await client.post(f"{path}&seconds=0.5")
    assert (begun.status_code, begun.json()["tracing"]) == (202, True)
    assert (await client.post(f"{path}&seconds=0.5")).status_code == 409

    async def done() -> Any:
        return (await get(client, path))["last"]

    last = await eventually(done, what="the look at memory")
    assert last["rss_bytes"] > 10_000_000
    assert last["objects"]
    assert last["allocations"]
    assert (await get(client, "/api/debug/memory"))["last"] is None
