"""A worker that goes: peers that it accepted at the last moment are served, and told to move."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hub import Hub, Settings
from tests.support.application import Answer, Application, Asked, says
from tests.support.raw_connection import END_OF_HEAD, get
from tests.support.waiting import eventually

# Peers of these tests answer no close of the hub's.
LEAVES: dict[str, Any] = {"port": 0, "drain_seconds": 0.2, "close_timeout_seconds": 0.1}
PROXY_HEADER = b"PROXY TCP4 192.0.2.7 127.0.0.1 40000 8000\r\n"


async def connected(hub: Hub) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(hub.url.rpartition(":")[2]))


@pytest.mark.parametrize(
    ("proxied", "before"),
    [
        (False, 0),
        (False, 30),
        (True, 0),
        (True, 10),
        (True, len(PROXY_HEADER)),
        (True, len(PROXY_HEADER) + 30),
    ],
    ids=[
        "plain", "within its request", "before the PROXY header", "within it", "behind it",
        "within the request behind it",
    ],
)  # fmt: skip
async def test_a_peer_that_was_accepted_at_the_last_moment_has_its_session_and_the_goodbye(
    proxied: bool, before: int
) -> None:
    """Also where only so many bytes of the peer's request have come when accepting ends."""
    sent = PROXY_HEADER * proxied + get("/ws?channel=prices", upgrade=True)
    settings = LEAVES | {"proxy_protocol": proxied}
    async with Hub(Settings(**settings)) as hub:
        reader, writer = await connected(hub)
        writer.write(sent[:before])
        has_address = before >= len(PROXY_HEADER) or not proxied
        await eventually(lambda: hub.node.sockets.http or not has_address)
        await asyncio.sleep(0.05)
        await hub.stop_accepting()
        leaving = asyncio.create_task(hub.leave_to_another())
        await asyncio.sleep(0.1)
        writer.write(sent[before:])
        head = await reader.readuntil(END_OF_HEAD)
        assert head.startswith(b"HTTP/1.1 101"), head
        assert b'"op":"goodbye"' in await reader.read()
        await leaving
        writer.close()


async def test_a_peer_that_sends_nothing_delays_the_drain_for_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hub.node.server._FIRST_REQUEST_SECONDS", 0.1)
    async with Hub(Settings(port=0, drain_seconds=0)) as hub:
        _, writer = await connected(hub)
        await eventually(lambda: hub.node.sockets.http)
        await hub.stop_accepting()
        leaving = asyncio.create_task(hub.leave_to_another())
        await eventually(lambda: hub.node.registry.draining)
        writer.close()
        await leaving


async def head_before_the_drain(
    hub: Hub, reader: asyncio.StreamReader, let_in: Callable[[], object]
) -> bytes:
    """Have a worker leave while a peer waits, and let the peer in; return the head of its answer.

    The drain begins after that, and the stream ends with the goodbye.
    """
    await hub.stop_accepting()
    leaving = asyncio.create_task(hub.leave_to_another())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not hub.node.registry.draining
    let_in()
    head = await reader.readuntil(END_OF_HEAD)
    assert b'"op":"goodbye"' in await reader.read()
    await leaving
    return head


async def test_a_peer_whose_stream_waits_for_a_turn_is_served_before_the_drain() -> None:
    """Its first request is here, behind those of a crowd. The drain would refuse it."""
    async with Hub(Settings(**LEAVES)) as hub:
        crowd = hub.node.turns.crowd
        # Nothing is done as it comes, and the queue has its turn when the test says so.
        crowd.spent(1000.0)
        crowd._scheduled = True
        reader, writer = await connected(hub)
        writer.write(get("/ws?channel=prices", upgrade=True))
        await eventually(lambda: len(crowd) > 0)
        head = await head_before_the_drain(hub, reader, crowd._turn)
        assert head.startswith(b"HTTP/1.1 101"), head
        writer.close()


@pytest.mark.parametrize(
    "path", ["/ws?channel=prices", "/sse?channel=prices", "/poll?channel=prices"]
)
async def test_a_peer_about_whom_the_application_is_asked_is_served_before_the_drain(
    path: str,
) -> None:
    """The application may take as long as it is given, and the drain would refuse the peer."""
    answered = asyncio.Event()

    async def answer(_asked: Asked) -> Answer:
        await answered.wait()
        return says(allow=True)

    async with Application(answer) as app:
        settings = Settings(**LEAVES, hook_url=app.url, hooks="connect")
        async with Hub(settings) as hub:
            reader, writer = await connected(hub)
            writer.write(get(path, upgrade=path.startswith("/ws")))
            await app.until(lambda: bool(app.asked))
            head = await head_before_the_drain(hub, reader, answered.set)
            assert head.startswith((b"HTTP/1.1 101", b"HTTP/1.1 200")), head
            writer.close()


async def test_a_worker_that_has_stopped_accepting_does_not_begin_again() -> None:
    """An order that waited behind another one comes to nothing."""
    async with Hub(Settings(port=0)) as hub:

        async def obey() -> None:
            await hub.accept_at({0})
            await hub.accept_at({0})

        listener = hub._listener
        assert listener is not None
        await hub.accept_at(())
        async with listener._changing:
            obeying = asyncio.create_task(obey())
            await asyncio.sleep(0)
            stopping = asyncio.create_task(hub.stop_accepting())
            await asyncio.sleep(0)
        await asyncio.gather(obeying, stopping)
        assert not listener._servers
