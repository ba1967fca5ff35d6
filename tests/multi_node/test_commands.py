"""A command reaches the node that holds its connection, whichever node is asked."""

import asyncio
import json
import signal
from typing import Any

import httpx2 as httpx

from tests.multi_node.fleet import hubs
from tests.multi_node.watcher import SETTINGS, operator, token, watching
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

# A node tells the others every 3 s, of rates over 5 s.
RATES_DEADLINE_SECONDS = 30.0


async def command(
    hub: HubProcess, connection: str, secret: str, **fields: object
) -> tuple[int, dict[str, Any]]:
    async with httpx.AsyncClient(timeout=10) as client:
        answer = await client.post(
            f"{hub.url}/command?connection={connection}",
            json={"id": 1, **fields},
            headers={"Authorization": f"Bearer {secret}"},
        )
        return answer.status_code, answer.json()


async def test_any_node_takes_a_command(redis: RedisServer, channel: str) -> None:
    """The command is carried out where the connection is, if the secret is right; an
    operator's question is too."""
    async with hubs(redis.url, 2, **SETTINGS) as (one, two):
        async with watching(one, channel, "ann") as ann, operator(two) as client:
            status, reply = await command(
                two, ann.id, ann.secret, op="publish", channel=channel, data=[1]
            )
            assert status == 200
            assert reply["ok"]["offset"] == 1
            await eventually(lambda: [p["data"] for p in ann.pushes if p["op"] == "message"])
            status, reply = await command(two, ann.id, ann.secret, op="nonsense")
            assert (status, reply["error"]["code"]) == (200, "bad_request")
            assert (await command(two, ann.id, "wrong", op="ping"))[0] == 401
            assert (await command(one, ann.id, ann.secret, op="ping"))[0] == 200
            assert (await command(two, "0" * 24, "wrong", op="ping"))[0] == 404

            shown = await client.get(f"/api/connections/{ann.id}")
            assert shown.json()["subject"] == "ann"
            assert shown.json()["subscriptions"][0]["channel"] == channel
            for path in (
                f"/api/connections/{ann.id[:8]}{'0' * 16}",
                f"/api/connections/{'0' * 24}",
            ):
                assert (await client.get(path)).status_code == 404
                assert (await client.delete(path)).status_code == 404
            await _only_operators_close(two, ann.id)
            assert (await client.delete(f"/api/connections/{ann.id}")).status_code == 204
            await ann.connection.wait_closed()
            assert ann.connection.close_code == 4403


async def _only_operators_close(hub: HubProcess, connection: str) -> None:
    headers = {"Authorization": f"Bearer {token('ann')}"}
    async with httpx.AsyncClient(timeout=10, headers=headers) as client:
        answer = await client.delete(f"{hub.url}/api/connections/{connection}")
        assert answer.status_code in {401, 403}


async def test_a_publish_whose_node_hangs_may_have_been_made(
    redis: RedisServer, channel: str
) -> None:
    """`outcome_unknown`, and it was: it is there when the node goes on. Another command is not so.

    A retry with the same key then tells what became of it.
    """
    async with hubs(redis.url, 2, **SETTINGS) as (one, two), watching(one, channel, "ann") as ann:
        publish = {"op": "publish", "channel": channel, "data": 1, "idempotency_key": "k"}
        one.signal(signal.SIGSTOP)
        # Both at once: a node that hangs for long is no longer known to have the connection.
        unknown, ping = await asyncio.gather(
            command(two, ann.id, ann.secret, **publish),
            command(two, ann.id, ann.secret, op="ping"),
        )
        one.signal(signal.SIGCONT)
        assert (unknown[0], unknown[1]["code"]) == (503, "outcome_unknown")
        assert (ping[0], ping[1]["code"]) == (503, "unavailable")

        async def answered() -> dict[str, Any] | None:
            status, reply = await command(two, ann.id, ann.secret, **publish)
            return reply if status == 200 else None

        reply = await eventually(answered, seconds=30)
        assert reply is not None
        assert reply["ok"] | {"duplicate": True} == reply["ok"]


async def test_nodes_tell_how_busy_they_are(redis: RedisServer, channel: str) -> None:
    """Connections and rates of each, asked at either."""
    async with hubs(redis.url, 2, **SETTINGS) as (one, two):
        async with watching(one, channel, "ann") as ann, operator(two) as client:

            async def busy() -> bool:
                for _ in range(20):
                    await ann.connection.send(
                        json.dumps({"op": "publish", "id": 1, "channel": channel, "data": 1})
                    )
                nodes = (await client.get("/api/nodes")).json()["nodes"]
                first, second = sorted(nodes, key=lambda node: str(node["node"]))
                return bool(
                    (first["connections"], second["connections"]) == (1, 0)
                    and first["publications_per_second"] > 0
                    and first["deliveries_per_second"] > 0
                    and second["deliveries_per_second"] == 0
                )

            await eventually(busy, seconds=RATES_DEADLINE_SECONDS)
