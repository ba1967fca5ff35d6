"""Operators see the refused peers and those that limits hold back, on every node."""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2 as httpx
import jwt
import pytest
import websockets

from hub import Hub, Settings
from hub.observe.logs import make_logger
from hub.transports.connection.sockets import RESERVE
from tests.support.hub_process import HubProcess
from tests.support.waiting import eventually
from tests.test_peer_limits import closed_with, reply, token, ws

OPERATOR, PUBLISHER = "an-operator-key-of-some-length", "a-publisher-key-of-some-length"
SIGNING = "a-signing-key-of-more-than-32-bytes!"
AUTHORIZED = {"Authorization": f"Bearer {OPERATOR}"}


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[tuple[Hub, httpx.AsyncClient]]:
    given = {"operator_keys": (OPERATOR,), "publish_keys": (PUBLISHER,), "token_keys": (SIGNING,)}
    async with (
        Hub(Settings(port=0, drain_seconds=0, **(given | settings))) as hub,
        httpx.AsyncClient(base_url=hub.url, timeout=30) as http,
    ):
        yield hub, http


async def rows(http: httpx.AsyncClient, what: str, **query: str) -> list[dict[str, Any]]:
    answer = await http.get(f"/api/{what}", params=query, headers=AUTHORIZED)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    assert (told["complete"], told["unanswered"]) == (True, [])
    found: list[dict[str, Any]] = told[what]
    return found


async def test_each_reason_and_address_is_a_row_with_its_last_origin() -> None:
    """Over every door, by the reason that the metric counts, without what was refused."""
    async with running() as (hub, http):
        expired = jwt.encode({"sub": "ann", "exp": time.time() - 60}, SIGNING, algorithm="HS256")
        page = {"Origin": "https://elsewhere.example"}
        for _ in range(3):
            assert (await http.get("/sse?channel=a", params={"token": expired})).status_code == 401
        assert (await http.get("/poll?channel=a", headers=page)).status_code == 403
        assert (await http.post("/api/publish/a", json=1)).status_code == 401
        async with ws(hub, f"?channel=a&token={expired}") as peer:
            assert await closed_with(peer) == 4401
        found = {row["reason"]: row for row in await rows(http, "refusals")}
        assert {reason: row["count"] for reason, row in found.items()} == {
            "token_expired": 4, "origin": 1, "no_credentials": 1
        }  # fmt: skip
        row = found["origin"]
        assert (row["address"], row["origin"]) == ("127.0.0.1", "https://elsewhere.example")
        assert row["host"] == hub.url.removeprefix("http://")
        assert "elsewhere.example" in row["detail"]
        assert 0 <= time.time() * 1000 - row["last_ms"] < 60_000
        metrics = (await http.get("/metrics")).text
        for reason, row in found.items():
            assert f'hub_refusals_total{{reason="{reason}"}} {row["count"]}.0' in metrics
        assert expired not in str(found)
        assert [row["reason"] for row in await rows(http, "refusals", reason="origin")] == [
            "origin"
        ]
        assert await rows(http, "refusals", address="203.0.113.1") == []


async def test_only_operators_see_them() -> None:
    async with running() as (_, http):
        for path in ("/api/refusals", "/api/limited"):
            assert (await http.get(path)).status_code == 401
            keyed = {"Authorization": f"Bearer {PUBLISHER}"}
            assert (await http.get(path, headers=keyed)).status_code == 403


async def test_whom_a_limit_holds_back_is_a_row_by_what_it_counts() -> None:
    """Address, subject, key and connection, each with its limit."""
    limits = {
        "rate_handshakes": "3/60", "rate_commands": "2/60", "rate_publishes": "1/60",
        "subject_connections": 1, "anonymous": "subscribe",
    }  # fmt: skip
    async with running(**limits) as (hub, http):
        async with ws(hub) as peer:
            for number in range(4):
                said = await reply(peer, {"op": "ping", "id": number})
            assert said["error"]["code"] == "rate_limited"
            keyed = {"Authorization": f"Bearer {PUBLISHER}"}
            for _ in range(3):
                answer = await http.post("/api/publish/a", json=1, headers=keyed)
            assert answer.status_code == 429
            async with ws(hub, f"?token={token('ann')}"):
                async with ws(hub, f"?token={token('ann')}") as other:
                    assert await closed_with(other) == 4429
            for _ in range(2):
                answer = await http.get("/sse?channel=a")
            assert answer.status_code == 429
            (open_,) = (await http.get("/api/connections", headers=AUTHORIZED)).json()[
                "connections"
            ]
            found = {row["limit"]: row for row in await rows(http, "limited")}
        told = {limit: (row["by"], row["name"], row["count"]) for limit, row in found.items()}
        assert told["commands"] == ("connection", open_["connection"], 2)
        assert told["publishes"][0] == "key"
        assert told["publishes"][1].startswith("key:")
        assert told["publishes"][2] == 2
        assert told["subject_connections"] == ("subject", "ann", 1)
        assert told["handshakes"] == ("address", "127.0.0.1", 2)
        assert {row["address"] for row in found.values()} == {"127.0.0.1"}
        assert PUBLISHER not in str(found)
        metrics = (await http.get("/metrics")).text
        for limit, row in found.items():
            assert f'hub_rate_limited_total{{limit="{limit}"}} {row["count"]}.0' in metrics


