"""Tokens of an identity provider through every door of a real node, over its rotations and faults.

The provider is a small one with real keys (`tests.support.identity_provider`): it publishes a
key set, replaces keys, and goes wrong in each of the ways that the hub has to bear.
"""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2 as httpx
import jwt
import pytest
from websockets.asyncio.client import connect

from hub import Hub, Settings
from hub.observe.logs import make_logger
from tests.support.identity_provider import IdentityProvider, make_key, public_pem, sign
from tests.support.raw_connection import raw_connection
from tests.support.waiting import eventually
from tests.transports.peers import PEERS, Json, Peer, Query, SsePeer, WebSocketPeer, http_client


@pytest.fixture(params=["RS256", "PS256", "ES256", "EdDSA"])
async def provider(request: pytest.FixtureRequest) -> AsyncIterator[IdentityProvider]:
    async with IdentityProvider(request.param) as provider:
        yield provider


@pytest.fixture
async def es256() -> AsyncIterator[IdentityProvider]:
    async with IdentityProvider() as provider:
        yield provider


def settings(provider: IdentityProvider, **more: object) -> Settings:
    return Settings(
        port=0,
        drain_seconds=0,
        token_jwks_url=provider.jwks_url,
        token_issuer=provider.issuer,
        **more,
    )


async def test_a_token_admits_and_its_successors_key_is_learnt(provider: IdentityProvider) -> None:
    """At once, although nobody has told the hub; the key before it verifies no longer."""
    async with Hub(settings(provider)) as hub, http_client(base_url=hub.url) as http:
        before = provider.token()
        async with WebSocketPeer(hub.url, Query("news", token=before), {}) as peer:
            await hub.publish("news", 1)
            assert await peer.data(1) == [1]
        provider.rotate("second")
        async with WebSocketPeer(hub.url, Query("news", token=provider.token()), {}) as peer:
            await hub.publish("news", 2)
            assert await peer.data(1) == [2]
        assert provider.requests == 2
        answer = await http.get(f"/poll?channel=news&token={before}")
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert provider.requests == 2


@pytest.mark.parametrize("kind", PEERS.values(), ids=PEERS)
async def test_every_door_waits_for_a_key_that_is_being_asked_for(
    es256: IdentityProvider, kind: type[Peer]
) -> None:
    """One request, however many come; a publisher's and a command's token wait as well."""
    es256.may_answer.clear()
    async with Hub(settings(es256)) as hub, http_client(base_url=hub.url) as http:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            peers = [kind(hub.url, Query("news", token=es256.token()), {}) for _ in range(5)]
            opening = [group.create_task(peer.__aenter__()) for peer in peers]
            bearer = {"Authorization": f"Bearer {es256.token()}"}
            posted = group.create_task(http.post("/api/publish/chat:ann", json=1, headers=bearer))
            read = group.create_task(http.get("/api/channels/news", headers=bearer))
            await eventually(lambda: es256.requests == 1)
            # The loop is free meanwhile: others are answered.
            assert (await http.get("/healthz")).status_code == 200
            assert not any(task.done() for task in opening)
            es256.may_answer.set()
        assert (await posted).status_code == 200
        assert (await read).status_code in {200, 404}
        assert es256.requests == 1
        for peer in peers:
            await peer.__aexit__(None, None, None)


async def test_commands_that_a_websocket_sends_while_it_waits_are_carried_out(
    es256: IdentityProvider,
) -> None:
    """Behind the handshake, in order, in one write with it."""
    es256.may_answer.clear()
    async with Hub(settings(es256)) as hub, raw_connection(hub.url) as peer:
        opening = asyncio.create_task(peer.upgrade(f"/ws?channel=news&token={es256.token()}"))
        await eventually(lambda: es256.requests == 1)
        es256.may_answer.set()
        assert (await opening).status == 101
        assert (await peer.push("subscribed"))["channel"] == "news"


async def test_a_peer_that_goes_while_it_waits_leaves_nothing(es256: IdentityProvider) -> None:
    es256.may_answer.clear()
    async with Hub(settings(es256)) as hub:
        async with raw_connection(hub.url) as peer:
            opening = asyncio.create_task(peer.upgrade(f"/ws?channel=news&token={es256.token()}"))
            await eventually(lambda: es256.requests == 1)
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
        es256.may_answer.set()
        async with WebSocketPeer(hub.url, Query("news", token=es256.token()), {}):
            await eventually(lambda: len(hub.node.registry.sessions) == 1)
        await eventually(lambda: not hub.node.registry.sessions)


