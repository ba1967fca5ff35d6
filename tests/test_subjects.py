"""Subjects of a real node: listed, closed, taken out of channels, banned, their tokens revoked."""

import time
from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx2 as httpx
import jwt
import pytest

from hub import Hub, Settings
from tests.support.raw_connection import raw_connection
from tests.transports.peers import PEERS, Json, Peer, Query, SsePeer, WebSocketPeer, http_client

SIGNING, OPERATE, PUBLISH = "s" * 32, "o" * 32, "p" * 32
STREAMS = [WebSocketPeer, SsePeer]


def token(sub: str = "ann", **claims: object) -> str:
    payload: Json = {
        "sub": sub,
        "exp": time.time() + 3600,
        "iat": time.time(),
        "hub": {"subscribe": ["*"], "publish": ["*"]},
    }
    return jwt.encode(payload | claims, SIGNING, algorithm="HS256")


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    settings = Settings(
        port=0,
        drain_seconds=0,
        token_keys=SIGNING,
        operator_keys=OPERATE,
        publish_keys=PUBLISH,
    )
    async with Hub(settings) as hub:
        yield hub


@pytest.fixture
async def http(hub: Hub) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {OPERATE}"}
    async with http_client(base_url=hub.url, headers=headers) as client:
        yield client


async def goodbye(peer: Peer) -> tuple[int, str]:
    while (push := await peer.push())["op"] != "goodbye":
        pass
    return push["code"], push["reason"]


@pytest.mark.parametrize("sub", ["ann", "auth0|42", "a/b:c.*", "Zo\u00eb"])
async def test_a_subject_is_listed_with_its_connections(
    hub: Hub, http: httpx.AsyncClient, sub: str
) -> None:
    """Connections of other subjects are not listed, and the name may have any characters."""
    async with (
        WebSocketPeer(hub.url, Query("news", token=token(sub)), {}),
        SsePeer(hub.url, Query("news", token=token(sub)), {}),
        WebSocketPeer(hub.url, Query("news", token=token("bob")), {}),
    ):
        found = (await http.get(f"/api/subjects/{quote(sub, safe='')}")).json()
        assert (found["sub"], found["ban"], found["total"]) == (sub, None, 2)
        assert {row["subject"] for row in found["connections"]} == {sub}


@pytest.mark.parametrize("kind", STREAMS)
async def test_all_connections_of_a_subject_are_closed(
    hub: Hub, http: httpx.AsyncClient, kind: type[Peer]
) -> None:
    async with (
        kind(hub.url, Query("news", token=token()), {}) as peer,
        WebSocketPeer(hub.url, Query("news", token=token("bob")), {}) as other,
    ):
        assert (await http.delete("/api/subjects/ann/connections")).status_code == 204
        assert (await goodbye(peer))[0] == 4403
        assert "ok" in await other.command(op="ping")
    assert (await http.delete("/api/subjects/ann/connections")).status_code == 204


async def test_all_connections_of_a_subject_leave_a_channel(
    hub: Hub, http: httpx.AsyncClient
) -> None:
    """They are told, and stay for the rest."""
    async with WebSocketPeer(hub.url, Query("news", "chat", token=token()), {}) as peer:
        assert (await http.delete("/api/subjects/ann/subscriptions/news")).status_code == 204
        while (push := await peer.push())["op"] != "unsubscribed":
            pass
        assert push["channel"] == "news"
        await hub.publish("news", 1)
        await hub.publish("chat", 2)
        assert await peer.data(1) == [2]


async def test_a_ban_ends_a_session_between_two_polls(hub: Hub, http: httpx.AsyncClient) -> None:
    """Its next poll finds no session, and a new one is refused with the reason."""
    begin = f"/poll?channel=news&session=true&wait=0&token={token()}"
    async with http_client(base_url=hub.url) as peer:
        welcome = (await peer.get(begin)).json()["welcome"]
        banned = await http.put("/api/subjects/ann/ban", json={"reason": "spam", "seconds": 60})
        assert banned.status_code == 200, banned.text
        assert (await http.get("/api/subjects/ann")).json()["connections"] == []
        goes_on = await peer.get(
            f"/poll?channel=news&session=true&wait=0&connection={welcome['connection']}",
            headers={"Authorization": f"Bearer {welcome['secret']}"},
        )
        assert goes_on.status_code == 404
        refused = await peer.get(begin)
        assert (refused.status_code, refused.json()["detail"]) == (403, "spam")


