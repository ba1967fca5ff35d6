"""A hub that is held up for a while blames nobody for it: SIGSTOP stands for whatever does it."""

import asyncio
import contextlib
import json
import signal
from collections.abc import Iterator

import httpx2 as httpx
import pytest

from tests.chaos.operator import operating
from tests.chaos.subscriber import Subscriber, WebSocketSubscriber, subscribed
from tests.support.frames import PONG, masked
from tests.support.hub_process import HubProcess
from tests.support.raw_connection import END_OF_HEAD, RawConnection
from tests.support.waiting import eventually

STALL_SECONDS = 4.0
# Longer than the answers take, and much shorter than the stall.
PONG_TIMEOUT_SECONDS = 1.5
PEERS = 8


@pytest.fixture
def hub() -> Iterator[HubProcess]:
    with HubProcess(
        HUB_HEARTBEAT_SECONDS="0.5",
        HUB_PONG_TIMEOUT_SECONDS=str(PONG_TIMEOUT_SECONDS),
        HUB_HANDSHAKE_TIMEOUT_SECONDS="2",
        HUB_BODY_TIMEOUT_SECONDS="2",
        HUB_CLOSE_TIMEOUT_SECONDS="2",
    ) as hub:
        yield hub


async def test_a_stall_cuts_nobody_who_answered(hub: HubProcess) -> None:
    """Sessions with a ping on its way, a request half sent and a polling session all go on."""
    async with (
        operating(hub) as operator,
        httpx.AsyncClient(base_url=hub.url, timeout=30) as http,
        contextlib.AsyncExitStack() as stack,
    ):
        peers = [
            await stack.enter_async_context(subscribed(hub.port, "websocket", "news"))
            for _ in range(PEERS)
        ]
        for peer in peers:
            peer.answers_pings = False
        poll = (await http.get("/poll?session=true&wait=0&channel=news")).json()
        connection, secret = poll["welcome"]["connection"], poll["welcome"]["secret"]
        await asyncio.gather(*(_read_until_pinged(peer) for peer in peers))
        # Two requests that were begun before the stall, and are ended during it.
        half = await RawConnection.connect(hub.port)
        stack.callback(half.close)
        half.send(b"GET /healthz HTTP/1.1\r\n")
        post = await RawConnection.connect(hub.port)
        stack.callback(post.close)
        post.send(
            b"POST /api/publish/news HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\n\r\n1"
        )
        # Stopped in the midst of its work a loop looks at its timers before it reads.
        stack.push_async_callback(_end, asyncio.create_task(_busy(hub)))
        await asyncio.sleep(0.3)

        hub.signal(signal.SIGSTOP)
        try:
            for peer in peers:
                peer.peer.send(masked(b"", PONG))
                peer.answers_pings = True
            half.send(b"Host: 127.0.0.1\r\n\r\n")
            post.send(b"23")
            await asyncio.sleep(STALL_SECONDS)
        finally:
            hub.signal(signal.SIGCONT)

        head = await half.until(END_OF_HEAD)
        assert head.startswith(b"HTTP/1.1 200 ")
        head = await post.until(END_OF_HEAD)
        assert head.startswith(b"HTTP/1.1 200 ")
        for peer in peers:
            await peer.read_until(lambda peer=peer: peer.reached("news", 1))  # type: ignore[misc]  # binds the loop's value
        again = await http.get(
            f"/poll?session=true&wait=0&connection={connection}"
            f"&channel=news&since=news={poll['positions']['news']}",
            headers={"Authorization": f"Bearer {secret}"},
        )
        assert again.status_code == 200, again.text
        assert again.json()["welcome"]["connection"] == connection
        # Alive they go on, for longer than the time-out.
        for peer in peers:
            peer.keep_reading()
        await http.post("/api/publish/news", json=2)
        await eventually(lambda: all(peer.reached("news", 2) for peer in peers))
        await eventually(lambda: all(len(peer.beats) >= 8 for peer in peers), seconds=30)
        assert not any(peer.ended for peer in peers)
        assert await operator.metric("hub_closes_total", 'code="4504"') == 0
        for peer in peers:
            await peer.stop_reading()


async def _busy(hub: HubProcess) -> None:
    """Publish without a pause, to nobody."""
    async with subscribed(hub.port, "websocket", "nobody") as publisher:
        publisher.keep_reading()
        command = {"op": "publish", "id": 1, "channel": "void", "data": "x" * 100}
        frame = masked(json.dumps(command).encode())
        while not publisher.ended:
            publisher.peer.send(frame * 500)
            await publisher.peer.sent()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _read_until_pinged(peer: Subscriber) -> None:
    assert isinstance(peer, WebSocketSubscriber)
    await peer.read_until(lambda: peer.pings)


async def test_a_peer_that_stays_silent_is_cut_after_a_stall_all_the_same(hub: HubProcess) -> None:
    """A stall is no excuse for whoever is dead."""
    async with subscribed(hub.port, "websocket", "news") as dead:
        dead.answers_pings = False
        await _read_until_pinged(dead)
        hub.signal(signal.SIGSTOP)
        await asyncio.sleep(STALL_SECONDS / 2)
        hub.signal(signal.SIGCONT)
        await dead.read_to_end()
        assert dead.close_code == 4504


async def test_a_publisher_that_sends_faster_than_the_broker_takes_is_not_cut(
    slow_broker_hub: HubProcess,
) -> None:
    """Its pong stands behind commands that the hub does not read yet."""
    hub = slow_broker_hub
    async with subscribed(hub.port, "websocket", "other") as publisher:
        publisher.keep_reading()
        count = 400
        for number in range(count):
            command = {"op": "publish", "id": number, "channel": "news", "data": number}
            publisher.peer.send(masked(json.dumps(command).encode()))
        await eventually(lambda: len(publisher.of("reply")) == count or publisher.ended, seconds=60)
        replies = publisher.of("reply")
        assert [reply["ok"]["offset"] for reply in replies] == list(range(1, count + 1))
        assert publisher.close_code is None
        await publisher.stop_reading()


@pytest.fixture
def slow_broker_hub() -> Iterator[HubProcess]:
    """Each publication takes 10 ms there, so 256 of them take longer than a pong may."""
    with SlowBrokerHub(
        HUB_HEARTBEAT_SECONDS="0.3", HUB_PONG_TIMEOUT_SECONDS="0.6", HUB_STATS_SECONDS="0"
    ) as hub:
        yield hub


class SlowBrokerHub(HubProcess):
    program = ("-m", "tests.chaos.slow_broker")
