"""Filters by tags over every transport, from a URL and by command, and why somebody got nothing."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2 as httpx
import pytest
import websockets

from hub import Hub, Settings

NBA = '{"league":"nba"}'


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub(Settings(port=0, drain_seconds=0)) as hub:
        yield hub


@pytest.fixture
async def http(hub: Hub) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=hub.url, timeout=30) as http:
        yield http


async def publish(http: httpx.AsyncClient, *leagues: str) -> None:
    for league in leagues:
        answer = await http.post(
            "/api/publish/games", json=1, headers={"X-Message-Tags": f"league={league}"}
        )
        assert answer.status_code == 200
    last = {"channel": "games", "data": 2, "tags": {"league": "nba", "round": 3}, "end": True}
    assert (await http.post("/api/publish", json=last)).status_code == 200


async def until_the_end(peer: Any) -> list[dict[str, Any]]:
    found = []
    while True:
        push = json.loads(await peer.recv())
        if push["op"] in {"message", "gap"}:
            found.append(push)
        if push.get("end"):
            return found


async def test_over_a_websocket_by_command_and_by_url(hub: Hub, http: httpx.AsyncClient) -> None:
    ws = f"ws{hub.url[4:]}/ws"
    async with (
        websockets.connect(ws) as asks,
        websockets.connect(f"{ws}?channel=games&filter={NBA}") as named,
    ):
        wanted = {"league": ["nba", "wnba"]}
        await asks.send(
            json.dumps({"op": "subscribe", "id": 1, "channel": "games", "filter": wanted})
        )
        while json.loads(await asks.recv())["op"] != "reply":
            pass
        while json.loads(await named.recv())["op"] != "subscribed":
            pass
        await publish(http, "nba", "nfl", "nfl", "nba")
        for peer in (asks, named):
            pushes = await until_the_end(peer)
            assert [push["offset"] for push in pushes] == [1, 4, 5]
            assert pushes[-1]["tags"] == {"league": "nba", "round": 3}


@pytest.mark.parametrize("path", ["/sse", "/poll"])
async def test_over_http_and_from_history(http: httpx.AsyncClient, path: str) -> None:
    await publish(http, "nba", "nfl", "nba")
    asked = {"channel": "games", "last": "10", "filter": NBA}
    if path == "/poll":
        answer = (await http.get(path, params=asked)).json()
        came = [push["offset"] for push in answer["pushes"] if push["op"] == "message"]
        assert answer["pushes"][-1]["op"] == "unsubscribed"
        # It stays named, behind its end: a poll that goes on from there gets nothing again.
        history = (await http.get("/api/channels/games/history")).json()
        assert answer["positions"] == {"games": history["position"]}
    else:
        came = []
        async with http.stream("GET", path, params=asked) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: ") and (push := json.loads(line[6:]))["op"] == "message":
                    came.append(push["offset"])
                    if push.get("end"):
                        break
    assert came == [1, 3, 4]


async def test_a_text_that_is_no_filter_is_refused_at_every_door(
    hub: Hub, http: httpx.AsyncClient
) -> None:
    for path in ("/sse", "/poll"):
        answer = await http.get(path, params={"channel": "games", "filter": "{}"})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    async with websockets.connect(f"ws{hub.url[4:]}/ws") as peer:
        await peer.recv()
        command = {"op": "subscribe", "id": 7, "channel": "games", "filter": {"a": None}}
        await peer.send(json.dumps(command))
        reply = json.loads(await peer.recv())
        assert (reply["id"], reply["error"]["code"]) == (7, "bad_request")


async def test_why_somebody_did_not_get_it_names_the_filter(
    hub: Hub, http: httpx.AsyncClient
) -> None:
    async with websockets.connect(f"ws{hub.url[4:]}/ws?channel=games&filter={NBA}") as peer:
        connection = json.loads(await peer.recv())["connection"]
        await publish(http, "nba", "nfl")
        await until_the_end(peer)
        answers, details = [], []
        for offset in (1, 2, 3):
            told = await http.get(
                "/api/explain",
                params={"connection": connection, "channel": "games", "offset": offset},
            )
            answers.append(told.json()["answer"])
            details.append(told.json()["detail"])
        assert answers == ["written", "filtered", "written"]
        assert NBA in details[1]