@pytest.mark.parametrize("kind", STREAMS)
async def test_a_banned_subject_is_closed_and_refused_at_every_door(
    hub: Hub, http: httpx.AsyncClient, kind: type[Peer]
) -> None:
    """With 4403 or 403 and its reason, until it is let in again."""
    ban = {"seconds": 60, "reason": "spam in chat"}
    async with (
        kind(hub.url, Query("news", token=token()), {}) as peer,
        WebSocketPeer(hub.url, Query("news", token=token("bob")), {}) as other,
    ):
        answer = await http.put("/api/subjects/ann/ban", json=ban)
        assert answer.status_code == 200
        assert answer.json()["reason"] == "spam in chat"
        assert await goodbye(peer) == (4403, "spam in chat")
        error = (await other.command(op="authenticate", token=token()))["error"]
        assert error["code"] == "forbidden"
    for path in ("/sse?channel=news", "/poll?channel=news&wait=0"):
        refused = await http.get(f"{path}&token={token()}", headers={"Authorization": ""})
        assert refused.status_code in {401, 403}
    async with http_client(base_url=hub.url) as stranger:
        refused = await stranger.get(f"/poll?channel=news&wait=0&token={token()}")
        assert (refused.status_code, refused.json()["detail"]) == (403, "spam in chat")
        posted = await stranger.post(
            "/api/publish/news", json=1, headers={"Authorization": f"Bearer {token()}"}
        )
        assert posted.status_code == 403
    async with raw_connection(hub.url) as raw:
        assert (await raw.upgrade(f"/ws?channel=news&token={token()}")).status == 101
        told = await raw.push("goodbye")
        assert (told["code"], told["reason"]) == (4403, "spam in chat")
    shown = (await http.get("/api/subjects/ann")).json()["ban"]
    assert shown["reason"] == "spam in chat"
    assert [each["sub"] for each in (await http.get("/api/bans")).json()["bans"]] == ["ann"]
    metrics = (await http.get("/metrics")).text
    assert 'hub_refusals_total{reason="banned"} 6.0' in metrics
    assert (await http.delete("/api/subjects/ann/ban")).status_code == 204
    assert (await http.delete("/api/subjects/ann/ban")).status_code == 404
    async with kind(hub.url, Query("news", token=token()), {}) as peer:
        await hub.publish("news", 1)
        assert await peer.data(1) == [1]


async def test_a_ban_ends_by_itself(hub: Hub, http: httpx.AsyncClient) -> None:
    for seconds in (5e-324, 0.001):
        answer = await http.put("/api/subjects/ann/ban", json={"seconds": seconds})
        assert (answer.status_code, answer.json()["sub"]) == (200, "ann")
    async with WebSocketPeer(hub.url, Query("news", token=token()), {}):
        pass


async def test_a_revoked_token_holds_no_more(hub: Hub, http: httpx.AsyncClient) -> None:
    """By its name; another of the same subject does."""
    revoked, other = token(jti="t1"), token(jti="t2")
    async with WebSocketPeer(hub.url, Query("news", token=revoked), {}) as peer:
        answer = await http.post("/api/tokens/revoke", json={"jti": "t1"})
        assert answer.json()["jti"] == "t1"
        assert await goodbye(peer) == (4401, "the token has been revoked")
    async with http_client(base_url=hub.url) as stranger:
        refused = await stranger.get(f"/poll?channel=news&wait=0&token={revoked}")
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
    async with WebSocketPeer(hub.url, Query("news", token=other), {}):
        pass


@pytest.mark.parametrize("unit", [1, 1000], ids=["seconds", "milliseconds"])
async def test_a_subjects_older_tokens_are_revoked(
    hub: Hub, http: httpx.AsyncClient, unit: int
) -> None:
    now = time.time()
    old, new = token(iat=now - 100), token(iat=now)
    async with WebSocketPeer(hub.url, Query("news", token=old), {}) as peer:
        body = {"sub": "ann", "issued_before": (now - 50) * unit}
        assert (await http.post("/api/tokens/revoke", json=body)).status_code == 200
        assert (await goodbye(peer))[0] == 4401
    async with WebSocketPeer(hub.url, Query("news", token=new), {}):
        pass


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "subjects/ann/ban", {}),
        ("PUT", "subjects/ann/ban", {"seconds": 0}),
        ("PUT", "subjects/ann/ban", {"seconds": -1}),
        ("PUT", "subjects/ann/ban", {"seconds": 1e12}),
        ("PUT", "subjects/ann/ban", {"seconds": "60"}),
        ("PUT", "subjects/ann/ban", {"seconds": 60, "reason": "x" * 201}),
        ("PUT", "subjects/ann/ban", {"seconds": 60, "more": 1}),
        ("PUT", "subjects/ann/ban", []),
        ("POST", "tokens/revoke", {}),
        ("POST", "tokens/revoke", {"jti": "a", "sub": "b", "issued_before": 1}),
        ("POST", "tokens/revoke", {"sub": "b"}),
        ("POST", "tokens/revoke", {"jti": ""}),
        ("POST", "tokens/revoke", {"sub": "b", "issued_before": -1}),
    ],
)
async def test_a_wrong_request_is_told_what_is_wrong(
    http: httpx.AsyncClient, method: str, path: str, body: object
) -> None:
    answer = await http.request(method, f"/api/{path}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


async def test_a_ban_without_a_body_is_told_which_field_it_lacks(http: httpx.AsyncClient) -> None:
    answer = await http.put("/api/subjects/ann/ban")
    assert answer.status_code == 400
    assert "missing required field `seconds`" in answer.json()["detail"]


@pytest.mark.parametrize("kind", PEERS.values(), ids=PEERS)
async def test_only_operators_may_act_on_subjects(hub: Hub, kind: type[Peer]) -> None:
    async with http_client(base_url=hub.url) as client:
        for method, path in (
            ("GET", "subjects/ann"),
            ("GET", "bans"),
            ("DELETE", "subjects/ann/connections"),
            ("DELETE", "subjects/ann/subscriptions/news"),
            ("PUT", "subjects/ann/ban"),
            ("DELETE", "subjects/ann/ban"),
            ("POST", "tokens/revoke"),
        ):
            for credential, status in (("", 401), (f"Bearer {token()}", 403), (PUBLISH, 401)):
                headers = {"Authorization": credential} if credential else {}
                answer = await client.request(method, f"/api/{path}", headers=headers)
                assert answer.status_code == status, path
        # Nor is the channel that keeps it anybody's.
        answer = await client.get(
            "/api/channels/hub:access/history", headers={"Authorization": f"Bearer {OPERATE}"}
        )
        assert answer.status_code == 403
