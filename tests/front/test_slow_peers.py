"""Peers that are slow in each state of a connection: each ends in time, with a reason and a count.

What begins with a TLS handshake or a PROXY protocol header is in `test_addresses_and_tls`.
"""

import asyncio
import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from tests.support.hub_process import HubProcess
from tests.support.raw_connection import RawConnection, get, raw_connection
from tests.support.waiting import eventually

HEAD = b"POST /api/publish/slow HTTP/1.1\r\nHost: localhost\r\n"
# A frame of 100 bytes that is never whole, and the first fragment of a message that never is.
HALF_A_FRAME = b"\x81\xe4\0\0\0\0{"
A_FRAGMENT = b"\x01\x81\0\0\0\0{"
MORE_FRAGMENTS = b"\x00\x81\0\0\0\0 "


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(
        HUB_HANDSHAKE_TIMEOUT_SECONDS="1",
        HUB_BODY_TIMEOUT_SECONDS="1",
        HUB_WRITE_TIMEOUT_SECONDS="1",
    ) as hub:
        yield hub


async def rows(hub: HubProcess, reason: str) -> int:
    """How often the hub has refused somebody of this address for this reason."""
    async with httpx.AsyncClient() as http:
        table = (await http.get(f"{hub.url}/api/refusals")).json()["refusals"]
    return sum(
        row["count"] for row in table if (row["reason"], row["address"]) == (reason, "127.0.0.1")
    )


async def metric(hub: HubProcess, name: str) -> float:
    async with httpx.AsyncClient() as http:
        lines = (await http.get(f"{hub.url}/metrics")).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


async def drip(peer: RawConnection, more: bytes) -> None:
    """Send a little for ever: what moves is slow all the same."""
    while True:
        peer.send(more)
        await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"GET /he", b"a"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ", b"a"),
        (get("/ws?channel=slow", upgrade=True)[:-2] + b"X: ", b"a"),
        (HEAD + b'Content-Length: 1000\r\n\r\n"', b"a"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a"),
    ],
    ids=["line", "field", "handshake", "body", "chunks", "chunk extension"],
)
async def test_a_request_that_comes_byte_by_byte_is_answered_counted_and_seen(
    hub: HubProcess, start: bytes, more: bytes
) -> None:
    counted = 'hub_refusals_total{reason="slow_request"}'
    before, seen = await metric(hub, counted), await rows(hub, "slow_request")
    async with raw_connection(hub.url) as peer:
        peer.send(start)
        async with asyncio.TaskGroup() as tasks:
            dripping = tasks.create_task(drip(peer, more))
            assert (await peer.answer()).status == 408
            await peer.rest()
            dripping.cancel()
    assert await metric(hub, counted) == before + 1
    assert await rows(hub, "slow_request") == seen + 1
    logged = [json.loads(line) for line in hub.stderr.splitlines() if '"refused"' in line]
    assert {(line["code"], line["address"]) for line in logged} >= {
        ("request_timeout", "127.0.0.1")
    }


@pytest.mark.parametrize(
    ("start", "more"), [(HALF_A_FRAME, b" "), (A_FRAGMENT, MORE_FRAGMENTS)], ids=["frame", "parts"]
)
async def test_a_message_that_comes_byte_by_byte_ends_its_session_with_the_reason(
    hub: HubProcess, start: bytes, more: bytes
) -> None:
    before = await metric(hub, 'hub_closes_total{code="4504"}')
    async with raw_connection(hub.url) as peer:
        await peer.upgrade("/ws?channel=slow")
        peer.send(start)
        async with asyncio.TaskGroup() as tasks:
            dripping = tasks.create_task(drip(peer, more))
            goodbye = await peer.push("goodbye")
            dripping.cancel()
    assert goodbye["code"] == 4504
    assert goodbye["reason"] == "a message was not whole within 1 seconds"
    assert await metric(hub, 'hub_closes_total{code="4504"}') == before + 1


async def test_a_peer_that_does_not_take_its_answers_is_cut_counted_and_seen(
    hub: HubProcess,
) -> None:
    counted = 'hub_refusals_total{reason="slow_reader"}'
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", urlsplit(hub.url).port))
        deaf.sendall(get("/api/openapi.json") * 200)

        async def cut() -> bool:
            return await metric(hub, counted) == 1

        await eventually(cut)
    assert await rows(hub, "slow_reader") == 1
