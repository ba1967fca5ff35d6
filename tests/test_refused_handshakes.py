"""A handshake that is refused by its head is told, counted and bounded the same, however it
comes."""

import re
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import jwt
import pytest

from hub import Hub, Settings
from tests.support.frames import BINARY, masked
from tests.support.raw_connection import RawConnection, get, raw_connection
from tests.support.waiting import eventually
from tests.transports.peers import http_client

OPERATOR = {"X-API-Key": "an-operators-key-of-some-length-here"}
KEY = "a-signing-key-of-more-than-32-bytes!"


def token(**claims: object) -> str:
    return jwt.encode({"sub": "ann", "hub": {"subscribe": ["news"]}} | claims, KEY, "HS256")


FORGED = f"{token().rpartition('.')[0]}.{'A' * 43}"
OLD = token(exp=int(time.time()) - 1000)
BANNED = token(sub="eve")
GOOD = token()
REFUSED = {
    "forged in the URL": f"/ws?channel=news&token={FORGED}",
    "ended": f"/ws?channel=news&token={OLD}",
    "banned": f"/ws?channel=news&token={BANNED}",
    "not granted": f"/ws?channel=secret&token={GOOD}",
    "no token and channels": "/ws?channel=news",
    "a wrong URL": "/ws?channel=a%20b",
    "forged, stream": f"/sse?channel=news&token={FORGED}",
    "not granted, stream": f"/sse?channel=secret&token={GOOD}",
    "no channel, stream": f"/sse?token={GOOD}",
    "a long URL": f"/ws?channel={'a' * 5000}",
    "no handshake": f"/ws?channel=news&token={GOOD}&no-upgrade",
}


def hub_of(**more: Any) -> Hub:
    keys = {"token_keys": (KEY,), "operator_keys": (OPERATOR["X-API-Key"],)}
    return Hub(Settings(port=0, drain_seconds=0, **keys, **more))


def request(target: str, fields: str = "") -> bytes:
    whole = get(target, upgrade=target.startswith("/ws") and "no-upgrade" not in target)
    return whole.replace(b"\r\n\r\n", f"\r\n{fields}\r\n".encode(), 1)


async def told(hub: Hub, data: bytes, *, whole: bool) -> tuple[bytes, Mapping[str, Any]]:
    """Return the answer to a handshake, without its date and the age of a token, and what was
    counted for it."""
    counters = hub.node.counters
    before = {name: dict(getattr(counters, name)) for name in COUNTED}
    async with raw_connection(hub.url) as peer:
        if whole:
            peer.send(data)
        else:
            await peer.send_slowly(data)
        answer = re.sub(rb"\d+ seconds ago", b"some time ago", await peer.rest())
    await eventually(lambda: not hub.node.sockets.http)
    counted = {
        name: {
            key: value - before[name].get(key, 0)
            for key, value in getattr(counters, name).items()
            if value != before[name].get(key, 0)
        }
        for name in COUNTED
    }
    lines = [line for line in answer.split(b"\r\n") if not line.startswith(b"Date:")]
    return b"\r\n".join(sorted(lines)), counted


COUNTED = ("refused", "refusals", "http_errors", "opened", "closed")


@pytest.mark.parametrize("name", REFUSED)
async def test_the_first_bytes_are_refused_as_a_head_in_pieces_is(name: str) -> None:
    """Both have the same answer and counts, and one row each in the table of refusals."""
    async with hub_of() as hub:
        async with http_client(base_url=hub.url, headers=OPERATOR) as http:
            ban = await http.put("/api/subjects/eve/ban", json={"seconds": 60, "reason": "spam"})
            assert ban.is_success, ban.text
        whole, counted = await told(hub, request(REFUSED[name]), whole=True)
        pieces, counted_too = await told(hub, request(REFUSED[name]), whole=False)
    assert whole
    assert whole == pieces
    assert counted == counted_too


