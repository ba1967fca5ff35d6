"""Operators see rows of state, patterns, and what subscriptions ask for, with real processes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.cli.operating import KEY, OperatedHub
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(240)
HEADERS = {"Authorization": f"Bearer {KEY}"}
KEYED = json.dumps({"t": {"keyed": True}})
WAYS: dict[str, dict[str, str]] = {
    "alone": {},
    "workers": {"HUB_WORKERS": "2"},
    "file": {"HUB_BROKER": "sqlite:///{path}/history.db"},
}


async def subscribe(peer: ClientConnection, **command: object) -> None:
    await peer.send(json.dumps({"op": "subscribe", "id": 1, **command}))
    async with asyncio.timeout(30):
        while "ok" not in json.loads(await peer.recv()):
            pass


async def are_measured(http: httpx.AsyncClient) -> bool:
    """Of all workers together, but for rows: each tells the broker process' own."""
    found: dict[str, list[float]] = {}
    for line in (await http.get("/metrics")).text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found.setdefault(name.partition("{")[0], []).append(float(value))
    return (
        sum(found["hub_patterns"]) == 3
        and sum(found["hub_filtered_total"]) == 2
        and max(found["hub_state_rows"]) == 2
        and max(found["hub_state_row_bytes"]) > 0
    )


@pytest.mark.parametrize("way", WAYS)
async def test_patterns_rows_and_what_subscriptions_ask_for_are_listed(
    tmp_path: Path, way: str
) -> None:
    settings = {name: value.format(path=tmp_path) for name, value in WAYS[way].items()}
    with OperatedHub(HUB_NAMESPACES=KEYED, **settings) as hub:
        async with (
            connect(f"{hub.ws_url}") as one,
            connect(f"{hub.ws_url}") as other,
            httpx.AsyncClient(base_url=hub.url, headers=HEADERS, timeout=30) as http,
        ):

            async def get(path: str, **query: object) -> Any:
                answer = await http.get(path, params={k: str(v) for k, v in query.items()})
                assert answer.status_code == 200, answer.text
                return answer.json()

            for key in ("x", "y", "x"):
                await http.post("/api/publish/t:1", params={"key": key}, json=1)
            await http.post("/api/publish/p:1", json=1)
            await subscribe(one, pattern="p:*")
            await subscribe(one, pattern="q:**")
            await subscribe(other, pattern="p:*")
            await subscribe(other, channel="scores", filter={"league": "nba"}, fill=True)
            await subscribe(other, channel="busy", every_ms=500)
            await subscribe(other, channel="t:1", state=True)

            listed = await get("/api/patterns")
            assert listed["patterns"] == [
                {"pattern": "p:*", "sessions": 2},
                {"pattern": "q:**", "sessions": 1},
            ]
            assert (listed["total"], listed["complete"]) == (2, True)
            assert len((await get("/api/patterns", limit=1))["patterns"]) == 1

            page = await get("/api/connections", pattern="q:**")
            assert page["total"] == 1
            page = await get("/api/connections", channel="busy")
            (row,) = page["connections"]
            assert row["patterns"] == ["p:*"]
            asked = {
                each["channel"]: {
                    name: each[name] for name in ("filter", "every_ms", "rows", "fill", "pattern")
                }
                for each in row["subscriptions"]
            }
            nothing = {
                "filter": None, "every_ms": None, "rows": False, "fill": False, "pattern": None,
            }  # fmt: skip
            assert asked == {
                "scores": nothing | {"filter": '{"league":"nba"}', "fill": True},
                "busy": nothing | {"every_ms": 500},
                "t:1": nothing | {"rows": True},
                "p:1": nothing | {"pattern": "p:*"},
            }

            async def rows() -> dict[str, tuple[object, object, bool]]:
                found = (await get("/api/channels"))["channels"]
                return {
                    each["channel"]: (each["keyed"], each["rows"], bool(each["row_bytes"]))
                    for each in found
                }

            async def are_known() -> bool:
                return (await rows())["t:1"] == (True, 2, True)

            await eventually(are_known, seconds=20, what="rows in the list of channels")
            assert (await rows())["p:1"] == (False, None, False)

            for league in ("nfl", "nba", "nfl"):
                await http.post("/api/publish/scores", json=1, headers={
                    "X-Message-Tags": f"league={league}"
                })  # fmt: skip

            await eventually(lambda: are_measured(http), seconds=20, what="the metrics of these")
