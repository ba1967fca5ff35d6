"""Two hubs on one Redis, as staging beside production: each has a prefix, and nothing in common."""

from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from tests.brokers.redis.acl import ACL
from tests.multi_node.fleet import hubs
from tests.multi_node.test_commands import command
from tests.multi_node.watcher import SETTINGS, Watcher, operator, present, watching
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

ROOM = "room:1"
NAMESPACES = {"HUB_NAMESPACES": '{"room":{"presence":true,"allow_raw":true}}'}
PREFIXES = ("hub", "Staging_2.eu-west")


def allowed(redis: RedisServer, prefix: str) -> str:
    """The URL of a user whom Redis lets use no key and no pub/sub channel but those of `prefix`."""
    rights = ACL.replace("hub:*", f"{prefix}:*").split()
    assert redis.ask("ACL", "SETUSER", prefix, "on", ">s3cr3t", *rights) == b"+OK\r\n"
    return f"redis://{prefix}:s3cr3t@127.0.0.1:{redis.port}/0"


def by_function(redis: RedisServer, prefix: str, data: str) -> None:
    stem = f"{prefix}:{{{ROOM}}}"
    answer = redis.ask("FCALL", "hub_publish", "2", f"{stem}:meta", f"{stem}:log", data)
    assert answer.startswith(b"*3\r\n"), answer


def came(watcher: Watcher) -> list[tuple[Any, Any]]:
    """Offset (None where there is none) and data of what came."""
    found = [push for push in watcher.pushes if push["op"] == "message"]
    return [(push.get("offset"), push["data"]) for push in found]


def has(watcher: Watcher, count: int) -> bool:
    return len(came(watcher)) == count


async def names(hub: HubProcess) -> list[str]:
    async with operator(hub) as client:
        return [node["node"] for node in (await client.get("/api/nodes")).json()["nodes"]]


async def test_hubs_with_different_prefixes_hear_nothing_of_each_other(redis: RedisServer) -> None:
    """Publications, raw ones, history, presence, nodes and commands; Redis itself watches names."""
    async with AsyncExitStack() as stack:
        places = []
        for number, prefix in enumerate(PREFIXES):
            more = SETTINGS | NAMESPACES | {"HUB_BROKER_PREFIX": prefix}
            made = hubs(allowed(redis, prefix), 2, **more)
            first, second = await stack.enter_async_context(made)
            watcher = await stack.enter_async_context(watching(first, ROOM, f"user-{number}"))
            places.append((prefix, second, watcher))
        for number, (prefix, second, watcher) in enumerate(places):
            fields = {"op": "publish", "channel": ROOM, "data": f"{prefix} by command"}
            assert (await command(second, watcher.id, watcher.secret, **fields))[0] == 200
            by_function(redis, prefix, f'"{prefix} by function"')
            assert redis.ask("PUBLISH", f"{prefix}:raw:{ROOM}", f'"{prefix} raw"') == b":1\r\n"
            await eventually(partial(has, watcher, 3))
            assert await present(second, ROOM) == [f"user-{number}"]
            assert await names(second) == ["node-0", "node-1"]
        for prefix, _, watcher in places:
            assert came(watcher) == [
                (1, f"{prefix} by command"), (2, f"{prefix} by function"), (None, f"{prefix} raw"),
            ]  # fmt: skip
            assert [change for change, _ in watcher.changes] == ["join"]
        (_, one, _), (_, _, stranger) = places
        assert (await command(one, stranger.id, stranger.secret, op="ping"))[0] == 404
        async with operator(one) as client:
            assert (await client.get("/api/connections")).json()["total"] == 1
            assert (await client.delete(f"/api/connections/{stranger.id}")).status_code == 404
            history = (await client.get(f"/api/channels/{ROOM}/history")).json()
            assert [item["offset"] for item in history["publications"]] == [1, 2]
