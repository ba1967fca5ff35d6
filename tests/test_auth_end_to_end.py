"""Keys, tokens, grants, origins and operators through every door of a real node."""

import time
from collections.abc import AsyncIterator

import httpx2 as httpx
import jwt
import pytest
from websockets.exceptions import ConnectionClosed

from hub import Hub, Settings
from hub.errors import SettingsError
from tests.support.raw_connection import raw_connection
from tests.transports.peers import PEERS, Json, Peer, Query, SsePeer, WebSocketPeer, http_client

SIGNING = "a-signing-key-of-more-than-32-bytes!"
PUBLISH, OPERATE = "publish-key-1", "operator-key-1"
GRANTS: Json = {"subscribe": ["prices", "chat:*"], "publish": ["chat:42"]}


def token(seconds: float = 3600, *, key: str = SIGNING, **claims: object) -> str:
    payload: Json = {"sub": "ann", "exp": time.time() + seconds, "hub": GRANTS}
    return jwt.encode(payload | claims, key, algorithm="HS256")


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    settings = Settings(
        port=0,
        drain_seconds=0,
        publish_keys=(PUBLISH,),
        operator_keys=(OPERATE,),
        token_keys=(SIGNING,),
        # A warning at once, so that no test has to wait for half a minute.
        expiry_warning_seconds=3600,
    )
    async with Hub(settings) as hub:
        yield hub


