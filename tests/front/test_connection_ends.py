"""Peers that go, half go, fall silent or do not listen: every connection ends, in time."""

import asyncio
import gc
import re
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from hub import Hub, Settings
from hub.transports.connection.connection import Connection
from tests.support.raw_connection import RawConnection, raw_connection
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT_SECONDS = 0.4
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
# More than any machine takes in for a socket that nobody reads.
_ENDLESS = 4000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub() -> AsyncIterator[Hub]:
    settings = Settings(
        port=0,
        drain_seconds=0,
        keep_alive_seconds=LIMIT_SECONDS,
        handshake_timeout_seconds=LIMIT_SECONDS,
        body_timeout_seconds=LIMIT_SECONDS,
        write_timeout_seconds=LIMIT_SECONDS,
    )
    async with Hub(settings) as hub:
        yield hub


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nothing_is_left(hub: Hub) -> AsyncIterator[None]:
    """After each test no connection is counted, and none is in memory but those of other hubs."""
    others = len(in_memory())
    yield
    await eventually(lambda: not hub.node.sockets.http, what="the end of all connections")
    assert hub.node.bodies.bytes == 0
    await eventually(lambda: len(in_memory()) <= others, what="the last connection's memory")


def in_memory() -> list[object]:
    gc.collect()
    return [each for each in gc.get_objects() if type(each) is Connection]


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


async def poll(peer: RawConnection, channel: str) -> None:
    peer.request("GET", f"/poll?channel={channel}&wait=25")


# -- peers that go ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_poll_ends_with_its_peer(hub: Hub, channel: str, how: str) -> None:
    """The session and its channel end too, before the wait is over."""
    peers = []
    for _ in range(30):
        _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(hub.url).port)
        target = f"/poll?channel={channel}&wait=25"
        writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        peers.append(writer)
    registry = hub.node.registry
    before = hub.node.counters.polls_abandoned
    await eventually(lambda: len(registry.sessions) == 30)
    for peer in peers:
        peer.close() if how == "close" else peer.transport.abort()
    await eventually(lambda: not registry.sessions, seconds=4, what="the end of the sessions")
    assert hub.node.counters.polls_abandoned - before == 30


async def test_a_poll_that_half_closes_is_answered_at_once(hub: Hub, channel: str) -> None:
    async with raw_connection(hub.url) as peer:
        await poll(peer, channel)
        await eventually(lambda: len(hub.node.registry.sessions) == 1)
        peer.end_sending()
        answer = await peer.answer()
        assert answer.status == 200
        assert b'"positions":{"' in answer.body
        assert await peer.rest() == b""


async def test_a_half_closed_poll_behind_another_request_is_answered_too(
    hub: Hub, channel: str
) -> None:
    async with raw_connection(hub.url) as peer:
        peer.send(HEALTH)
        await poll(peer, channel)
        peer.end_sending()
        assert statuses(await peer.rest()) == [200, 200]


async def test_requests_behind_a_poll_are_held_bounded_and_leave_with_a_reset(
    hub: Hub, channel: str
) -> None:
    """While so much is held that reading stops, the end of the peer could not be seen."""
    before = hub.node.counters.opened["poll"]
    async with raw_connection(hub.url) as peer:
        await poll(peer, channel)
        peer.send(HEALTH * 3000)
        await eventually(lambda: hub.node.counters.opened["poll"] > before)
        peer.close()


async def test_requests_behind_a_poll_are_answered_in_their_order(hub: Hub, channel: str) -> None:
    async with raw_connection(hub.url) as peer:
        peer.request("GET", f"/poll?channel={channel}&wait=0.2")
        peer.send(HEALTH)
        peer.request("GET", "/nowhere")
        peer.send(HEALTH)
        peer.end_sending()
        assert statuses(await peer.rest()) == [200, 200, 404, 200]


@pytest.mark.parametrize("method", ["close", "half-close"])
async def test_half_a_request_ends_with_its_peer(hub: Hub, method: str) -> None:
    """A peer that can still read is answered with 400."""
    for start in (b"P", HEALTH[:-2], HEALTH[:-2] + b"Content-Length: 9\r\n\r\n12"):
        async with raw_connection(hub.url) as peer:
            peer.send(start)
            await peer.sent()
            if method == "half-close":
                peer.end_sending()
                assert statuses(await peer.rest()) in ([400], [200])


