"""How sessions end: the hub says why, and when to come back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from websockets.exceptions import ConnectionClosed

from hub import Hub, Settings
from tests.support.waiting import eventually
from tests.transports.peers import PEERS, Json, Peer, PollPeer, Query, WebSocketPeer, http_client


@pytest.fixture(params=PEERS)
def kind(request: pytest.FixtureRequest) -> type[Peer]:
    return PEERS[request.param]


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub(Settings(port=0, drain_seconds=0.1)) as hub:
        yield hub


async def test_a_stop_says_goodbye_and_when_to_come_back(kind: type[Peer], channel: str) -> None:
    """Behind everything that was published before it."""
    async with contextlib.AsyncExitStack() as stack:
        async with Hub(Settings(port=0, drain_seconds=0.1)) as hub:
            peer = await stack.enter_async_context(kind(hub.url, Query(channel), {}))
            await hub.publish(channel, "last words")
            assert await peer.data(1) == ["last words"]
            reading = asyncio.create_task(_until_goodbye(peer))
            await eventually(lambda: _is_listening(hub, peer))
            if kind is not PollPeer:  # its answer would go out with this and miss the goodbye
                await hub.publish(channel, "very last words")
        pushes = await reading
    goodbye = pushes.pop()
    assert [push["data"] for push in pushes] == ([] if kind is PollPeer else ["very last words"])
    assert (goodbye["code"], goodbye["reason"]) == (1012, "draining")
    assert goodbye["reconnect_within_ms"] >= 1000
    assert not hub.node.registry.sessions
    assert not hub.node.registry.leaving


async def _until_goodbye(peer: Peer) -> list[Json]:
    pushes = [await peer.push()]
    while pushes[-1]["op"] != "goodbye":
        pushes.append(await peer.push())
    return pushes


async def test_a_draining_hub_takes_nobody_new(hub: Hub, channel: str) -> None:
    """With a moment to come back in; readiness says so as well."""
    hub.node.registry.draining = True
    async with http_client(base_url=hub.url) as http:
        for path in (f"/sse?channel={channel}", f"/poll?channel={channel}"):
            answer = await http.get(path)
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert int(answer.headers["retry-after"]) >= 1
        assert (await http.get("/readyz")).status_code == 503
        assert (await http.get("/healthz")).status_code == 200


async def test_an_operator_disconnects_a_session(hub: Hub, kind: type[Peer], channel: str) -> None:
    """The peer is told not to come back, and the hub forgets the session."""
    async with kind(hub.url, Query(channel), {}) as peer, http_client() as http:
        at = f"{hub.url}/api/connections/{peer.welcome['connection']}"
        assert (await http.get(at)).json()["transport"] == kind.transport
        reading = asyncio.create_task(_until_goodbye(peer))
        # A poll has to be waiting to be told.
        await eventually(lambda: _is_listening(hub, peer))
        assert (await http.delete(at)).status_code == 204
        goodbye = (await reading)[-1]
        assert (goodbye["code"], goodbye["reason"]) == (4403, "disconnected by operator")
        assert "reconnect_within_ms" not in goodbye
        assert (await http.delete(at)).status_code == 404
        if isinstance(peer, WebSocketPeer):
            with pytest.raises(ConnectionClosed, match="4403"):
                await peer.push()
    await eventually(lambda: not hub.node.registry.leaving)


def _is_listening(hub: Hub, peer: Peer) -> bool:
    session = hub.node.registry.sessions[peer.welcome["connection"]]
    return not isinstance(peer, PollPeer) or bool(getattr(session.link, "taking", False))


async def test_a_peer_that_says_goodbye_is_answered(hub: Hub, channel: str) -> None:
    """With its own code, as RFC 6455 section 5.5.1 asks."""
    async with WebSocketPeer(hub.url, Query(channel), {}) as peer:
        await peer._socket.close(1000, "enough")
        assert peer._socket.close_code == 1000
    await eventually(lambda: not hub.node.registry.sessions and not hub.node.registry.leaving)


async def test_a_poll_says_where_the_peer_stands_beside_the_goodbye(hub: Hub, channel: str) -> None:
    """A peer that believes the positions of its last answer must not start anew."""
    await hub.publish(channel, 1)
    async with PollPeer(hub.url, Query(channel), {}) as peer:
        before = peer.positions
        reading = asyncio.create_task(_until_goodbye(peer))
        await eventually(lambda: _is_listening(hub, peer))
        hub.node.registry.disconnect(peer.welcome["connection"], code=4500, reason="test")
        await reading
        assert peer.positions == before
        assert list(before) == [channel]
