"""Publishing and pages through the real port, where the HTTP suites use the application alone."""

import json
from collections.abc import AsyncIterator

import httpx2 as httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from hub import Hub, Settings
from tests.transports.conftest import Open
from tests.transports.peers import PEERS, Query, http_client

ORIGIN = "https://app.example"
KEY = "k" * 32


async def test_an_idempotency_key_makes_a_retry_harmless(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    """The repeat gets the first answer and reaches nobody; other data is a conflict."""
    path, once = f"/api/publish/{channel}", {"Idempotency-Key": "order-7"}
    async with open_peer(channel) as peer:
        first = await http.post(path, json=1, headers=once)
        again = await http.post(path, json=1, headers=once)
        other = await http.post(path, json=2, headers=once)
        await http.post(path, json="next")
        assert await peer.data(2) == [1, "next"]
    assert "duplicate" not in first.json()
    assert again.json() == first.json() | {"duplicate": True}
    assert (other.status_code, other.json()["code"]) == (409, "conflict")


async def test_an_array_is_answered_item_by_item(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    """Correct items are published although other items are wrong."""
    async with open_peer(channel) as peer:
        answer = await http.post(
            "/api/publish",
            json=[
                {"channel": channel, "data": 1},
                {"channel": "not allowed", "data": 2},
                {"channel": channel},
                {"channel": channel, "data": 3, "key": "k", "idempotency_key": "i"},
                {"channel": channel, "data": 3, "key": "k", "idempotency_key": "i"},
            ],
        )
        assert await peer.data(2) == [1, 3]
    assert answer.status_code == 207
    results = answer.json()
    assert [result.get("offset", result.get("code")) for result in results] == [
        1,
        "bad_request",
        "bad_request",
        2,
        2,
    ]
    assert results[4]["duplicate"] is True


async def test_an_array_without_a_wrong_item_is_plain_200(
    http: httpx.AsyncClient, channel: str
) -> None:
    answer = await http.post("/api/publish", json=[{"channel": channel, "data": 1}] * 2)
    assert (answer.status_code, [r["offset"] for r in answer.json()]) == (200, [1, 2])


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    settings = Settings(port=0, drain_seconds=0, base_path="/live", origins=(ORIGIN,))
    async with Hub(settings) as hub:
        yield hub


@pytest.mark.parametrize("kind", PEERS.values(), ids=PEERS)
async def test_every_path_stands_behind_the_base_path(hub: Hub, kind: type, channel: str) -> None:
    """Sessions too, and nothing answers without it."""
    assert hub.url.endswith("/live")
    async with kind(hub.url, Query(channel), {}) as peer, http_client() as http:
        assert (await http.post(f"{hub.url}/api/publish/{channel}", json=1)).status_code == 200
        assert await peer.data(1) == [1]
        assert (await peer.command(op="ping"))["ok"] == {}
        root = hub.url.removesuffix("/live")
        for path in ("/healthz", f"/sse?channel={channel}", "/ws", f"/poll?channel={channel}"):
            assert (await http.get(root + path)).status_code == 404, path


@pytest.mark.parametrize("path", ["/sse?channel=c", "/poll?channel=c&wait=0", "/api/channels"])
async def test_a_listed_origin_may_read_and_another_may_not(hub: Hub, path: str) -> None:
    """CORS on every transport; refused before anything is opened."""
    async with http_client() as http:
        url = hub.url + path
        async with http.stream("GET", url, headers={"Origin": ORIGIN}) as answer:
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == ORIGIN
            assert answer.headers["vary"] == "Origin"
        refused = await http.get(url, headers={"Origin": "https://evil.example"})
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert refused.headers["access-control-allow-origin"] == "https://evil.example"


async def test_a_preflight_is_answered(hub: Hub) -> None:
    async with http_client() as http:
        answer = await http.options(
            f"{hub.url}/api/publish/c",
            headers={"Origin": ORIGIN, "Access-Control-Request-Method": "POST"},
        )
    assert answer.status_code == 204
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "Idempotency-Key" in answer.headers["access-control-allow-headers"]


async def test_a_problem_of_a_listed_origin_can_be_read_by_its_page(hub: Hub) -> None:
    """A stream that is refused has its reason behind the same CORS header."""
    async with http_client() as http:
        answer = await http.get(f"{hub.url}/sse?channel=no%20good", headers={"Origin": ORIGIN})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert answer.headers.get("access-control-allow-origin") == ORIGIN


MISSPELT = [
    ("/sse?chanel=c", "chanel", "channel"),
    ("/poll?chanel=c&wait=0", "chanel", "channel"),
    ("/sse?channel=c&tokn=s3cret", "tokn", "token"),
    ("/poll?channel=c&tokn=s3cret", "tokn", "token"),
    ("/sse?channels=c,d", "channels", "channel"),
]


@pytest.mark.parametrize(("path", "given", "meant"), MISSPELT)
async def test_a_misspelt_parameter_is_named_before_a_token_is_missed(
    keyed: Hub, path: str, given: str, meant: str
) -> None:
    """The author of the URL would look for the fault in the token, which has none."""
    async with http_client() as http:
        answer = await http.get(keyed.url + path)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert answer.json()["detail"] == f"{given} is not a parameter; did you mean {meant}?"
    assert "s3cret" not in answer.text


async def test_a_websocket_is_told_of_a_misspelt_parameter_at_once(keyed: Hub) -> None:
    """Else it would wait for a token by its first command, and in vain for messages."""
    async with connect(f"{keyed.url.replace('http', 'ws')}/ws?chanel=c") as socket:
        goodbye = json.loads(await socket.recv())
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    assert (goodbye["op"], goodbye["code"]) == ("goodbye", 4400)
    assert goodbye["reason"] == "chanel is not a parameter; did you mean channel?"
    assert socket.close_code == 4400


@pytest.mark.parametrize(
    ("method", "path", "given", "meant"),
    [
        ("GET", "/api/channels?limits=1", "limits", "limit"),
        ("GET", "/api/channels/c/history?form_time=1", "form_time", "from_time"),
        ("GET", "/api/connections?subjct=ann", "subjct", "subject"),
        ("GET", "/api/explain?conection=1&channel=c&offset=1", "conection", "connection"),
        ("POST", "/api/publish/c?kye=eur", "kye", "key"),
        ("POST", "/command?conection=1", "conection", "connection"),
    ],
)
async def test_the_api_names_a_misspelt_parameter(
    keyed: Hub, method: str, path: str, given: str, meant: str
) -> None:
    """The hub would otherwise ignore the parameter and answer another question."""
    async with http_client(headers={"Authorization": f"Bearer {KEY}"}) as http:
        answer = await http.request(method, keyed.url + path, content=b"1")
        wrong = {"Authorization": "Bearer wrong"}
        refused = await http.request(method, keyed.url + path, content=b"1", headers=wrong)
    assert answer.status_code == 400
    assert answer.json()["detail"] == f"{given} is not a parameter; did you mean {meant}?"
    assert refused.status_code == (400 if path.startswith("/command") else 401)


@pytest.fixture
async def keyed() -> AsyncIterator[Hub]:
    keys = {"publish_keys": (KEY,), "operator_keys": (KEY,), "token_keys": ("t" * 32,)}
    async with Hub(Settings(port=0, drain_seconds=0, anonymous="none", **keys)) as hub:
        yield hub
