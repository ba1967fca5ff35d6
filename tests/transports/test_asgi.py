"""The hub mounted under another ASGI server: the same sessions behind somebody else's sockets."""

import asyncio
import contextlib
import errno
import random
import socket
from collections.abc import AsyncIterator, Generator

import httpx2 as httpx
import orjson
import pytest
import uvicorn
import websockets
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from hub import Hub, Settings
from tests.support.frames import UPGRADE
from tests.support.identity_provider import IdentityProvider
from tests.support.waiting import eventually

SETTINGS = {"drain_seconds": 0.05, "log_level": "error", "outbox_max_messages": 20}


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """Uvicorn with its own protocols, in this loop; yields its address."""
    server = _Server(uvicorn.Config(app, port=0, log_level="error", ws="websockets-sansio"))
    running = asyncio.create_task(server.serve())
    async with asyncio.timeout(30):
        while not server.started:
            await asyncio.sleep(0.01)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await running


@pytest.fixture
async def mounted() -> AsyncIterator[str]:
    """A Starlette application with the hub below `/live`; yields host, port and that path."""
    hub = Hub(Settings(**SETTINGS), listen=False)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with hub:
            yield

    async def own(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("own")

    routes = [Route("/own", own), Mount("/live", hub.asgi())]
    async with serving(Starlette(routes=routes, lifespan=lifespan)) as address:
        yield f"{address}/live"


async def publish(base: str, channel: str, data: object) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"http://{base}/api/publish/{channel}", json=data)
        assert answer.status_code == 200


async def next_push(socket: websockets.ClientConnection, op: str) -> dict[str, object]:
    """The next push of this kind; others before it are passed over."""
    async with asyncio.timeout(30):
        while True:
            push: dict[str, object] = orjson.loads(await socket.recv())
            if push["op"] == op:
                return push


async def test_a_websocket_session_subscribes_publishes_and_resumes(mounted: str) -> None:
    """Several pushes of one tick arrive as messages of their own."""
    async with websockets.connect(f"ws://{mounted}/ws?channel=a") as socket:
        await next_push(socket, "subscribed")
        async with httpx.AsyncClient() as client:
            items = [{"channel": "a", "data": number} for number in range(5)]
            await client.post(f"http://{mounted}/api/publish", json=items)
        assert [(await next_push(socket, "message"))["data"] for _ in range(5)] == [0, 1, 2, 3, 4]
        await socket.send('{"op":"history","id":1,"channel":"a","limit":2}')
        reply = await next_push(socket, "reply")
        assert isinstance(reply["ok"], dict)
        position = str(reply["ok"]["position"])
    since = f"a={position.rpartition(':')[0]}:3"
    async with websockets.connect(f"ws://{mounted}/ws?channel=a&since={since}") as socket:
        assert [(await next_push(socket, "message"))["offset"] for _ in range(2)] == [4, 5]


async def test_an_sse_stream_resumes_from_its_last_event_id(mounted: str) -> None:
    for number in range(3):
        await publish(mounted, "a", number)
    async with httpx.AsyncClient() as client:
        history = (await client.get(f"http://{mounted}/api/channels/a/history")).json()
        headers = {"Last-Event-ID": f"{history['epoch']}:1"}
        url = f"http://{mounted}/sse?channel=a"
        seen = []
        async with client.stream("GET", url, headers=headers) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            async for line in stream.aiter_lines():
                if line.startswith("data:") and (push := orjson.loads(line[5:]))["op"] == "message":
                    seen.append(push["data"])
                if len(seen) == 2:
                    break
    assert seen == [1, 2]


async def test_a_binary_message_closes_with_1003_and_a_bad_query_with_4400(mounted: str) -> None:
    async with websockets.connect(f"ws://{mounted}/ws") as socket:
        await socket.send(b"\x00")
        await socket.wait_closed()
        assert socket.close_code == 1003
    async with websockets.connect(f"ws://{mounted}/ws?channel=not%20allowed") as socket:
        await next_push(socket, "goodbye")
        await socket.wait_closed()
        assert socket.close_code == 4400