@pytest.mark.parametrize(
    "fields",
    [
        f"Authorization: Bearer {FORGED}\r\n",
        f"Sec-WebSocket-Protocol: hub, bearer.{FORGED}\r\n",
        "X-API-Key: nobodys\r\n",
        f"Cookie: token={FORGED}\r\nOrigin: http://127.0.0.1\r\n",
    ],
)
async def test_a_credential_is_found_wherever_it_stands(fields: str) -> None:
    async with hub_of(token_cookie="token", log_level="error") as hub:
        data = request("/ws?channel=news", fields)
        whole, counted = await told(hub, data, whole=True)
        assert b"4401" in whole
        assert (whole, counted) == await told(hub, data, whole=False)
        assert counted["refused"] == {"unauthorized": 1}


async def test_each_handshake_takes_one_of_those_that_its_address_has() -> None:
    """Also where first bytes were judged and the peer may come in."""
    async with hub_of(rate_handshakes="4/3600") as hub:
        answers = []
        for target in (FORGED, GOOD, GOOD, FORGED, GOOD, FORGED):
            async with raw_connection(hub.url) as peer:
                peer.send(get(f"/ws?channel=news&token={target}", upgrade=True))
                answers.append((await peer.answer()).status)
        assert answers == [101, 101, 101, 101, 429, 429]
        assert hub.node.counters.rate_limited["handshakes"] == 2


async def test_a_peer_that_was_refused_and_stays_counts_for_its_address() -> None:
    """Else one address with a wrong token could hold all connections that the node has."""
    async with hub_of(address_connections=3) as hub, AsyncExitStack() as stack:
        port = int(hub.url.rpartition(":")[2])
        peers = [await RawConnection.connect(port) for _ in range(3)]
        for peer in peers:
            stack.callback(peer.close)
            await peer.upgrade(f"/ws?channel=news&token={FORGED}")
            assert (await peer.push("goodbye"))["code"] == 4401
        async with raw_connection(hub.url) as another:
            assert (await another.upgrade(f"/ws?channel=news&token={GOOD}")).status == 429
        peers.pop().close()
        await eventually(lambda: len(hub.node.sockets.http) == 2)
        async with raw_connection(hub.url) as another:
            assert (await another.upgrade(f"/ws?channel=news&token={GOOD}")).status == 101


async def test_a_flood_of_refusals_leaves_the_journal_to_sessions() -> None:
    """A peer that never came in pushes none out of the list of those that ended."""
    async with hub_of() as hub:
        async with raw_connection(hub.url) as peer:
            await peer.upgrade(f"/ws?channel=news&token={GOOD}")
            await peer.push("welcome")
        await eventually(lambda: not hub.node.registry.sessions)
        for _ in range(5):
            await told(hub, request(REFUSED["forged in the URL"]), whole=True)
        async with http_client(base_url=hub.url, headers=OPERATOR) as http:
            closed = (await http.get("/api/closed")).json()
        assert [each["subject"] for each in closed["closed"]] == ["ann"]


async def test_a_peer_whose_session_was_closed_and_stays_counts_for_its_address_too() -> None:
    """Its session has ended, and its connection has not."""
    async with hub_of(address_connections=2) as hub, AsyncExitStack() as stack:
        for _ in range(2):
            peer = await stack.enter_async_context(raw_connection(hub.url))
            await peer.upgrade(f"/ws?channel=news&token={GOOD}")
            peer.send(masked(b"\x00", BINARY))
            assert await peer.close_code() == 1003
        assert not hub.node.registry.sessions
        async with raw_connection(hub.url) as another:
            assert (await another.upgrade(f"/ws?channel=news&token={GOOD}")).status == 429
        peer.close()
        await eventually(lambda: len(hub.node.registry.leaving) == 1)
        async with raw_connection(hub.url) as another:
            assert (await another.upgrade(f"/ws?channel=news&token={GOOD}")).status == 101
