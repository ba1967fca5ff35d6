"""State over every transport of a real hub: rows, then what follows, and a resume."""

import asyncio
import json
from functools import partial

import httpx2 as httpx
import pytest
import websockets

from hub import Hub, Settings
from hub_client import HubClient, Message, State
from tests.support.fork_server import ran
from tests.support.programs import outside

SETTINGS = {
    "port": 0,
    "drain_seconds": 0,
    "namespaces": '{"table": {"keyed": true, "history_size": 3}, "big": {"keyed": true}}',
}


def hub_with_tables() -> Hub:
    return Hub(Settings(**SETTINGS))


async def test_a_websocket_gets_rows_and_then_changes() -> None:
    async with hub_with_tables() as hub, httpx.AsyncClient(base_url=hub.url) as http:
        await http.post("/api/publish/table:a?key=x", content=b"1")
        await http.post("/api/publish/table:a?key=y", content=b"2")
        url = hub.url.replace("http", "ws") + "/ws?channel=table:a&state=true"
        async with websockets.connect(url) as peer:
            welcome, subscribed, state = [json.loads(await peer.recv()) for _ in range(3)]
            deleted = (await http.delete("/api/channels/table:a/state/x")).json()
            message = json.loads(await peer.recv())
        rows = (await http.get("/api/channels/table:a/state")).json()
    assert [welcome["op"], subscribed["op"], state["op"]] == ["welcome", "subscribed", "state"]
    assert subscribed["state"] is True
    assert {row["key"]: row["data"] for row in state["rows"]} == {"x": 1, "y": 2}
    assert (state["more"], state["position"]) == (False, subscribed["position"])
    assert (message["op"], message["key"], message["remove"]) == ("message", "x", True)
    assert message["offset"] == deleted["offset"] == 3
    assert [row["key"] for row in rows["rows"]] == ["y"]
    assert rows["position"] == f"{deleted['epoch']}:3"


async def test_an_event_stream_names_its_place_with_the_last_row_only() -> None:
    """A browser that comes back before it gets all rows from the beginning."""
    async with hub_with_tables() as hub, httpx.AsyncClient(base_url=hub.url) as http:
        await http.post("/api/publish/table:a?key=x", content=b"1")
        blocks = await _events(http, "/sse?channel=table:a&state=true", 3)
        several = await _events(http, "/sse?channel=table:a&channel=b&state=false", 2)
        for number in range(6):
            await http.post(f"/api/publish/table:a?key={number}", content=b"1")
        place = blocks[2].partition("\n")[0].removeprefix("id: ")
        resumed = await _events(http, "/sse?channel=table:a&state=true", 3, place)
    assert not blocks[1].startswith("id:")
    assert blocks[2].startswith(f"id: {place}\nevent: state\n")
    assert several
    assert '"recovered":false' in resumed[1]
    assert "event: state" in resumed[2]
    assert len(json.loads(resumed[2].partition("data: ")[2])["rows"]) == 7


async def _events(
    http: httpx.AsyncClient, path: str, count: int, last_event_id: str = ""
) -> list[str]:
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    text = ""
    async with asyncio.timeout(30), http.stream("GET", path, headers=headers) as answer:
        async for part in answer.aiter_text():
            text += part
            if text.count("\n\n") >= count:
                break
    return text.split("\n\n")


async def test_polls_get_rows_and_go_on_behind_them() -> None:
    """Also where all rows are more than one answer."""
    async with hub_with_tables() as hub, httpx.AsyncClient(base_url=hub.url, timeout=30) as http:
        body = [{"channel": "big:a", "key": f"k{n:04}", "data": "x" * 4000} for n in range(600)]
        assert (await http.post("/api/publish", json=body)).status_code == 200
        rows: dict[str, object] = {}
        path, answers = "/poll?channel=big:a&state=true&wait=5", 0
        headers: dict[str, str] = {}
        more = True
        while more:
            answer = (await http.get(path, headers=headers)).json()
            answers += 1
            for push in answer["pushes"]:
                assert push["op"] == "state"
                rows |= {row["key"]: row["offset"] for row in push["rows"]}
                more = push["more"]
            since = answer["positions"]["big:a"]
            welcome = answer["welcome"]
            headers = {"Authorization": f"Bearer {welcome['secret']}"}
            connection = f"&connection={welcome['connection']}"
            path = f"/poll?channel=big:a&state=true&wait=5&since=big:a={since}{connection}"
        assert answers > 1
        assert len(rows) == 600
        await http.post("/api/publish/big:a?key=k0001", content=b"1")
        answer = (await http.get(path, headers=headers)).json()
        assert [push["offset"] for push in answer["pushes"]] == [601]


