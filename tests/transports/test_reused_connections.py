"""One TCP connection for more than one thing, and bytes that come in unusual portions."""

from collections.abc import AsyncIterator

import orjson
import pytest

from hub import Hub, Settings
from tests.support.frames import UPGRADE, masked
from tests.support.hub_process import HubProcess
from tests.support.raw_connection import RawConnection, raw_connection
from tests.support.waiting import eventually

KEEP_ALIVE_SECONDS = 0.3


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    """A hub that ends idle HTTP connections soon."""
    settings = Settings(port=0, drain_seconds=0, keep_alive_seconds=KEEP_ALIVE_SECONDS)
    async with Hub(settings) as hub:
        yield hub


async def outlive_keep_alive(hub: Hub) -> None:
    """Wait until the hub has closed a connection that began to idle just now."""
    async with raw_connection(hub.url) as idle:
        idle.request("GET", "/healthz")
        assert (await idle.answer()).status == 200
        assert await idle.rest() == b""


async def test_a_stream_as_second_request_outlives_the_keep_alive_timer(
    hub: Hub, channel: str
) -> None:
    """Browsers and proxies reuse connections; that timer must not end what is a session."""
    async with raw_connection(hub.url) as connection:
        connection.request("GET", "/healthz")
        assert (await connection.answer()).status == 200
        connection.request("GET", f"/sse?channel={channel}")
        await connection.until(b"event: subscribed\n")
        await outlive_keep_alive(hub)
        await hub.publish(channel, "late")
        await connection.until(b'"data":"late"}\n\n')


async def test_an_upgrade_as_second_request_outlives_the_keep_alive_timer(
    hub: Hub, channel: str
) -> None:
    async with raw_connection(hub.url) as connection:
        connection.request("GET", "/healthz")
        assert (await connection.answer()).status == 200
        assert (await connection.upgrade(f"/ws?channel={channel}")).status == 101
        await connection.push("subscribed")
        await outlive_keep_alive(hub)
        await hub.publish(channel, "late")
        assert (await connection.push("message"))["data"] == "late"


async def test_a_refused_stream_as_second_request_gets_its_problem(hub: Hub) -> None:
    async with raw_connection(hub.url) as connection:
        connection.request("POST", "/api/publish/x", "Content-Length: 1\r\n", b"1")
        assert (await connection.answer()).status == 200
        connection.request("GET", "/sse?channel=not%20allowed")
        refused = await connection.answer()
        assert (refused.status, refused.code) == (400, "bad_request")
        assert await connection.rest() == b""


async def test_many_requests_share_a_connection_with_paths_like_ours(hub: Hub) -> None:
    """A path that only begins like `/ws` or `/sse` is answered, and the connection goes on."""
    async with raw_connection(hub.url) as connection:
        for target, status in [
            ("/healthz", 200),
            ("/wsx", 404),
            ("/sse/", 404),
            ("/ws", 426),
            ("/readyz", 200),
        ]:
            connection.request("GET", target)
            answer = await connection.answer()
            assert answer.status == status, target
            if "close" in answer.headers.get("connection", ""):
                return


async def test_a_handshake_of_single_bytes_is_answered(hub: Hub, channel: str) -> None:
    """Where a segment ends means nothing."""
    request = f"GET /ws?channel={channel} HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n"
    async with raw_connection(hub.url) as connection:
        await connection.send_slowly(request)
        assert (await connection.answer()).status == 101
        await connection.push("subscribed")


async def test_a_second_request_of_single_bytes_is_answered(hub: Hub, channel: str) -> None:
    async with raw_connection(hub.url) as connection:
        connection.request("GET", "/healthz")
        await connection.answer()
        await connection.send_slowly(
            f"GET /sse?channel={channel} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        await connection.until(b"event: subscribed\n")


async def test_frames_right_behind_the_handshake_are_read(
    process: HubProcess, channel: str
) -> None:
    """A client that knows its hub need not wait for the 101."""
    publish = orjson.dumps({"op": "publish", "id": 1, "channel": channel, "data": "eager"})
    request = f"GET /ws?channel={channel} HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n".encode()
    async with raw_connection(process.url) as connection:
        connection.send(request + masked(publish) + masked(b'{"op":"ping","id":2}'))
        assert (await connection.answer()).status == 101
        assert (await connection.push("message"))["data"] == "eager"


async def test_frames_of_single_bytes_are_read(hub: Hub) -> None:
    async with raw_connection(hub.url) as connection:
        await connection.upgrade("/ws")
        await connection.send_slowly(masked(b'{"op":"ping","id":"slowly"}'))
        assert (await connection.push("reply"))["id"] == "slowly"


async def test_many_frames_in_one_segment_are_answered_in_order(
    process: HubProcess, channel: str
) -> None:
    async with raw_connection(process.url) as connection:
        await connection.upgrade("/ws")
        pings = (masked(b'{"op":"ping","id":%d}' % number) for number in range(300))
        connection.send(b"".join(pings))
        answers = [(await connection.push("reply"))["id"] for _ in range(300)]
    assert answers == list(range(300))


async def test_a_stream_over_http_1_0_is_served(process: HubProcess, channel: str) -> None:
    """nginx speaks HTTP/1.0 to its upstreams unless told otherwise."""
    async with raw_connection(process.url) as connection:
        connection.send(f"GET /sse?channel={channel} HTTP/1.0\r\nHost: localhost\r\n\r\n")
        head = await connection.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"chunked" not in head.lower()
        await connection.until(b"event: subscribed\n")


async def test_a_session_ends_with_its_connection(hub: Hub, channel: str) -> None:
    """Whether the peer says goodbye or is simply gone; on a reused connection too."""

    async def begin(connection: RawConnection, target: str) -> None:
        connection.request("GET", "/healthz")
        await connection.answer()
        connection.request("GET", f"{target}?channel={channel}", UPGRADE if "ws" in target else "")
        await connection.until(b"subscribed")

    async with raw_connection(hub.url) as one, raw_connection(hub.url) as two:
        await begin(one, "/sse")
        await begin(two, "/ws")
        assert len(hub.node.registry.sessions) == 2
    await eventually(lambda: not hub.node.registry.sessions and not hub.node.registry.leaving)
