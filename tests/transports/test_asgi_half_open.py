"""Servers and peers that keep only a part of ASGI: an end that comes first, a `send` that never
returns, a text that is none. Each test is the server itself: it calls the hub by scope and
messages.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from hub import Hub, Settings
from hub.transports.asgi_types import ASGIApp, Message
from tests.support.waiting import eventually

FAST = {"heartbeat_seconds": 0.2, "pong_timeout_seconds": 0.2, "drain_seconds": 0}


class Server:
    """A server's side of one scope.

    Args:
        takes: whether `send` returns.
    """

    def __init__(self, *messages: Message, takes: bool = True) -> None:
        self.sent: list[Message] = []
        self._takes = takes
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        for message in messages:
            self._messages.put_nowait(message)

    def tell(self, message: Message) -> None:
        self._messages.put_nowait(message)

    async def receive(self) -> Message:
        return await self._messages.get()

    async def send(self, message: Message) -> None:
        if not self._takes:
            await asyncio.Event().wait()
        self.sent.append(message)

    def call(self, app: ASGIApp, kind: str, path: str, query: bytes = b"") -> asyncio.Task[None]:
        scope: dict[str, Any] = {
            "type": kind,
            "method": "GET",
            "path": path,
            "query_string": query,
            "headers": [(b"host", b"localhost")],
        }

        async def run() -> None:
            await app(scope, self.receive, self.send)

        return asyncio.create_task(run())


@contextlib.asynccontextmanager
async def mounted(**settings: object) -> AsyncIterator[tuple[Hub, ASGIApp]]:
    hub = Hub(Settings(log_level="critical", **(FAST | settings)), listen=False)
    app = hub.asgi()
    async with hub, asyncio.timeout(20):
        yield hub, app


async def test_a_poll_ends_with_its_peer() -> None:
    """As behind the hub's own listener: a session that waits for nobody takes room from others."""
    async with mounted() as (hub, app):
        server = Server({"type": "http.request", "body": b"", "more_body": False})
        polling = server.call(app, "http", "/poll", b"channel=a&wait=60")
        await eventually(lambda: len(hub.node.registry.sessions) == 1)
        server.tell({"type": "http.disconnect"})
        await polling
        await eventually(lambda: not hub.node.registry.sessions)
        assert server.sent == []


async def test_a_poll_that_is_answered_waits_for_no_end_of_its_peer() -> None:
    async with mounted() as (hub, app):
        await hub.publish("a", 1)
        server = Server({"type": "http.request", "body": b"", "more_body": False})
        await server.call(app, "http", "/poll", b"channel=a&last=1&wait=60")
        assert [message.get("status") for message in server.sent] == [200, None]


@pytest.mark.parametrize(("kind", "path"), [("websocket", "/ws"), ("http", "/sse")])
async def test_a_send_that_never_returns_ends_its_session(kind: str, path: str) -> None:
    """Also where little is sent: a few heartbeats a minute fill no buffer for hours."""
    async with mounted() as (hub, app):
        server = Server({"type": f"{kind}.connect"}, takes=False)
        running = server.call(app, kind, path, b"channel=a")
        await eventually(lambda: len(hub.node.registry.sessions) == 1)
        await running
        assert not hub.node.registry.sessions
        assert hub.node.counters.closed == {"4504": 1}


async def test_a_peer_that_left_before_it_was_accepted_is_no_session() -> None:
    async with mounted() as (hub, app):
        server = Server({"type": "websocket.disconnect", "code": 1006})
        await server.call(app, "websocket", "/ws", b"channel=a")
        assert (server.sent, len(hub.node.registry.sessions)) == ([], 0)


async def test_a_websocket_at_a_path_of_polls_leaves_nothing_that_waits() -> None:
    """The application would have been asked about such a poll: a warning where nobody asks it."""
    async with mounted(hook_url="http://127.0.0.1:9") as (_, app):
        server = Server({"type": "websocket.connect"})
        await server.call(app, "websocket", "/poll", b"channel=a")
        assert server.sent == [{"type": "websocket.close", "code": 1008}]


async def test_a_text_that_is_no_utf_8_ends_with_1007() -> None:
    async with mounted() as (_, app):
        text = {"type": "websocket.receive", "text": "\ud800"}
        server = Server({"type": "websocket.connect"}, text)
        await server.call(app, "websocket", "/ws")
        assert server.sent[-1]["code"] == 1007


async def test_a_fault_in_a_command_is_told_to_its_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with mounted() as (hub, app):

        def fail(*_: object) -> None:
            raise RuntimeError("a fault of the hub")

        monkeypatch.setattr(hub.node.registry.commands, "submit", fail)
        text = {"type": "websocket.receive", "text": '{"op":"ping","id":1}'}
        server = Server({"type": "websocket.connect"}, text)
        await server.call(app, "websocket", "/ws")
        assert server.sent[-1]["code"] == 4500


async def test_a_server_ends_where_the_hub_does_not_start(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The server prints why. Without that, uvicorn would take the hub for an application that
    has no lifespan, and answer each request with 500."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        broken = Hub(Settings(port=taken.getsockname()[1], log_level="critical"), listen=True)
        server = uvicorn.Server(uvicorn.Config(broken.asgi(), port=0, log_level="error"))
        with pytest.raises(SystemExit):
            await server.serve()
    assert "the hub did not start: " in capsys.readouterr().err