# -- peers that fall silent --------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", b"\r\n", b"G", HEALTH[:-2]])
async def test_no_whole_head_in_time_is_408(hub: Hub, said: bytes) -> None:
    async with raw_connection(hub.url) as peer:
        peer.send(said)
        assert statuses(await peer.rest()) == [408]


async def test_a_body_that_does_not_come_in_time_is_408(hub: Hub) -> None:
    async with raw_connection(hub.url) as peer:
        peer.request("POST", "/api/publish/a", "Content-Length: 9\r\n", b"1")
        assert statuses(await peer.rest()) == [408]


@pytest.mark.parametrize("stray", [b"", b"\r\n", b"\r\n\r\n\r\n"])
async def test_between_two_requests_empty_lines_put_nothing_off(hub: Hub, stray: bytes) -> None:
    async with raw_connection(hub.url) as peer:
        peer.send(HEALTH)
        assert (await peer.answer()).status == 200

        async def drip() -> None:
            while True:
                peer.send(stray)
                await asyncio.sleep(LIMIT_SECONDS / 10)

        dripping = asyncio.create_task(drip())
        try:
            assert await peer.rest() == b""
        finally:
            dripping.cancel()


@pytest.mark.parametrize("target", ["/metrics", "/api/channels"])
async def test_an_answer_that_nobody_reads_is_given_up(hub: Hub, target: str) -> None:
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(("127.0.0.1", urlsplit(hub.url).port))
        peer.setblocking(False)
        request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        peer.send(request * _ENDLESS)
        await eventually(lambda: len(hub.node.sockets.http) == 1)
        await eventually(lambda: not hub.node.sockets.http, what="the end of the connection")


# -- bodies that nobody wants -------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["Content-Length: 8388608", "Transfer-Encoding: chunked"])
async def test_a_client_that_sends_all_of_a_body_before_reading_gets_its_413(
    hub: Hub, framing: str
) -> None:
    """RFC 9112 section 9.6: a reset behind the answer would take it away."""
    body = b"x" * (8 << 20)
    if "chunked" in framing:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    async with raw_connection(hub.url) as peer:
        peer.request("POST", "/api/publish/a", f"{framing}\r\n", body)
        await peer.sent()
        assert statuses(await peer.rest()) == [413]


async def test_a_body_without_end_is_read_for_a_moment_only(hub: Hub) -> None:
    async with raw_connection(hub.url) as peer:
        peer.request("POST", "/api/publish/a", "Content-Length: 99999999999\r\n")
        sent = 0
        try:
            async with asyncio.timeout(30):
                while True:
                    peer.send(b"x" * (1 << 20))
                    await peer.sent()
                    sent += 1
        except ConnectionError:
            pass
        assert sent


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ("Content-Length: 99999999\r\n", 413),
        ("Content-Length: 1\r\nOrigin: http://evil.example\r\n", 403),
        ("Content-Length: 1\r\nContent-Encoding: br\r\n", 415),
    ],
)
@pytest.mark.parametrize("sends", [True, False])
async def test_a_refused_expectation_is_the_last_answer(
    hub: Hub, fields: str, status: int, *, sends: bool
) -> None:
    """Whether or not the client sends the body all the same, with another request behind it."""
    async with raw_connection(hub.url) as peer:
        peer.request("POST", "/api/publish/a", f"Expect: 100-continue\r\n{fields}")
        answer = await peer.answer()
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        if sends:
            peer.send(b"1" + HEALTH)
        assert await peer.rest() == b""


async def test_an_expectation_is_met_once(hub: Hub) -> None:
    async with raw_connection(hub.url) as peer:
        peer.request("POST", "/api/publish/a", "Expect: 100-continue\r\nContent-Length: 2\r\n")
        assert await peer.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        peer.send(b"1")
        await asyncio.sleep(0.05)
        peer.send(b"2" + HEALTH)
        assert ((await peer.answer()).status, (await peer.answer()).status) == (200, 200)


async def test_an_expectation_is_not_met_where_the_body_is_here(hub: Hub) -> None:
    async with raw_connection(hub.url) as peer:
        fields = "Expect: 100-continue\r\nContent-Length: 1\r\n"
        peer.request("POST", "/api/publish/a", fields, b"1")
        assert (await peer.answer()).status == 200
