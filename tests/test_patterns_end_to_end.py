"""Patterns over every transport and broker: what matches comes, in order, once."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx2 as httpx
import pytest
import websockets

from hub import Hub, Settings
from tests.support.redis_server import RedisServer

DEADLINE_SECONDS = 20


def _redis(request: pytest.FixtureRequest) -> str:
    redis: RedisServer = request.getfixturevalue("redis")
    return redis.url


BROKERS: dict[str, Callable[[pytest.FixtureRequest], str]] = {
    "memory": lambda _: "memory://",
    "sqlite": lambda request: f"sqlite:///{request.getfixturevalue('tmp_path')}/history.db",
    "redis": _redis,
}


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(params=BROKERS)
async def hub(request: pytest.FixtureRequest) -> AsyncIterator[Hub]:
    broker = BROKERS[request.param](request)
    async with Hub(Settings(port=0, drain_seconds=0, broker=broker)) as hub:
        yield hub


@pytest.fixture
async def http(hub: Hub) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=hub.url, timeout=DEADLINE_SECONDS) as http:
        yield http


async def publish(http: httpx.AsyncClient, *channels: str) -> None:
    for channel in channels:
        answer = await http.post(f"/api/publish/{channel}", json=1)
        assert answer.status_code == 200, answer.text


async def take(peer: Any, count: int) -> list[dict[str, Any]]:
    """The next messages and gaps."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(found) < count:
            push = json.loads(await peer.recv())
            if push["op"] in {"message", "gap"}:
                found.append(push)
    return found


async def said(peer: Any, op: str) -> dict[str, Any]:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            push: dict[str, Any] = json.loads(await peer.recv())
            if push["op"] == op:
                return push


def places(pushes: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(push["channel"], push["offset"]) for push in pushes]


async def test_over_a_websocket_with_a_resume(hub: Hub, http: httpx.AsyncClient) -> None:
    ws = f"ws{hub.url[4:]}/ws"
    await publish(http, "prices:a", "news")
    async with websockets.connect(ws) as peer:
        await peer.send(json.dumps({"op": "subscribe", "id": 1, "pattern": "prices:*"}))
        ok = (await said(peer, "reply"))["ok"]
        assert ok["channels"] == ["prices:a"]
        await publish(http, "news", "prices:a", "prices:b", "prices:b:c")
        assert places(await take(peer, 2)) == [("prices:a", 2), ("prices:b", 1)]
    await publish(http, "prices:a", "prices:c")
    epoch = ok["positions"]["prices:a"].split(":")[0]
    async with websockets.connect(ws) as peer:
        since = {"prices:a": f"{epoch}:2"}
        command = {"op": "subscribe", "id": 1, "pattern": "prices:*", "since": since}
        await peer.send(json.dumps(command))
        assert set((await said(peer, "reply"))["ok"]["positions"]) == {
            "prices:a", "prices:b", "prices:c",
        }  # fmt: skip
        expected = [("prices:a", 3), ("prices:b", 1), ("prices:c", 1)]
        assert sorted(places(await take(peer, 3))) == expected
        await peer.send(json.dumps({"op": "unsubscribe", "id": 2, "pattern": "prices:*"}))
        assert (await said(peer, "reply"))["ok"] == {"pattern": "prices:*"}


async def test_by_the_url_of_a_websocket(hub: Hub, http: httpx.AsyncClient) -> None:
    async with websockets.connect(f"ws{hub.url[4:]}/ws?pattern=prices:**") as peer:
        assert await said(peer, "subscribed") == {
            "op": "subscribed", "pattern": "prices:**", "channels": [], "positions": {},
        }  # fmt: skip
        await publish(http, "prices:a:b")
        assert places(await take(peer, 1)) == [("prices:a:b", 1)]


async def read_events(
    http: httpx.AsyncClient, count: int, last_event_id: str | None = None
) -> tuple[list[tuple[str, int]], str]:
    """Returns the first `count` messages of a stream, and its id once they are all in it."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    came: list[tuple[str, int]] = []
    last_id = ""
    url = "/sse?pattern=prices:*"
    async with asyncio.timeout(DEADLINE_SECONDS), http.stream("GET", url, headers=headers) as s:
        async for line in s.aiter_lines():
            if line.startswith("id: "):
                last_id = line[4:]
                if len(came) >= count:
                    return came, last_id
            elif line.startswith("data: "):
                push = json.loads(line[6:])
                if push["op"] == "message":
                    came.append((push["channel"], push["offset"]))
                elif push["op"] == "subscribed" and "pattern" in push and last_event_id is None:
                    await publish(http, "prices:a", "prices:b", "news")
    raise AssertionError("the stream has ended")


async def test_over_server_sent_events_with_the_last_event_id(http: httpx.AsyncClient) -> None:
    """A cut before any channel was there misses nothing either."""
    came, last_id = await read_events(http, 2)
    assert came == [("prices:a", 1), ("prices:b", 1)]
    assert {pair.split("=")[0] for pair in last_id.split(",")} == {"prices:a", "prices:b"}
    await publish(http, "prices:b", "prices:c")
    came, _ = await read_events(http, 2, last_id)
    assert sorted(came) == [("prices:b", 2), ("prices:c", 1)]
    came, _ = await read_events(http, 4, "prices:*=none:0")
    assert sorted(came) == [("prices:a", 1), ("prices:b", 1), ("prices:b", 2), ("prices:c", 1)]


@pytest.mark.parametrize("keeps", [False, True], ids=["without a session", "with one"])
async def test_over_polling_with_the_positions_of_each_answer(
    http: httpx.AsyncClient, *, keeps: bool
) -> None:
    params: list[tuple[str, Any]] = [("pattern", "prices:*"), ("wait", "0")]
    first = (await http.get("/poll", params=params)).json()
    assert first["positions"] == {"prices:*": "none:0"}
    before, came = first, []
    for channels in (["prices:a", "news"], ["prices:b", "prices:a"], ["prices:b"]):
        await publish(http, *channels)
        asked: list[tuple[str, Any]] = [("pattern", "prices:*"), ("wait", "5")]
        asked += [("since", f"{name}={at}") for name, at in before["positions"].items()]
        headers = {}
        if keeps:
            asked.append(("connection", before["welcome"]["connection"]))
            headers = {"Authorization": f"Bearer {before['welcome']['secret']}"}
        while True:
            answer = await http.get("/poll", params=asked, headers=headers)
            assert answer.status_code == 200, answer.text
            if answer.json()["pushes"]:
                break
        before = answer.json()
        came += places(before["pushes"])
    assert sorted(came) == [("prices:a", 1), ("prices:a", 2), ("prices:b", 1), ("prices:b", 2)]
    assert set(before["positions"]) == {"prices:a", "prices:b"}


@pytest.mark.parametrize("path", ["/sse", "/poll", "/command"])
async def test_a_text_that_is_no_pattern_is_refused(http: httpx.AsyncClient, path: str) -> None:
    if path == "/command":
        async with http.stream("GET", "/sse?session=true") as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    welcome = json.loads(line[6:])
                    answer = await http.post(
                        f"/command?connection={welcome['connection']}",
                        json={"op": "subscribe", "id": 1, "pattern": "a*"},
                        headers={"Authorization": f"Bearer {welcome['secret']}"},
                    )
                    assert answer.json()["error"]["code"] == "bad_request"
                    break
    else:
        answer = await http.get(path, params={"pattern": "a*"})
        assert answer.status_code == 400
