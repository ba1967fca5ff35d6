"""Somebody else's server is told to stop: sessions are told why, and the process ends."""

import asyncio
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest

from hub import Hub, Settings
from tests.support.foreign_server import SERVERS, ForeignServer
from tests.support.raw_connection import raw_connection
from tests.support.waiting import eventually
from tests.transports.peers import Peer, Query, SsePeer, WebSocketPeer, publisher

_MANY = 4
# For a process on a busy machine; without a drain it never ends.
_SECONDS = 20.0


async def _goodbye(peer: Peer) -> str:
    """The reason that the peer was told."""
    while (push := await peer.push())["op"] != "goodbye":
        pass
    return str(push["reason"])


async def _opened(
    stack: AsyncExitStack, server: ForeignServer, kinds: Sequence[type[Peer]]
) -> list[Peer]:
    peers = [kind(server.url, Query("a"), {}) for kind in (*kinds,) * _MANY]
    return [await stack.enter_async_context(peer) for peer in peers]


async def _check_goodbyes(peers: Sequence[Peer]) -> None:
    reasons = await asyncio.gather(*(_goodbye(peer) for peer in peers))
    assert set(reasons) == {"draining"}
    for peer in peers:
        if isinstance(peer, WebSocketPeer):
            assert await peer.wait_closed() == 1012


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", SERVERS)
async def test_a_signal_says_goodbye_to_all_and_ends_the_process(
    name: str, number: signal.Signals
) -> None:
    """Healthy readers, which never end by themselves, keep nothing from ending.

    Granian cuts its WebSockets before anybody can say a word.
    """
    pytest.importorskip(name)
    kinds = (SsePeer,) if name == "granian" else (SsePeer, WebSocketPeer)
    with ForeignServer(name, drain_seconds=1) as server:
        async with AsyncExitStack() as stack:
            peers = await _opened(stack, server, kinds)
            server.signal(number)
            await _check_goodbyes(peers)
            await asyncio.to_thread(server.process.wait, _SECONDS)
        assert "Traceback" not in server.log


@pytest.mark.parametrize("name", SERVERS)
async def test_a_poll_is_answered_and_ends_with_its_peer_under_any_server(name: str) -> None:
    pytest.importorskip(name)
    with ForeignServer(name) as server:
        async with publisher(server.url) as http:
            await http.post("/api/publish/a", json=1)
            answer = await http.get("/poll", params={"channel": "a", "last": 1, "wait": 20})
            assert answer.status_code == 200, answer.text

            async def sessions() -> int:
                return len((await http.get("/api/connections?channel=b")).json()["connections"])

            async with raw_connection(server.url) as peer:
                peer.request("GET", "/poll?channel=b&wait=60")
                while not await sessions():
                    await asyncio.sleep(0.02)
            async with asyncio.timeout(_SECONDS):
                while await sessions():
                    await asyncio.sleep(0.02)
        assert "Traceback" not in server.log


async def test_an_operators_drain_before_the_signal_says_goodbye_under_any_server() -> None:
    """Operators drain a node before they stop a server that cuts WebSockets at once."""
    pytest.importorskip("granian")
    with ForeignServer("granian", drain_seconds=1) as server:
        async with AsyncExitStack() as stack:
            peers = await _opened(stack, server, (SsePeer, WebSocketPeer))
            async with publisher(server.url) as http:
                answer = await http.post("/api/nodes/test-node/drain", json={"window_seconds": 1})
                assert answer.is_success, answer.text
            await _check_goodbyes(peers)
            server.signal(signal.SIGTERM)
            await asyncio.to_thread(server.process.wait, _SECONDS)


async def test_the_application_may_begin_the_drain_itself() -> None:
    """Where no signal reaches the process, as with hypercorn's workers."""
    hub = Hub(Settings(drain_seconds=0, log_level="error"), listen=False)
    async with hub:
        began = hub.begin_drain()
        assert hub.begin_drain() is began
        await began
        assert hub.node.registry.draining


async def test_the_servers_handlers_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the hub, while it runs, and afterwards; what the server has not set is not taken."""
    told: list[int] = []
    servers: dict[int, object] = {signal.SIGTERM: lambda number, _frame: told.append(number)}
    servers[signal.SIGINT] = signal.default_int_handler
    before = dict(servers)
    monkeypatch.setattr(signal, "getsignal", servers.__getitem__)
    monkeypatch.setattr(signal, "signal", servers.__setitem__)
    async with Hub(Settings(drain_seconds=0, log_level="error"), listen=False):
        taken = servers[signal.SIGTERM]
        assert taken != before[signal.SIGTERM]
        assert servers[signal.SIGINT] is before[signal.SIGINT]
        assert callable(taken)
        taken(signal.SIGTERM, None)
        assert told == [], "the server has it before the sessions are gone"
        await eventually(lambda: told == [signal.SIGTERM])
        taken(signal.SIGTERM, None)
        assert told == [signal.SIGTERM] * 2, "a second one is the server's at once"
    assert servers == before