async def test_keys_that_nobody_knows_are_refused_and_cost_one_request(
    es256: IdentityProvider,
) -> None:
    """401 or 4401, with a line and a number for the operator."""
    async with Hub(settings(es256)) as hub, http_client(base_url=hub.url) as http:
        async with WebSocketPeer(hub.url, Query("news", token=es256.token()), {}):
            pass
        forged = [es256.token(kid=f"nobody-{number}") for number in range(50)]
        answers = await asyncio.gather(
            *(http.get(f"/poll?channel=news&token={each}") for each in forged)
        )
        assert {answer.status_code for answer in answers} == {401}
        async with raw_connection(hub.url) as peer:
            assert (await peer.upgrade(f"/ws?channel=news&token={forged[0]}")).status == 101
            assert (await peer.push("goodbye"))["code"] == 4401
        assert es256.requests == 2
        metrics = (await http.get("/metrics")).text
        assert 'hub_refusals_total{reason="token_key"} 51.0' in metrics
        assert 'hub_token_key_fetches_total{outcome="fetched"} 2.0' in metrics


async def test_a_flood_of_forged_tokens_costs_a_subscriber_nothing(
    es256: IdentityProvider,
) -> None:
    """Wrong signatures and keys that nobody has, at every door: its stream stays complete."""
    async with Hub(settings(es256)) as hub, http_client(base_url=hub.url) as http:
        async with WebSocketPeer(hub.url, Query("news", token=es256.token()), {}) as peer:
            good = es256.token()
            head, claims, signature = good.split(".")
            wrong = f"{head}.{claims}.{signature[:-8]}AAAAAAAA"
            forged = [wrong, *(es256.token(kid=f"nobody-{number}") for number in range(20))]

            async def attack(number: int) -> int:
                token = forged[number % len(forged)]
                headers = {"Authorization": f"Bearer {token}"}
                if number % 2:
                    return (await http.get(f"/poll?channel=news&token={token}")).status_code
                return (await http.post("/api/publish/news", json=1, headers=headers)).status_code

            published = range(1, 41)
            attacks = [asyncio.create_task(attack(number)) for number in range(300)]
            for number in published:
                await hub.publish("news", number)
                await asyncio.sleep(0)
            assert set(await asyncio.gather(*attacks)) == {401}
            assert await peer.data(len(published)) == list(published)
        assert es256.requests == 2


