"""A running hub is asked about the edges of clients/PROTOCOL.md, one row for each question."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx2 as httpx
import orjson
import pytest

from tests.support.frames import masked
from tests.support.hub_process import HubProcess
from tests.support.raw_connection import raw_connection
from tests.transports.peers import publisher

NAMESPACES = {"rows": {"keyed": True}}
Fields = Mapping[str, object]


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(HUB_NAMESPACES=json.dumps(NAMESPACES), HUB_MAX_PATTERNS="2") as process:
        yield process


@pytest.fixture
async def http(hub: HubProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with publisher(hub.url) as client:
        yield client


async def command(hub: HubProcess, text: bytes) -> dict[str, Any]:
    """The reply to one command."""
    async with raw_connection(hub.url) as peer:
        await peer.upgrade("/ws")
        peer.send(masked(text))
        return await peer.push("reply")


# -- what a URL may not ask for is a status, at every door ---------------------------------------


@pytest.mark.parametrize(
    ("query", "code", "says"),
    [
        ("channel=a&state=true", "bad_request", "keeps no state"),
        ("channel=rows:a&channel=a&state=true", "bad_request", "keeps no state"),
        ("pattern=rows:*&state=true", "bad_request", "not of a pattern"),
        ("pattern=a:*&pattern=b:*&pattern=c:*", "too_many_subscriptions", "2 patterns"),
        (f"pattern={'*' * 201}", "bad_request", "pattern '***"),
        ("pattern=a:*&every_ms=500", "bad_request", "not of a pattern"),
        ("channel=a&every_ms=0", "bad_request", "every_ms is '0', allowed is 1 to 3,600,000"),
        ("channel=a&every_ms=3600001", "bad_request", "every_ms is"),
        ("channel=a&every_ms=5e2", "bad_request", "every_ms is"),
        ("channel=a&channel=a", "bad_request", "more than once"),
        ("channel=a&since=b=e:1", "bad_request", "not asked for"),
        ("channel=a&last=1_0", "bad_request", "last is"),
    ],
)
async def test_a_query_that_no_session_may_ask_for_is_refused_before_there_is_one(
    hub: HubProcess, http: httpx.AsyncClient, query: str, code: str, says: str
) -> None:
    """An `EventSource` comes back after a stream that ends, for ever, and not after a status."""
    for path in ("/sse", "/poll"):
        answer = await http.get(f"{path}?{query}", headers={"Accept": "text/event-stream"})
        told = answer.json()
        assert (answer.status_code, told["code"], says in told["detail"]) == (400, code, True), told
    async with raw_connection(hub.url) as peer:
        await peer.upgrade("/ws?" + query.replace('"', "%22"))
        _, payload = await peer.frame()
        goodbye = orjson.loads(payload)
        assert (goodbye["op"], goodbye["code"], says in goodbye["reason"]) == (
            "goodbye",
            4400,
            True,
        )
        assert await peer.close_code() == 4400


async def test_state_beside_a_pattern_is_that_of_the_channels(http: httpx.AsyncClient) -> None:
    await http.post("/api/publish/rows:b", content=b"1", headers={"X-Message-Key": "k"})
    answer = await http.get("/poll?channel=rows:b&pattern=other:*&state=true&wait=0")
    [state] = answer.json()["pushes"]
    assert (state["op"], len(state["rows"])) == ("state", 1)


# -- publishing ----------------------------------------------------------------------------------


async def test_a_removal_needs_no_data(hub: HubProcess, http: httpx.AsyncClient) -> None:
    """The row goes: there is nothing to say of it. As with `DELETE`, the data is `null` then."""
    item: dict[str, object] = {"channel": "rows:gone", "key": "k"}
    removal = item | {"remove": True}
    await http.post("/api/publish", json=item | {"data": 1})
    assert (await http.post("/api/publish", json=removal)).status_code == 200
    assert (await http.post("/api/publish", json=[removal, removal])).status_code == 200
    several = {"channels": ["rows:gone", "rows:x"], "key": "k", "remove": True}
    assert (await http.post("/api/publish", json=several)).status_code == 200
    assert "ok" in await command(hub, orjson.dumps(removal | {"op": "publish", "id": 1}))
    history = (await http.get("/api/channels/rows:gone/history")).json()["publications"]
    assert [(each["data"], each.get("remove")) for each in history] == [
        (1, None),
        *[(None, True)] * 5,
    ]
    assert (await http.get("/api/channels/rows:gone/state")).json()["rows"] == []


async def test_nothing_is_removed_where_no_rows_are_kept(
    hub: HubProcess, http: httpx.AsyncClient
) -> None:
    """A removal there would mean nothing: 400 at every door, and nothing is published."""
    item: dict[str, object] = {"channel": "plain", "key": "k", "remove": True}
    one = await http.post("/api/publish", json=item)
    deleted = await http.delete("/api/channels/plain/state/k")
    assert (one.status_code, deleted.status_code) == (400, 400)
    assert one.json()["code"] == "bad_request"
    assert "not keyed" in one.json()["detail"]
    array = await http.post("/api/publish", json=[item, item | {"channel": "rows:kept"}])
    assert [each.get("status") for each in array.json()] == [400, None]
    several = {"channels": ["plain", "rows:kept"], "key": "k", "remove": True}
    answer = await http.post("/api/publish", json=several)
    assert [each.get("status") for each in answer.json()] == [400, None]
    reply = await command(hub, orjson.dumps(item | {"op": "publish", "id": 1}))
    assert reply["error"]["code"] == "bad_request"
    assert (await http.get("/api/channels/plain/history")).json()["publications"] == []


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"channel": "a"}, "missing required field `data`"),
        ({"channels": ["a", "b"]}, "missing required field `data`"),
        ({"channel": "a", "key": "k", "remove": False}, "missing required field `data`"),
        ({"channel": "a", "remove": True}, "remove needs the key"),
        ({"channel": "a", "channels": ["b"], "data": 1}, "allowed is one of them"),
        ({"channels": ["a", "a"], "data": 1}, "twice"),
        ({"channels": [], "data": 1}, "empty"),
        ([{"channels": ["a"], "data": 1}], "channels"),
        ({"channel": "a", "data": 1, "ttl_seconds": 0}, "ttl_seconds is 0"),
        ({"channel": "a", "data": 1, "ttl_seconds": -1}, "ttl_seconds is -1"),
        ({"channel": "a", "data": 1, "ttl_seconds": 315_360_001}, "up to 315360000"),
        ({"channel": "a", "data": 1, "ttl_seconds": True}, "ttl_seconds"),
        ({"channel": "a", "data": 1, "history": None}, "history"),
        ({"channel": "a", "data": 1, "end": 1}, "end"),
    ],
)
async def test_a_publication_that_says_something_wrong_is_refused(
    http: httpx.AsyncClient, body: object, says: str
) -> None:
    answer = await http.post("/api/publish", json=body)
    assert answer.status_code == 400
    assert says in answer.text


async def test_a_wrong_channel_of_many_is_its_own_matter(http: httpx.AsyncClient) -> None:
    body = {"channels": ["many.a", "not allowed", "hub:x"], "data": 1, "idempotency_key": "k"}
    answers = [(await http.post("/api/publish", json=body)) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [207, 207]
    codes = [[each.get("code") for each in answer.json()] for answer in answers]
    assert codes == [[None, "bad_request", "forbidden"]] * 2
    assert answers[1].json()[0]["duplicate"] is True


@pytest.mark.parametrize(
    ("body", "fields", "outcome"),
    [
        ({"channel": "a", "data": 1}, {"Idempotency-Key": "one"}, 200),
        ({"channels": ["a", "b"], "data": 1}, {"Idempotency-Key": "many"}, 200),
        ({"channel": "a", "data": 1, "idempotency_key": "s"}, {"Idempotency-Key": "s"}, 200),
        ({"channel": "a", "data": 1, "idempotency_key": "s"}, {"Idempotency-Key": "t"}, 400),
        ([{"channel": "a", "data": 1}], {"Idempotency-Key": "array"}, 400),
        ({"channel": "a", "data": 1}, {"X-Message-Key": "k"}, 400),
        ({"channel": "a", "data": 1}, {"X-Message-Tags": "a=1"}, 400),
        ({"channel": "a", "data": 1}, {"X-Message-TTL": "5"}, 400),
        ({"channel": "a", "data": 1}, {"X-Message-History": "false"}, 400),
    ],
)
async def test_header_fields_beside_a_publication_count_or_are_refused(
    http: httpx.AsyncClient, body: object, fields: dict[str, str], outcome: int
) -> None:
    """Passed over, a retry would publish twice, and history would keep what it should not."""
    first, again = [await http.post("/api/publish", json=body, headers=fields) for _ in range(2)]
    assert (first.status_code, again.status_code) == (outcome, outcome)
    if outcome == 200:
        told = again.json()
        assert all(each["duplicate"] for each in (told if isinstance(told, list) else [told]))


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("X-Message-Tags", "league", "X-Message-Tags: 'league' is not of the form"),
        ("X-Message-Tags", "a=1, a=2", "X-Message-Tags names 'a' twice"),
        ("X-Message-Tags", '{"a":', "tags are no JSON object"),
        ("X-Message-TTL", "1e3", "X-Message-TTL is '1e3'"),
        ("X-Message-TTL", "0", "ttl_seconds is 0"),
        ("X-Message-History", "no", "X-Message-History is 'no'"),
        ("X-Message-Key", "", "X-Message-Key is 0 characters"),
        ("Idempotency-Key", "i" * 201, "Idempotency-Key is 201 characters"),
    ],
)
async def test_a_header_field_that_is_wrong_is_named(
    http: httpx.AsyncClient, name: str, value: str, says: str
) -> None:
    answer = await http.post("/api/publish/a", content=b"1", headers={name: value})
    assert (answer.status_code, says in answer.json()["detail"]) == (400, True), answer.text


# -- JSON that is none, in its place -------------------------------------------------------------

WORDS = [b"NaN", b"-Infinity", b"undefined", b"None", b"01", b"1e999", b"'a'", b'"\\ud800"']


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.decode())
async def test_an_item_that_is_no_json_is_its_own_400(http: httpx.AsyncClient, word: bytes) -> None:
    whole = b'{"channel":"a","data":1}'
    for item in (
        word,
        b'{"channel":"a","data":%b}' % word,
        b'{"channel":"a","data":[1,%b]}' % word,
    ):
        answer = await http.post("/api/publish", content=b"[%b,%b,%b]" % (whole, item, whole))
        assert answer.status_code == 207, (item, answer.text)
        assert [each.get("status") for each in answer.json()] == [None, 400, None]


@pytest.mark.parametrize(
    "text",
    [
        b'{"\\u0069d":7,"op":"dance"}',
        b'{"\\u0069d":7,"op":"publish","channel":"a","data":NaN}',
        b'{"op":"publish","channel":"a","data":NaN,"\\u0069d":7}',
        b'{"op":"publish","channel":"a","data":[%b1],"id":7}' % (b"1," * 25_000),
        b'{"op":"publish","channel":"a","data":[%bNaN],"id":7}' % (b"1," * 25_000),
    ],
    ids=lambda text: text[:60].decode(),
)
async def test_an_id_is_read_however_it_is_written(hub: HubProcess, text: bytes) -> None:
    """A peer would wait for ever for a reply without its id."""
    assert (await command(hub, text))["id"] == 7


# -- what operators say --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/subjects/s/ban", {"seconds": 0}, 400),
        ("/api/subjects/s/ban", {"seconds": -1}, 400),
        ("/api/subjects/s/ban", {"seconds": 315_360_001}, 400),
        ("/api/subjects/s/ban", {"reason": "for ever"}, 400),
        ("/api/subjects/s/ban", {"seconds": 0.5, "reason": "r"}, 200),
        ("/api/tokens/revoke", {}, 400),
        ("/api/tokens/revoke", {"jti": ""}, 400),
        ("/api/tokens/revoke", {"sub": "s"}, 400),
        ("/api/tokens/revoke", {"jti": "j", "sub": "s", "issued_before": 1}, 400),
        ("/api/tokens/revoke", {"sub": "s", "issued_before": -1}, 400),
        ("/api/tokens/revoke", {"sub": "s", "issued_before": 1e300}, 400),
        ("/api/tokens/revoke", {"sub": "s", "issued_before": 253_402_300_800_000}, 400),
        ("/api/tokens/revoke", {"sub": "s", "issued_before": 1_700_000_000_000}, 200),
        ("/api/tokens/revoke", {"jti": "j", "seconds": 0}, 400),
    ],
)
async def test_words_of_operators_on_subjects_are_judged(
    http: httpx.AsyncClient, path: str, body: Fields, status: int
) -> None:
    method = "PUT" if path.endswith("ban") else "POST"
    answer = await http.request(method, path, json=body)
    assert answer.status_code == status, answer.text


# -- the end of a channel, for whoever asks with the same URL again --------------------------------


@pytest.mark.parametrize("pattern", [False, True], ids=["by name", "through a pattern"])
@pytest.mark.parametrize("stays", [True, False], ids=["one session", "a session each"])
async def test_a_poll_names_a_channel_that_has_ended(
    http: httpx.AsyncClient, pattern: bool, stays: bool
) -> None:
    """Else whoever passes the positions on, as the contract says, got all of it again each time."""
    name = f"fin:{stays}" if pattern else f"fin.{stays}"
    other = f"on.{pattern}.{stays}"
    asked = f"pattern=fin:{stays}&channel={other}" if pattern else f"channel={name}&channel={other}"
    await http.post(f"/api/publish/{name}", json=1)
    first = (await http.get(f"/poll?{asked}&wait=0")).json()
    await http.post("/api/publish", json={"channel": name, "data": 2, "end": True})

    async def poll(before: dict[str, Any]) -> Any:
        since = "".join(f"&since={name}={at}" for name, at in before["positions"].items())
        query, headers = f"{asked}{since}&wait=0", {}
        if stays:
            query += f"&connection={before['welcome']['connection']}"
            headers = {"Authorization": f"Bearer {before['welcome']['secret']}"}
        return (await http.get(f"/poll?{query}", headers=headers)).json()

    second = await poll(first)
    assert [each["op"] for each in second["pushes"]] == ["message", "unsubscribed"]
    assert second["positions"][name].endswith(":2")
    lost = await poll(first)
    assert [each["op"] for each in lost["pushes"]] == ["message", "unsubscribed"]
    third = await poll(lost)
    assert [each["op"] for each in third["pushes"]] in ([], ["unsubscribed"])
    assert third["positions"][name] == second["positions"][name]


async def test_an_id_names_a_channel_that_has_ended(http: httpx.AsyncClient) -> None:
    """An `EventSource` comes back with it, and would get the whole channel again."""
    await http.post("/api/publish/fin.sse", json=1)
    ids: list[str] = []
    async with http.stream("GET", "/sse?channel=fin.sse&channel=on.sse") as stream:
        lines = stream.aiter_lines()
        async for line in lines:
            if '"subscribed"' in line and "on.sse" in line:
                break
        await http.post("/api/publish", json={"channel": "fin.sse", "data": 2, "end": True})
        await http.post("/api/publish/on.sse", json=1)
        async for line in lines:
            if line.startswith("id: "):
                ids.append(line)
            if any(place.endswith(":1") for place in places(ids) if place.startswith("on.sse")):
                break
    assert any(place.endswith(":2") for place in places(ids) if place.startswith("fin.sse"))


def places(ids: list[str]) -> list[str]:
    return ids[-1].removeprefix("id: ").split(",") if ids else []
