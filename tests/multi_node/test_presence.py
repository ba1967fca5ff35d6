"""The members of a channel are one list over all nodes, also when a node dies."""

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial

import pytest

from tests.multi_node.fleet import hubs
from tests.multi_node.watcher import SETTINGS, operator, present, watching
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

ROOM = "room:1"
# A dead node's lease lasts 10 s, and the others look every 3 s.
LEASE_DEADLINE_SECONDS = 30.0
# As the hub has it where nothing is set.
LEAVE_DELAY_SECONDS = 5.0
# Nodes start, a leave waits, and a lease ends: half of it is waiting, on any machine.
pytestmark = pytest.mark.timeout(180)


async def test_members_of_two_nodes_see_each_other(redis: RedisServer) -> None:
    """Joins, leaves and the list are the same at both; a cut on the way to Redis is announced.

    A member that moves to another node before the delay of a leave is over has neither left nor
    joined.
    """
    async with hubs(redis.url, 2, **SETTINGS) as (one, two):
        async with AsyncExitStack() as stack:
            ann = await stack.enter_async_context(watching(one, ROOM, "ann"))
            await eventually(lambda: ann.saw("join", "ann"))
            bob = await stack.enter_async_context(watching(two, ROOM, "bob"))
            for watcher in (ann, bob):
                await eventually(partial(watcher.saw, "join", "bob"))
            assert ann.changes == [("join", "ann"), ("join", "bob")]
            assert bob.changes == [("join", "bob")]
            assert await present(one, ROOM) == await present(two, ROOM) == ["ann", "bob"]

            async with watching(one, ROOM, "cat"):
                await eventually(lambda: bob.saw("join", "cat"))
            left_at = time.monotonic()
            async with watching(two, ROOM, "cat"):
                # A busy machine may take longer over it than a leave waits.
                was_quick = time.monotonic() - left_at < LEAVE_DELAY_SECONDS / 2
                async with watching(two, ROOM, "dog"):
                    await eventually(lambda: bob.saw("join", "dog"))
                # Behind the delay that ran for cat at the other node.
                await eventually(lambda: ann.saw("leave", "dog") and bob.saw("leave", "dog"))
                assert "cat" in await present(one, ROOM)
                for watcher in (ann, bob):
                    of_cat = [change for change in watcher.changes if change[1] == "cat"]
                    assert of_cat[0] == of_cat[-1] == ("join", "cat")
                    assert len(of_cat) == 1 or not was_quick

            # As a failover does: it cuts, and may forget.
            redis.ask("DEL", f"hub:{{{ROOM}}}:here")
            redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
            for watcher in (ann, bob):
                await eventually(partial(watcher.saw, "presence_reset"))

            async def known_again() -> bool:
                return {"ann", "bob"} <= set(await present(one, ROOM))

            await eventually(known_again)


async def test_a_killed_node_is_gone_when_its_lease_ends(redis: RedisServer) -> None:
    """Its members leave, once, at all others; the one who came back elsewhere stays.

    Until then nobody can tell a dead node from a slow one: its connections are unavailable.
    """
    async with hubs(redis.url, 3, **SETTINGS) as (one, two, three), AsyncExitStack() as stack:
        ann = await stack.enter_async_context(watching(one, ROOM, "ann"))
        bob = await stack.enter_async_context(watching(two, ROOM, "bob"))
        cat = await stack.enter_async_context(watching(three, ROOM, "cat"))
        await stack.enter_async_context(watching(three, ROOM, "dog"))
        for name in ("cat", "dog"):
            for watcher in (ann, bob):
                await eventually(partial(watcher.saw, "join", name))
        client = await stack.enter_async_context(operator(one))
        listed = (await client.get("/api/nodes")).json()["nodes"]
        assert [node["node"] for node in listed] == ["node-0", "node-1", "node-2"]
        assert all(node["version"] and node["uptime_seconds"] > 0 for node in listed)

        three.kill()
        await stack.enter_async_context(watching(two, ROOM, "dog"))
        answer = await client.delete(f"/api/connections/{cat.id}")
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]

        async def forgotten() -> bool:
            nodes = (await client.get("/api/nodes")).json()["nodes"]
            return [node["node"] for node in nodes] == ["node-0", "node-1"]

        for watcher in (ann, bob):
            gone = partial(watcher.saw, "leave", "cat")
            await eventually(gone, seconds=LEASE_DEADLINE_SECONDS)
        await eventually(forgotten, seconds=LEASE_DEADLINE_SECONDS)
        for hub in (one, two):
            assert sorted(await present(hub, ROOM)) == ["ann", "bob", "dog"]
        assert (await client.delete(f"/api/connections/{cat.id}")).status_code == 404
        for watcher in (ann, bob):
            left = [change for change in watcher.changes if change[0] == "leave"]
            assert left == [("leave", "cat")]

        await asyncio.to_thread(two.stop)
        listed = (await client.get("/api/nodes")).json()["nodes"]
        assert [node["node"] for node in listed] == ["node-0"]
