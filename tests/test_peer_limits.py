"""One peer has limits over every transport, and is told when it asks for more."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx2 as httpx
import jwt
import pytest
import websockets

from hub import Hub, Settings
from hub.core import limits
from tests.support.waiting import eventually

SIGNING = "a-signing-key-of-more-than-32-bytes!"


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[tuple[Hub, httpx.AsyncClient]]:
    async with (
        Hub(Settings(port=0, drain_seconds=0, **settings)) as hub,
        httpx.AsyncClient(base_url=hub.url, timeout=30) as http,
    ):
        yield hub, http


def ws(hub: Hub, query: str = "") -> Any:
    return websockets.connect(f"ws{hub.url[4:]}/ws{query}")


async def reply(peer: Any, command: dict[str, Any]) -> dict[str, Any]:
    await peer.send(json.dumps(command))
    while True:
        said: dict[str, Any] = json.loads(await peer.recv())
        if said["op"] == "reply":
            return said


async def closed_with(peer: Any) -> int | None:
    """The code that a peer is closed with, whatever it gets before."""
    with suppress(websockets.ConnectionClosed):
        async with asyncio.timeout(30):
            while True:
                await peer.recv()
    code: int | None = peer.close_code
    return code


def token(subject: str) -> str:
    claims = {"sub": subject, "exp": time.time() + 60, "hub": {"subscribe": ["*"]}}
    return jwt.encode(claims, SIGNING, algorithm="HS256")


# -- handshakes and connections ---------------------------------------------------------------


async def test_handshakes_of_an_address_are_limited_over_all_transports() -> None:
    async with running(rate_handshakes="3/60") as (hub, http):
        async with ws(hub):
            pass
        async with http.stream("GET", "/sse?channel=a") as answer:
            assert answer.status_code == 200
        assert (await http.get("/poll?channel=a&wait=0")).status_code == 200
        with pytest.raises(websockets.InvalidStatus) as refused:
            await ws(hub)
        assert refused.value.response.status_code == 429
        assert int(refused.value.response.headers["retry-after"]) in range(1, 21)
        for path in ("/sse?channel=a", "/poll?channel=a&wait=0"):
            answer = await http.get(path)
            assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
            assert int(answer.headers["retry-after"]) in range(1, 21)
        # Who is not limited: publishers and probes.
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.post("/api/publish/a", json=1)).status_code == 200
        assert 'hub_rate_limited_total{limit="handshakes"} 3.0' in (await http.get("/metrics")).text


async def test_an_event_source_is_told_when_to_come_back() -> None:
    """After an answer that is not 200 it never would."""
    async with running(rate_handshakes="1/60") as (_, http):
        for expected in (b"welcome", b"goodbye"):
            async with http.stream(
                "GET", "/sse?channel=a", headers={"Accept": "text/event-stream"}
            ) as answer:
                assert answer.status_code == 200
                async for part in answer.aiter_bytes():
                    assert expected in part
                    break


async def test_an_address_has_so_many_connections() -> None:
    async with running(address_connections=4) as (hub, _):
        async with ws(hub), ws(hub), ws(hub), ws(hub):
            with pytest.raises(websockets.InvalidStatus) as refused:
                await ws(hub)
            assert refused.value.response.status_code == 429
        await eventually(lambda: not hub.node.registry.by_address)
        async with ws(hub):
            pass
        await eventually(lambda: not hub.node.registry.by_address)


async def test_silent_connections_count_too() -> None:
    async with running(address_connections=3) as (hub, _):
        port = int(hub.url.rpartition(":")[2])
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        with pytest.raises(websockets.InvalidStatus) as refused:
            await ws(hub)
        assert refused.value.response.status_code == 429
        for _, writer in silent:
            writer.close()


async def test_a_subject_has_so_many_sessions() -> None:
    async with running(subject_connections=2, token_keys=(SIGNING,)) as (hub, http):
        ann, bob = f"?token={token('ann')}", f"?token={token('bob')}"
        async with ws(hub, ann), ws(hub, ann), ws(hub, bob):
            third = await ws(hub, ann)
            assert await closed_with(third) == 4429
            refused = await http.get(f"/sse{ann}&channel=a")
            assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        await eventually(lambda: not hub.node.registry.by_subject)


async def test_a_subject_that_is_told_later_counts_as_well() -> None:
    async with running(subject_connections=1, token_keys=(SIGNING,), anonymous="subscribe") as (
        hub,
        _,
    ):
        async with ws(hub, f"?token={token('ann')}"):
            late = await ws(hub)
            await late.send(json.dumps({"op": "authenticate", "id": 1, "token": token("ann")}))
            assert await closed_with(late) == 4429
        await eventually(lambda: not hub.node.registry.by_subject)


# -- commands and bytes -----------------------------------------------------------------------


async def test_commands_over_the_rate_get_an_error_and_the_others_an_answer() -> None:
    async with running(rate_commands="5/60") as (hub, _), ws(hub) as peer, ws(hub) as other:
        answers = [await reply(peer, {"op": "ping", "id": n}) for n in range(8)]
        assert ["error" in each for each in answers] == [False] * 5 + [True] * 3
        assert [each["id"] for each in answers] == list(range(8))
        error = answers[-1]["error"]
        assert error["code"] == "rate_limited"
        assert error["retry_after_seconds"] >= 1
        assert "error" not in await reply(other, {"op": "ping", "id": 1})


async def test_bytes_over_the_rate_are_refused_after_inflating() -> None:
    """A message of one letter again and again is a hundredth of it on the wire."""
    async with running(rate_inbound_bytes="20KiB/60") as (hub, http), ws(hub) as peer:
        big = {"op": "publish", "id": 1, "channel": "a", "data": "x" * 15_000}
        assert "ok" in await reply(peer, big)
        assert (await reply(peer, big))["error"]["code"] == "rate_limited"
        history = (await http.get("/api/channels/a/history")).json()
        assert len(history["publications"]) == 1


async def test_bytes_of_publications_over_http_count_for_a_subject_or_an_address() -> None:
    """The bytes count after inflating, singly or in a batch, over any connection; a
    publisher with a key is trusted."""
    key = "a-publisher-key-of-some-length"
    given = {"rate_inbound_bytes": "20KiB/60", "token_keys": (SIGNING,), "publish_keys": (key,)}
    async with running(**given) as (hub, _):

        async def publish(bearer: str, path: str, body: object, *, packed: bool = False) -> int:
            content = json.dumps(body).encode()
            headers = {"Authorization": f"Bearer {bearer}"}
            if packed:
                content, headers["Content-Encoding"] = gzip.compress(content), "gzip"
            async with httpx.AsyncClient(base_url=hub.url) as once:
                answer = await once.post(path, content=content, headers=headers)
            if answer.status_code == 429:
                assert answer.json()["code"] == "rate_limited"
                assert int(answer.headers["retry-after"]) >= 1
            return answer.status_code

        big, one = "x" * 15_000, "/api/publish/a"
        item = {"channel": "a", "data": big}
        for sub, path, body, packed in (
            ("ann", one, big, False),
            ("bob", one, big, True),
            ("cyd", "/api/publish", [item], False),
            ("dan", "/api/publish", item, True),
        ):
            may_publish = {"sub": sub, "hub": {"publish": ["*"]}}
            bearer = jwt.encode(may_publish, SIGNING, algorithm="HS256")
            codes = [await publish(bearer, path, body, packed=packed) for _ in range(3)]
            assert codes == [200, 429, 429], sub
        assert [await publish(key, one, big) for _ in range(4)] == [200] * 4
        (ann,) = [row for row in hub.node.refusals.table.held_back() if row.name == "ann"]
        assert (ann.limit, ann.by, ann.count) == ("inbound_bytes", "subject", 2)
    async with running(rate_inbound_bytes="20KiB/60") as (_, http):
        codes = [(await http.post(one, json=big)).status_code for _ in range(3)]
        assert codes == [200, 429, 429]


async def test_commands_over_http_count_with_those_of_the_session() -> None:
    async with running(rate_commands="2/60") as (hub, http), ws(hub) as peer:
        welcome = json.loads(await peer.recv())
        for expected in (False, False, True):
            answer = await http.post(
                f"/command?connection={welcome['connection']}",
                json={"op": "ping", "id": 1},
                headers={"Authorization": f"Bearer {welcome['secret']}"},
            )
            assert ("error" in answer.json()) is expected


async def test_a_flood_of_control_frames_is_not_answered() -> None:
    async with running(rate_commands="5/60") as (hub, _), ws(hub) as peer:
        waits = [await peer.ping() for _ in range(8)]
        # What stands behind the pings is answered behind their pongs.
        assert "error" in await reply(peer, {"op": "ping", "id": 1})
        assert sum(wait.done() for wait in waits) == 5


async def test_a_peer_that_goes_on_is_closed_and_one_that_stops_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "PATIENCE_SECONDS", 1.0)
    async with running(rate_commands="1/60") as (hub, _), ws(hub) as stops, ws(hub) as goes_on:
        await reply(stops, {"op": "ping", "id": 1})
        assert "error" in await reply(stops, {"op": "ping", "id": 2})
        with suppress(websockets.ConnectionClosed):
            for n in range(200):
                await reply(goes_on, {"op": "ping", "id": n})
                await asyncio.sleep(0.05)
        assert goes_on.close_code == 4429
        assert "error" in await reply(stops, {"op": "ping", "id": 3})


# -- publications -----------------------------------------------------------------------------


async def test_publications_of_a_key_are_limited_and_another_key_is_not() -> None:
    async with running(rate_publishes="5/60", publish_keys=("a" * 32, "b" * 32)) as (_, http):

        async def publish(key: str, items: list[dict[str, object]] | None = None) -> httpx.Response:
            headers = {"Authorization": f"Bearer {key * 32}"}
            if items is None:
                return await http.post("/api/publish/x", json=1, headers=headers)
            return await http.post("/api/publish", json=items, headers=headers)

        assert [(await publish("a")).status_code for _ in range(3)] == [200] * 3
        item: dict[str, object] = {"channel": "x", "data": 1}
        refused = await publish("a", [item] * 3)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert int(refused.headers["retry-after"]) >= 1
        assert (await publish("a", [item] * 2)).status_code == 200
        assert (await publish("a")).status_code == 429
        assert (await publish("b")).status_code == 200


async def test_a_body_that_cannot_be_read_counts_and_is_not_read_over_the_rate() -> None:
    """4 MiB of brackets take longer to read than to refuse."""
    async with running(rate_publishes="3/60") as (_, http):
        whole = [{"channel": "x", "data": 1}]
        assert (await http.post("/api/publish", json=whole * 4)).status_code == 200
        # What may be published at once is never too much; what was taken ahead is given back.
    async with running(rate_publishes="3/60") as (_, http):
        codes = [(await http.post("/api/publish", content=b"[" * 9)).status_code for _ in range(4)]
        assert codes == [400, 400, 400, 429]
        assert (await http.post("/api/publish", json=whole)).status_code == 429


async def test_a_session_without_a_subject_is_its_own_publisher() -> None:
    async with running(rate_publishes="2/60") as (hub, http), ws(hub) as one, ws(hub) as other:
        command = {"op": "publish", "id": 1, "channel": "a", "data": 1}
        assert ["ok" in await reply(one, command) for _ in range(3)] == [True, True, False]
        assert "ok" in await reply(other, command)
        codes = [(await http.post("/api/publish/a", json=1)).status_code for _ in range(3)]
        assert codes == [200, 200, 429]
        # What the application in this process publishes has no limit.
        for _ in range(5):
            await hub.publish("a", 1)


@pytest.mark.parametrize("wrong", ["10", "10/0", "0/1", "10/1:0", "-1/1", "x/1", "10/1:", "1/nan"])
def test_a_rate_that_is_none_is_refused_with_what_is_allowed(wrong: str) -> None:
    with pytest.raises(Exception, match="RATE/SECONDS"):
        Settings(rate_commands=wrong)