async def test_an_address_with_too_many_connections_is_held_back_by_name() -> None:
    """The address is named also when it is not even answered any more."""
    async with running(address_connections=1) as (hub, http):
        for _ in range(40):
            with pytest.raises((websockets.InvalidHandshake, OSError)):
                async with (
                    ws(hub, f"?token={token('ann')}"),
                    ws(hub, f"?token={token('ann')}"),
                ):
                    pass
        (row,) = await rows(http, "limited")
        assert (row["limit"], row["by"], row["name"]) == (
            "address_connections", "address", "127.0.0.1"
        )  # fmt: skip


async def test_commands_that_a_session_sends_in_vain_are_a_line_and_a_row_as_over_http() -> None:
    """By command, beside its stream, in a later poll; and whoever sends no token in time."""
    stream = io.StringIO()
    given: dict[str, Any] = {
        "log_format": "json", "token_keys": (SIGNING,), "handshake_timeout_seconds": 0.5
    }  # fmt: skip
    log = make_logger(Settings(**given), stream)
    grants = {"subscribe": ["a"]}
    ann = jwt.encode({"sub": "ann", "hub": grants}, SIGNING, algorithm="HS256")
    async with (
        Hub(Settings(port=0, drain_seconds=0, **given), log=log) as hub,
        httpx.AsyncClient(base_url=hub.url, timeout=30) as http,
    ):
        async with ws(hub, f"?channel=a&token={ann}") as peer:
            welcome = json.loads(await peer.recv())
            asked: list[dict[str, Any]] = [
                {"op": "subscribe", "channel": "b"},
                {"op": "subscribe", "pattern": "b:*"},
                {"op": "publish", "channel": "a", "data": 1},
                {"op": "history", "channel": "b"},
            ]
            for number, command in enumerate(asked):
                said = await reply(peer, {"id": number, **command})
                assert said["error"]["code"] == "forbidden"
            answer = await http.post(
                f"/command?connection={welcome['connection']}",
                json={"op": "subscribe", "id": 9, "channel": "c"},
                headers={"Authorization": f"Bearer {welcome['secret']}"},
            )
            assert answer.json()["error"]["code"] == "forbidden"
        async with ws(hub) as nobody:
            await nobody.send('{"op":"ping","id":1}')
            assert await closed_with(nobody) == 4401
        async with ws(hub) as late:
            assert await closed_with(late) == 4401
        found = {row.reason: row.count for row in hub.node.refusals.table.refusals()}
        assert found == {"forbidden": 5, "unauthorized": 2}
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    told = [line["reason"] for line in lines if line["event"] == "refused"]
    assert len(told) == 7
    assert "no grant to subscribe to 'b'" in told
    assert "no grant to publish on 'a'" in told
    assert told[-2] == "a token is needed: ?token= or Authorization: Bearer, or authenticate first"
    assert told[-1] == "no token came in time"
    assert ann not in stream.getvalue()


async def test_whom_a_full_node_turns_away_is_held_back_by_address() -> None:
    """At every door, and where there is no room for an answer either; a probe is let in."""
    stream = io.StringIO()
    given: dict[str, Any] = {"max_connections": 1, "log_format": "json"}
    log = make_logger(Settings(**given), stream)
    async with Hub(Settings(port=0, drain_seconds=0, **given), log=log) as hub:
        async with ws(hub):
            await eventually(lambda: len(hub.node.registry.sessions) == 1)
            with pytest.raises(websockets.InvalidStatus) as refused:
                await ws(hub)
            assert refused.value.response.status_code == 503
            async with httpx.AsyncClient(base_url=hub.url, timeout=30) as http:
                for path in ("/sse?channel=a", "/poll?channel=a", "/api/channels"):
                    assert (await http.get(path)).status_code == 503
                assert (await http.post("/api/publish/a", json=1)).status_code == 503
                assert (await http.get("/healthz")).status_code == 200
                metrics = (await http.get("/metrics")).text
            assert 'hub_rate_limited_total{limit="max_connections"} 5.0' in metrics
            (row,) = hub.node.refusals.table.held_back()
            assert (row.limit, row.by, row.name, row.count) == (
                "max_connections", "address", "127.0.0.1", 5
            )  # fmt: skip
            port = int(hub.url.rpartition(":")[2])
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(RESERVE + 4)]
            await eventually(lambda: hub.node.refusals.table.held_back()[0].count > 5)
            for _, writer in silent:
                writer.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    told = [line for line in lines if line["event"] == "refused"]
    assert {(line["code"], line["limit"], line["address"]) for line in told} == {
        ("unavailable", "max_connections", "127.0.0.1")
    }
    assert len(told) >= 5


async def test_every_worker_is_asked() -> None:
    """Whichever of them refused it."""
    keys = {"HUB_OPERATOR_KEYS": OPERATOR, "HUB_TOKEN_KEYS": SIGNING, "HUB_WORKERS": "2"}
    with HubProcess(allow_tracebacks=False, **keys) as hub:
        async with httpx.AsyncClient(base_url=hub.url, timeout=30) as http:

            async def both_refused() -> bool:
                async with httpx.AsyncClient(base_url=hub.url) as once:
                    await once.get("/sse?channel=a&token=x.y.z")
                return len({row["node"] for row in await rows(http, "refusals")}) == 2

            await eventually(both_refused)
