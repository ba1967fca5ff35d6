"""One list of channels over three nodes: subscribers added up, sorted, in pages."""

import asyncio
from functools import partial
from typing import Any

import httpx2 as httpx

from tests.multi_node.fleet import hubs, publish, seats
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually


async def listed(hub: HubProcess, **query: str | int) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=10) as client:
        answer = await client.get(f"{hub.url}/api/channels", params=query)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found


async def test_channels_are_listed_with_the_subscribers_of_all_nodes(redis: RedisServer) -> None:
    """Also those that the node which is asked has no subscriber of; from any node the same."""
    async with hubs(redis.url, 3) as nodes:
        async with seats("a", *nodes), seats("b", nodes[2]), seats("c", nodes[1], nodes[1]):
            for _ in range(3):
                await publish(nodes[0], "b", 1)

            async def seen(hub: HubProcess) -> bool:
                found = await listed(hub, sort="-offset", limit=1)
                return bool(found["channels"][0]["position"].endswith(":3"))

            for node in nodes:
                await eventually(partial(seen, node), what="the publications")
                by_name = await listed(node)
                counts = {row["channel"]: row["subscribers"] for row in by_name["channels"]}
                assert counts == {"a": 3, "b": 1, "c": 2}
                held = {row["channel"]: row["history"] for row in by_name["channels"]}
                assert held == {"a": 0, "b": 3, "c": 0}
                assert (by_name["total"], by_name["complete"], by_name["next"]) == (3, True, None)
                top = await listed(node, sort="-subscribers")
                assert [row["channel"] for row in top["channels"]] == ["a", "c", "b"]


async def test_pages_hold_every_channel_once_in_any_order(redis: RedisServer) -> None:
    """Whatever the nodes have in common, and however small the page."""
    async with hubs(redis.url, 3) as nodes:
        async with seats("a", *nodes), seats("b", nodes[0]), seats("c", nodes[1]):
            async with seats("d", nodes[2], nodes[1]), seats("e", nodes[2]):
                for sort in ("channel", "-channel", "subscribers", "-subscribers", "offset"):
                    names: list[str] = []
                    query: dict[str, str | int] = {"sort": sort, "limit": 2}
                    for _ in range(5):
                        page = await listed(nodes[0], **query)
                        names += [row["channel"] for row in page["channels"]]
                        if page["next"] is None:
                            break
                        query["after"] = page["next"]
                    assert sorted(names) == ["a", "b", "c", "d", "e"], sort
                    if sort == "-subscribers":
                        assert names[:2] == ["a", "d"]


async def test_a_node_that_does_not_answer_is_named(redis: RedisServer) -> None:
    """Its subscribers are missing from the list, which says so."""
    async with hubs(redis.url, 2) as nodes:
        async with seats("a", *nodes):
            await asyncio.to_thread(nodes[1].kill)
            found = await listed(nodes[0])
    assert [row["subscribers"] for row in found["channels"]] == [1]
    assert (found["complete"], found["unanswered"]) == (False, ["node-1"])


async def test_a_channel_is_known_at_every_node(redis: RedisServer, channel: str) -> None:
    """Where it was published to and nobody subscribes; one that nobody has used is not there."""
    async with hubs(redis.url, 2) as (one, two), httpx.AsyncClient(timeout=10) as client:
        await publish(one, channel, 1)
        await publish(one, channel, 2)
        for node in (one, two):
            found = (await client.get(f"{node.url}/api/channels/{channel}")).json()
            assert found["position"].endswith(":2")
            assert (found["subscribers"], found["history"]) == (0, 2)
            unused = await client.get(f"{node.url}/api/channels/{channel}-unused")
            assert unused.status_code == 404