@pytest.fixture
async def http(hub: Hub) -> AsyncIterator[httpx.AsyncClient]:
    async with http_client(base_url=hub.url) as client:
        yield client


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (bearer("wrong"), 401),
        ({"X-API-Key": "wrong"}, 401),
        ({"X-API-Key": ""}, 401),
        (bearer(PUBLISH), 200),
        ({"X-API-Key": PUBLISH}, 200),
        ({"X-API-Key": OPERATE}, 200),
        (bearer(token()), 200),
        (bearer(token(hub={"publish": ["chat:4"]})), 403),
        (bearer(token(-11)), 401),
        (bearer(token(exp=1.7976931348623157e308)), 200),
        (bearer(token(nbf=time.time() + 3600)), 401),
        (bearer(token(key="another-signing-key-of-32-bytes-or-so")), 401),
        (bearer(jwt.encode({"hub": GRANTS}, "", algorithm="none")), 401),
    ],
)
async def test_publishing_needs_a_key_or_a_grant(
    http: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    answer = await http.post("/api/publish/chat:42", json=1, headers=headers)
    assert answer.status_code == status
    if status == 401:
        assert answer.json()["code"] == "unauthorized"
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("kind", PEERS.values(), ids=PEERS)
@pytest.mark.parametrize("where", ["header", "query"])
async def test_a_token_admits_to_what_it_grants(
    hub: Hub, http: httpx.AsyncClient, kind: type[Peer], where: str
) -> None:
    """By name and by wildcard, in a header or in the URL."""
    headers = bearer(token()) if where == "header" else {}
    query = Query("prices", "chat:7", token="" if headers else token())
    async with kind(hub.url, query, headers) as peer:
        await http.post("/api/publish/prices", json=1, headers=bearer(PUBLISH))
        await http.post("/api/publish/chat:7", json=2, headers=bearer(PUBLISH))
        assert await peer.data(2) == [1, 2]


async def test_a_publication_of_a_session_says_who_published_it(hub: Hub) -> None:
    """`from` is the token's subject, and no field of the command can claim another."""
    async with WebSocketPeer(hub.url, Query("chat:42", token=token()), {}) as peer:
        fields = {"op": "publish", "data": 1, "from": "somebody else"}
        assert (await peer.command(channel="chat:42", **fields))["ok"]["offset"] == 1
        assert (await peer.message())["from"] == "ann"
        refused = await peer.command(channel="chat:43", **fields)
        assert refused["error"]["code"] == "forbidden"
        for op in ("subscribe", "history", "presence"):
            refused = await peer.command(op=op, channel="secret")
            assert refused["error"]["code"] == "forbidden", op


REFUSED = [
    ("channel=prices", "unauthorized", 401, 4401),
    (f"channel=prices&token={token(-11)}", "unauthorized", 401, 4401),
    (f"channel=prices&token={token(nbf=time.time() + 3600)}", "unauthorized", 401, 1013),
    ("channel=prices&token=nonsense", "unauthorized", 401, 4401),
    (f"channel=secret&token={token()}", "forbidden", 403, 4403),
    (f"channel=prices&channel=chat&token={token()}", "forbidden", 403, 4403),
]


@pytest.mark.parametrize(("query", "code", "status", "close_code"), REFUSED)
async def test_a_peer_that_may_not_subscribe_is_told_so(
    hub: Hub, http: httpx.AsyncClient, query: str, code: str, status: int, close_code: int
) -> None:
    """A problem document over HTTP; over WebSocket a goodbye and a close code."""
    for path in ("/sse", "/poll"):
        answer = await http.get(f"{path}?{query}")
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["content-type"] == "application/problem+json"
    async with raw_connection(hub.url) as peer:
        assert (await peer.upgrade(f"/ws?{query}")).status == 101
        assert (await peer.push("goodbye"))["code"] == close_code
        assert await peer.close_code() == close_code


@pytest.mark.parametrize("kind", [WebSocketPeer, SsePeer], ids=["websocket", "sse"])
async def test_a_session_ends_with_its_token_after_a_warning(hub: Hub, kind: type[Peer]) -> None:
    async with kind(hub.url, Query("prices", token=token(1)), {}) as peer:
        expiring, goodbye = await _pushes(peer, "expiring"), await _pushes(peer, "goodbye")
        assert 0 <= expiring["in_seconds"] <= 1
        assert (goodbye["code"], goodbye["reason"]) == (4401, "the token has expired")
        assert "reconnect_within_ms" not in goodbye
        if isinstance(peer, WebSocketPeer):
            with pytest.raises(ConnectionClosed, match="4401"):
                await peer.push()


async def _pushes(peer: Peer, op: str) -> Json:
    while (push := await peer.push())["op"] != op:
        pass
    return push


@pytest.mark.parametrize("kind", [WebSocketPeer, SsePeer], ids=["websocket", "sse"])
async def test_authenticate_puts_the_end_off(
    hub: Hub, http: httpx.AsyncClient, kind: type[Peer]
) -> None:
    """A witness whose token was not refreshed shows that the first end has passed."""
    query = Query("prices", token=token(2))
    async with (
        kind(hub.url, query, {}) as peer,
        kind(hub.url, query, {}) as witness,
    ):
        ok = (await peer.command(op="authenticate", token=token(90)))["ok"]
        assert 2 < ok["expires_in_seconds"] <= 90
        assert (await _pushes(witness, "goodbye"))["code"] == 4401
        await http.post("/api/publish/prices", json="still here", headers=bearer(PUBLISH))
        assert (await _pushes(peer, "message"))["data"] == "still here"


async def test_a_token_that_takes_a_held_channel_away_is_refused(hub: Hub) -> None:
    """A token of another subject is refused too, and the session keeps its grants."""
    async with WebSocketPeer(hub.url, Query("prices", token=token()), {}) as peer:
        less = await peer.command(op="authenticate", token=token(hub={"subscribe": ["chat:*"]}))
        other = await peer.command(op="authenticate", token=token(sub="bob"))
        wrong = await peer.command(op="authenticate", token=token(-11))
        codes = [reply["error"]["code"] for reply in (less, other, wrong)]
        assert codes == ["forbidden", "forbidden", "unauthorized"]
        await hub.publish("prices", 1)
        assert await peer.data(1) == [1]


async def test_a_token_holds_for_the_leeway_behind_its_end(http: httpx.AsyncClient) -> None:
    """A setting, of 10 seconds by default."""
    answer = await http.post("/api/publish/chat:42", json=1, headers=bearer(token(-5)))
    assert answer.status_code == 200


async def test_a_token_that_has_not_begun_is_refused_as_one_to_try_again(
    hub: Hub, http: httpx.AsyncClient
) -> None:
    """At every door."""
    early = token(nbf=time.time() + 20)
    for path in ("/sse", "/poll"):
        answer = await http.get(f"{path}?channel=prices&token={early}")
        assert (answer.status_code, answer.json()["retryable"]) == (401, True)
        assert 1 <= int(answer.headers["retry-after"]) <= 10
    async with WebSocketPeer(hub.url, Query("prices", token=token()), {}) as peer:
        error = (await peer.command(op="authenticate", token=early))["error"]
        assert (error["code"], error["retryable"]) == ("unauthorized", True)
        assert 1 <= error["retry_after_seconds"] <= 10
        within = await peer.command(op="authenticate", token=token(nbf=time.time() + 5))
        assert within["ok"]["expires_in_seconds"] > 3000


@pytest.mark.parametrize("kind", PEERS.values(), ids=PEERS)
@pytest.mark.parametrize("ends", [1e16, 1e300, 1.7976931348623157e308])
async def test_a_token_without_an_end_in_sight_is_a_token(
    hub: Hub, kind: type[Peer], ends: float
) -> None:
    """Its session lives, may show the token again, and leaves nothing behind."""
    far = token(exp=ends)
    async with kind(hub.url, Query("prices", token=far), {}) as peer:
        ok = (await peer.command(op="authenticate", token=far))["ok"]
        assert 1e9 < ok["expires_in_seconds"] < 2**53
        await hub.publish("prices", 1)
        assert await peer.data(1) == [1]


@pytest.mark.parametrize("path", ["/api/connections", "/api/nodes", "/api/stats"])
async def test_operating_needs_an_operator_key(http: httpx.AsyncClient, path: str) -> None:
    """Nothing is 401, what holds but is no operator's is 403."""
    assert (await http.get(path)).status_code == 401
    assert (await http.get(path, headers=bearer("wrong"))).status_code == 401
    assert (await http.get(path, headers=bearer(PUBLISH))).status_code == 403
    assert (await http.get(path, headers=bearer(token()))).status_code == 403
    assert (await http.get(path, headers=bearer(OPERATE))).status_code in {200, 404}
    assert (await http.get(path, auth=("anybody", OPERATE))).status_code in {200, 404}


async def test_health_and_metrics_need_no_key(http: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/client.js"):
        assert (await http.get(path)).status_code == 200, path


@pytest.mark.parametrize("path", ["/ws", "/sse?channel=prices", "/poll?channel=prices"])
async def test_a_page_of_another_origin_is_refused(hub: Hub, path: str) -> None:
    """With 403 before anything is opened; the hub's own pages are let in."""
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    headers = bearer(token()) | (upgrade if path == "/ws" else {})
    async with http_client(base_url=hub.url, headers=headers) as http:
        for origin in ("https://evil.example", "null", f"{hub.url}0"):
            answer = await http.get(path, headers={"Origin": origin})
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), origin
        # The second is what the hub's own page looks like behind a proxy that rewrites `Host`.
        proxied = {"Origin": "https://hub.example", "Sec-Fetch-Site": "same-origin"}
        for own in ({"Origin": hub.url}, proxied):
            async with http.stream("GET", f"{path}&wait=0", headers=own) as answer:
                # httpx takes an upgrade for the end of the answer it can read.
                assert answer.status_code == (101 if path == "/ws" else 200) or path == "/ws"
    assert not hub.node.counters.refused["internal"]


def test_another_host_needs_a_key_or_an_explicit_word() -> None:
    """With nothing configured the hub binds loopback only."""
    with pytest.raises(SettingsError, match="insecure"):
        Settings(host="0.0.0.0")
    assert Settings(host="0.0.0.0", insecure=True)
    assert Settings(host="0.0.0.0", publish_keys=(PUBLISH,))