async def test_a_peer_that_does_not_read_is_owed_no_more_than_its_limits(mounted: str) -> None:
    """The server's back-pressure reaches the outbox, which announces what it drops."""
    address = f"ws://{mounted}/ws?channel=a"
    # Uncompressed: what is published here would fit any buffer otherwise.
    async with websockets.connect(address, max_queue=1, compression=None) as socket:
        await next_push(socket, "subscribed")
        for _ in range(60):
            items = [{"channel": "a", "data": "x" * 30_000} for _ in range(10)]
            async with httpx.AsyncClient() as client:
                await client.post(f"http://{mounted}/api/publish", json=items)
        last = 0
        gaps = []
        async with asyncio.timeout(30):
            while last < 600:
                push = orjson.loads(await socket.recv())
                if push["op"] == "gap":
                    assert push["from"] == last + 1
                    gaps.append(push["reason"])
                    last = push["to"]
                elif push["op"] == "message":
                    assert push["offset"] == last + 1
                    last = push["offset"]
    assert set(gaps) == {"slow"}


async def test_the_other_routes_stay_the_applications_own(mounted: str) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://{mounted.partition('/')[0]}/own")
        assert answer.text == "own"
        assert (await client.get(f"http://{mounted}/readyz")).json()["ready"] is True


async def test_the_hub_is_a_whole_application_by_itself() -> None:
    """Without an outer one the server's lifespan starts and drains it."""
    hub = Hub(Settings(**SETTINGS), listen=False)
    async with serving(hub.asgi()) as address, websockets.connect(f"ws://{address}/ws") as socket:
        await next_push(socket, "welcome")
    async with serving(Hub(Settings(**SETTINGS), listen=False).asgi()) as address:
        await publish(address, "a", 1)


async def test_a_hub_that_is_mounted_opens_no_port_of_its_own(unused_tcp_port: int) -> None:
    """Unless it is told to: an application that is served twice would be a surprise."""
    settings = Settings(**SETTINGS, port=unused_tcp_port)
    async with serving(Hub(settings).asgi()) as address:
        await publish(address, "a", 1)
        with socket.socket() as peer:
            assert peer.connect_ex(("127.0.0.1", unused_tcp_port)) == errno.ECONNREFUSED
    async with serving(Hub(settings, listen=True).asgi()):
        await publish(f"127.0.0.1:{unused_tcp_port}", "a", 2)


@pytest.mark.parametrize("base_path", ["", "/live"])
@pytest.mark.parametrize("mounted_at", ["", "/live", "/outer"])
async def test_a_base_path_may_stand_before_the_hubs_paths_and_need_not(
    base_path: str, mounted_at: str
) -> None:
    """For HTTP, SSE and WebSocket alike, wherever the hub is mounted."""
    hub = Hub(Settings(**SETTINGS, base_path=base_path))

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with hub:
            yield

    app = Starlette(routes=[Mount(mounted_at or "/", hub.asgi())], lifespan=lifespan)
    async with serving(app) as address, httpx.AsyncClient() as client:
        for before in {"", base_path}:
            base = f"{address}{mounted_at}{before}"
            await publish(base, "a", 1)
            async with websockets.connect(f"ws://{base}/ws") as peer:
                await next_push(peer, "welcome")
            async with client.stream("GET", f"http://{base}/sse?channel=a") as answer:
                assert answer.status_code == 200


@contextlib.asynccontextmanager
async def hosted(**settings: object) -> AsyncIterator[tuple[Hub, str]]:
    """A hub under uvicorn, and where it answers."""
    hub = Hub(Settings(**(SETTINGS | settings)), listen=False)
    async with serving(hub.asgi()) as address:
        yield hub, address