@pytest.mark.parametrize(
    ("trouble", "outcome"),
    [("status", "refused"), ("huge", "too_large"), ("rubbish", "invalid"), ("empty", "invalid"),
     ("reset", "unreachable"), ("drip", "timeout"), ("crumbs", "too_large")],
)  # fmt: skip
async def test_the_last_good_keys_outlive_a_provider_in_trouble(
    es256: IdentityProvider,
    trouble: str,
    outcome: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whose key is known comes in; whose key is not is told to come back; the operator sees why."""
    if trouble == "drip":
        monkeypatch.setattr("hub.auth.fetching.FETCH_SECONDS", 1)
    told, stream = settings(es256, log_format="json"), io.StringIO()
    log = make_logger(told, stream)
    async with Hub(told, log=log) as hub, http_client(base_url=hub.url) as http:
        known = es256.token()
        async with WebSocketPeer(hub.url, Query("news", token=known), {}):
            pass
        es256.rotate("second")
        es256.trouble = trouble
        answer = await http.get(f"/poll?channel=news&token={es256.token()}")
        assert (answer.status_code, answer.json()["retryable"]) == (401, True)
        assert 1 <= int(answer.headers["retry-after"]) <= 30
        async with WebSocketPeer(hub.url, Query("news", token=known), {}):
            pass
        counted = f'hub_token_key_fetches_total{{outcome="{outcome}"}} 1.0'
        assert counted in (await http.get("/metrics")).text
    logged = [json.loads(line) for line in stream.getvalue().splitlines()]
    failures = [line for line in logged if line["event"] == "token_keys_not_fetched"]
    assert [line["outcome"] for line in failures] == [outcome]


async def test_a_token_by_the_first_command_opens_a_session(es256: IdentityProvider) -> None:
    """Where no header can be set and no URL may hold it."""
    async with Hub(settings(es256)) as hub:
        async with WebSocketPeer(hub.url, Query(), {}) as peer:
            ok = await peer.command(op="authenticate", token=es256.token())
            assert "expires_in_seconds" in ok["ok"]
            assert (await peer.command(op="subscribe", channel="news"))["ok"]["channel"] == "news"
            published = await peer.command(op="publish", channel="chat:ann", data=1)
            assert published["ok"]["offset"] == 1


@pytest.mark.parametrize(
    "first",
    ['{"op":"subscribe","id":1,"channel":"news"}', '{"op":"authenticate","id":1,"token":"x.y.z"}',
     '{"op":"publish","id":1,"channel":"news","data":1}', '{"op":"ping","id":1}',
     '{"op":"unsubscribe","id":1,"channel":"news"}'],
)  # fmt: skip
async def test_any_other_first_command_ends_it(es256: IdentityProvider, first: str) -> None:
    async with Hub(settings(es256)) as hub:
        url = hub.url.replace("http", "ws", 1)
        async with connect(f"{url}/ws") as socket:
            await socket.send(first)
            await asyncio.wait_for(socket.wait_closed(), 30)
            assert socket.close_code == 4401


async def test_a_peer_that_sends_no_token_in_time_is_let_go(es256: IdentityProvider) -> None:
    async with Hub(settings(es256, handshake_timeout_seconds=0.2)) as hub:
        url = hub.url.replace("http", "ws", 1)
        async with connect(f"{url}/ws") as socket:
            await asyncio.wait_for(socket.wait_closed(), 30)
            assert (socket.close_code, socket.close_reason) == (4401, "no token came in time")


async def test_a_token_in_a_subprotocol_is_answered_with_hub(es256: IdentityProvider) -> None:
    async with Hub(settings(es256)) as hub:
        url = hub.url.replace("http", "ws", 1)
        offered = ["hub", f"bearer.{es256.token()}"]
        async with connect(f"{url}/ws?channel=news", subprotocols=offered) as socket:  # type: ignore[arg-type]
            assert socket.subprotocol == "hub"


@pytest.mark.parametrize("kind", [WebSocketPeer, SsePeer], ids=["websocket", "sse"])
async def test_a_token_in_a_cookie_needs_an_allowed_origin(
    es256: IdentityProvider, kind: type[Peer]
) -> None:
    """A browser sends it from every page; only those of this host and of listed ones count."""
    async with Hub(
        settings(es256, token_cookie="session", origins=("https://app.example", "*"))
    ) as hub:
        cookie = {"Cookie": f"a=1; session={es256.token()}"}
        page = cookie | {"Origin": "https://app.example"}
        async with kind(hub.url, Query("news"), page) as peer:
            await hub.publish("news", 1)
            assert await peer.data(1) == [1]
        async with http_client(base_url=hub.url) as http:
            for headers in (cookie, cookie | {"Origin": "https://evil.example"}):
                answer = await http.get("/poll?channel=news", headers=headers)
                assert answer.status_code == 401
            posted = await http.post("/api/publish/chat:ann", json=1, headers=page)
            assert posted.status_code == 200


async def test_public_keys_of_files_need_no_provider(tmp_path: Path) -> None:
    """Beside secrets, each with its own algorithm."""
    key, secret = make_key("EdDSA"), "a-signing-key-of-more-than-32-bytes!"
    path = tmp_path / "id.pem"
    path.write_text(public_pem(key))
    claims: Json = {"sub": "ann", "hub": {"subscribe": ["news"]}}
    tokens = [sign(key, "EdDSA", claims), jwt.encode(claims, secret, algorithm="HS256")]
    forged = jwt.encode(claims, "x" * 32, algorithm="HS256")
    async with Hub(Settings(port=0, token_public_keys=str(path), token_keys=secret)) as hub:
        for token in tokens:
            async with WebSocketPeer(hub.url, Query("news", token=token), {}):
                pass
        async with http_client(base_url=hub.url) as http:
            answer: httpx.Response = await http.get(f"/poll?channel=news&token={forged}")
            assert answer.status_code == 401


async def test_public_keys_of_files_are_replaced_while_the_hub_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new one holds and the old one no more; a session that is open goes on."""
    monkeypatch.setattr("hub.node.file_watch.LOOK_SECONDS", 0.02)
    old, new, path = make_key("EdDSA"), make_key("RS256"), tmp_path / "id.pem"
    path.write_text(public_pem(old))
    claims: Json = {"sub": "ann", "hub": {"subscribe": ["news"]}}
    before, after = sign(old, "EdDSA", claims), sign(new, "RS256", claims)
    async with (
        Hub(Settings(port=0, token_public_keys=str(path))) as hub,
        http_client(base_url=hub.url) as http,
        WebSocketPeer(hub.url, Query("news", token=before), {}) as peer,
    ):

        async def status(token: str) -> int:
            answer = await http.get(f"/poll?channel=news&wait=0&token={token}")
            return answer.status_code

        assert (await status(before), await status(after)) == (200, 401)
        path.write_text("-----BEGIN PUBLIC KEY-----\nhalf of it")

        async def is_counted() -> bool:
            counted = 'hub_token_key_reloads_total{outcome="failed"} 1.0'
            return counted in (await http.get("/metrics")).text

        await eventually(is_counted)
        assert (await status(before), await status(after)) == (200, 401)
        path.write_text(public_pem(new))

        async def new_one_holds() -> bool:
            return await status(after) == 200

        await eventually(new_one_holds)
        assert await status(before) == 401
        assert "ok" in await peer.command(op="ping")