@pytest.mark.parametrize("transport", ["websocket", "sse", "poll"])
async def test_the_python_client_is_given_rows_and_then_changes(transport: str) -> None:
    """The client gets the rows anew, in place of a gap, if it was away for too long."""
    async with hub_with_tables() as hub:
        for key in "ab":
            await hub.publish("table:a", 1, key=key)
        async with HubClient(hub.url, transports=(transport,)) as client, asyncio.timeout(30):
            items = client.subscribe("table:a", state=True, gaps=True)
            first = await anext(items)
            await hub.publish("table:a", 2, key="a")
            second = await anext(items)
        assert isinstance(first, State)
        assert (first.begins, first.more) == (True, False)
        assert {row.key: row.data for row in first.rows} == {"a": 1, "b": 1}
        assert isinstance(second, Message)
        assert (second.key, second.data, second.offset) == ("a", 2, 3)
        for number in range(5):
            await hub.publish("table:a", 3, key=f"k{number}")
        async with HubClient(hub.url, transports=(transport,)) as client, asyncio.timeout(30):
            items = client.subscribe("table:a", state=True, since=second.position, gaps=True)
            again = await anext(items)
        assert isinstance(again, State)
        assert len(again.rows) == 7
        assert items.position == again.position


async def test_the_command_line_prints_the_rows() -> None:
    """One line each; `--after` and `--limit` are those of the API."""
    async with hub_with_tables() as hub:
        for key in "abc":
            await hub.publish("table:a", 1, key=key)
        lines = await _output("state", "table:a", "--url", hub.url)
        some = await _output("state", "table:a", "--url", hub.url, "--after", "a", "--limit", "1")
    assert [json.loads(line)["key"] for line in lines] == ["a", "b", "c"]
    assert [json.loads(line)["key"] for line in some] == ["b"]


async def _output(*arguments: str) -> list[str]:
    program = partial(ran, "-m", "hub", *arguments, environment=outside(), seconds=20)
    ended = await asyncio.to_thread(program)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


async def test_a_filtered_table_is_that_of_the_rows_that_match() -> None:
    """A row that matches no longer is removed, live and in a resume; a row
    that begins to match comes."""
    async with hub_with_tables() as hub, httpx.AsyncClient(base_url=hub.url) as http:
        url = hub.url.replace("http", "ws") + "/ws"

        async def put(key: str, data: int, league: str, **more: object) -> None:
            item = {"channel": "big:t", "key": key, "data": data, "tags": {"league": league}}
            assert (await http.post("/api/publish", json=item | more)).status_code == 200

        await put("a", 1, "nba")
        await put("b", 2, "nfl")
        command = {"op": "subscribe", "id": 1, "channel": "big:t", "state": True}
        command["filter"] = {"league": "nba"}
        async with websockets.connect(url) as peer:
            await peer.recv()
            await peer.send(json.dumps(command))
            reply, state = [json.loads(await peer.recv()) for _ in range(2)]
            await put("a", 3, "nfl")
            await put("b", 4, "nba")
            await put("c", 5, "nfl")
            await http.delete("/api/channels/big:t/state/b")
            pushes = [json.loads(await peer.recv()) for _ in range(4)]
        async with websockets.connect(url) as peer:
            await peer.recv()
            await peer.send(json.dumps(command | {"since": state["position"]}))
            again = [json.loads(await peer.recv()) for _ in range(5)][1:]
        of_url = "channel=big:t&state=true&filter=%7B%22league%22:%22nfl%22%7D"
        polled = (await http.get(f"/poll?{of_url}")).json()["pushes"]
    assert reply["ok"]["state"] is True
    assert [(row["key"], row["data"]) for row in state["rows"]] == [("a", 1)]
    removed = [(push["key"], push["data"], push.get("remove", False)) for push in pushes]
    assert removed == [("a", None, True), ("b", 4, False), ("c", None, True), ("b", None, True)]
    assert "tags" not in pushes[0]
    assert [push["offset"] for push in pushes] == [3, 4, 5, 6]
    assert again == pushes
    assert [[row["key"] for row in push["rows"]] for push in polled] == [["a", "c"]]