@pytest.mark.parametrize(("path", "fields"), [("/sse", ""), ("/ws", UPGRADE)], ids=["sse", "ws"])
async def test_a_peer_that_reads_nothing_is_cut_with_all_it_is_owed(path: str, fields: str) -> None:
    """Whatever the server still holds for it, the hub holds nothing."""
    async with hosted(heartbeat_seconds=1, pong_timeout_seconds=1) as (hub, address):
        host, _, port = address.partition(":")
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(peer, (host, int(port)))
            head = f"GET {path}?channel=a HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n"
            await loop.sock_sendall(peer, head.encode())
            registry = hub.node.registry
            await eventually(lambda: len(registry.sessions) == 1)
            for _ in range(400):
                # Random, so that nothing on the way makes it small.
                await hub.publish("a", random.randbytes(30_000).hex())
                await asyncio.sleep(0)
            await eventually(lambda: not (registry.sessions or registry.leaving))
            assert hub.node.reporter.gauges().outbox_bytes == 0


async def test_sessions_wait_for_a_providers_key() -> None:
    """As behind the hub's own listener; and one that nobody has is told why."""
    async with IdentityProvider() as provider:
        provider.may_answer.clear()
        jwks = {"token_jwks_url": provider.jwks_url, "token_issuer": provider.issuer}
        async with hosted(**jwks) as (_, address), httpx.AsyncClient() as client:
            query = f"channel=news&token={provider.token()}"

            async def websocket() -> None:
                async with websockets.connect(f"ws://{address}/ws?{query}") as socket:
                    await next_push(socket, "subscribed")

            async def sse() -> None:
                async with client.stream("GET", f"http://{address}/sse?{query}") as answer:
                    assert answer.status_code == 200

            opening = [asyncio.create_task(websocket()), asyncio.create_task(sse())]
            await eventually(lambda: provider.requests == 1)
            provider.may_answer.set()
            await asyncio.gather(*opening)
            unknown = f"ws://{address}/ws?channel=news&token={provider.token(kid='nobody')}"
            async with websockets.connect(unknown) as socket:
                assert (await next_push(socket, "goodbye"))["code"] == 4401
        assert provider.requests == 2


async def test_a_refused_stream_is_counted_and_may_be_read_by_its_page() -> None:
    async with hosted() as (hub, address), httpx.AsyncClient() as client:
        origin = f"http://{address}"
        for query in ("channel=not%20allowed", f"channel={'a' * 5000}"):
            answer = await client.get(f"{origin}/sse?{query}", headers={"Origin": origin})
            assert answer.is_client_error
            assert answer.headers["access-control-allow-origin"] == origin
        assert hub.node.counters.refused == {"bad_request": 1, "headers_too_large": 1}


async def test_a_refused_handshake_says_its_status() -> None:
    """A client that gets 503 comes back; one that gets 403 need not."""
    async with hosted() as (hub, address):
        for path, origin, status, code in (
            ("/ws", "https://evil.example", 403, "forbidden"),
            (f"/ws?channel={'a' * 5000}", None, 431, "headers_too_large"),
        ):
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(f"ws://{address}{path}", origin=origin)  # type: ignore[arg-type] # a str
            assert refused.value.response.status_code == status
            counts = hub.node.counters.refused + hub.node.counters.http_errors
            assert counts[code] == 1
        hub.begin_drain()
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(f"ws://{address}/ws")
        assert refused.value.response.status_code == 503
        assert "Retry-After" in refused.value.response.headers
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(f"ws://{address}/elsewhere")
        assert refused.value.response.status_code == 404


async def test_an_offered_subprotocol_is_answered(mounted: str) -> None:
    """Browsers fail a connection whose offer is not."""
    async with websockets.connect(
        f"ws://{mounted}/ws",
        subprotocols=[websockets.Subprotocol("other"), websockets.Subprotocol("hub")],
    ) as socket:
        assert socket.subprotocol == "hub"
