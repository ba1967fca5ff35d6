"""A worker between its supervisor's words and its end, in the loop of the test."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from hub import main
from hub.app import Hub
from hub.brokers.local.server import BrokerServer
from hub.node.server import Acceptor
from hub.node.supervisor import control as control_module
from hub.node.supervisor.control import ControlSocket
from hub.node.supervisor.roles import Role
from hub.settings import Settings
from tests.brokers.local.rig import LOG, memory_broker
from tests.core.fakes import FakeClock
from tests.node.test_supervisor_control import NotingWriter
from tests.support.waiting import eventually

DRAIN_SECONDS = 3600.0


class WatchedHub(Hub):
    made: "list[WatchedHub]" = []  # noqa: RUF012 - emptied for each test

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        WatchedHub.made.append(self)


class Worked:
    """Worker 1 of 2, and what it tells its supervisor."""

    def __init__(self, port: int, running: asyncio.Task[int]) -> None:
        self.port = port
        self.running = running
        self.reader = asyncio.StreamReader()
        self.writer = NotingWriter()
        self.hubs = WatchedHub.made

    @property
    def words(self) -> list[str]:
        return self.writer.written.decode().splitlines()

    def say(self, words: str) -> None:
        self.reader.feed_data(words.encode() + b"\n")

    async def peer(self) -> ClientConnection:
        made = await connect(f"ws://127.0.0.1:{self.port}/ws?channel=a")
        await made.recv()
        return made

    async def lives_on(self) -> None:
        """Waits until the worker has said twice more that it is alive."""
        said = self.words.count("alive")
        await eventually(lambda: self.words.count("alive") >= said + 2)


@pytest.fixture
async def worker(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Worked]:
    """One that accepts, with a broker process in the same loop."""
    monkeypatch.setattr(control_module, "ALIVE_SECONDS", 0.01)
    monkeypatch.setattr(main, "_leave_alone_what_stays", lambda: None)
    WatchedHub.made.clear()
    monkeypatch.setattr(main, "Hub", WatchedHub)
    clock, loop = FakeClock(), asyncio.get_running_loop()
    served = BrokerServer(
        lambda downstream: memory_broker(downstream, clock), clock=clock, spawn=_no_work, log=LOG
    )
    accepting: set[asyncio.Task[object]] = set()

    def to_broker(_role: Role) -> socket.socket:
        mine, theirs = socket.socketpair()
        theirs.setblocking(False)
        accepting.add(asyncio.ensure_future(loop.create_connection(served.protocol, sock=theirs)))
        return mine

    monkeypatch.setattr(Role, "_connect", to_broker)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        role = Role(1, 2, "node", 0, (os.dup(listening.fileno()),), "@none", broker_url="memory://")
        made = Worked(listening.getsockname()[1], cast("asyncio.Task[int]", None))
        control = ControlSocket(made.reader, cast("asyncio.StreamWriter", made.writer))
        settings = Settings(drain_seconds=DRAIN_SECONDS, close_timeout_seconds=1)
        made.running = asyncio.create_task(main._work(settings, None, role, control, demo=False))
        await eventually(lambda: "ready" in made.words)
        made.say("slots 0")
        yield made
        if not made.reader.at_eof():
            made.say("now")
        made.reader.feed_eof()
        done, _ = await asyncio.wait({made.running}, timeout=20)
        made.running.cancel()
        await asyncio.wait({made.running})
        assert done, "it did not end at once"


def _no_work(_work: object) -> None:
    raise AssertionError("a memory broker answers at once")


async def test_a_worker_tells_how_long_its_end_may_take(worker: Worked) -> None:
    up = next(words for words in worker.words if words.startswith("up"))
    assert float(up.split()[1]) > DRAIN_SECONDS


@pytest.mark.parametrize("order", ["drain", "retire"])
async def test_a_worker_that_drains_says_that_it_lives_until_it_is_told_to_end_now(
    worker: Worked, order: str
) -> None:
    """Its supervisor kills what says nothing, and sends the second signal on."""
    peers = [await worker.peer() for _ in range(2)]
    worker.say(order)
    await eventually(lambda: "leaving" in worker.words)
    await worker.lives_on()
    assert not worker.running.done()
    worker.say("now")
    assert await asyncio.wait_for(worker.running, 20) == 0
    for peer in peers:
        await peer.close()


async def test_a_worker_that_drains_obeys_where_to_accept(worker: Worked) -> None:
    """Its peers are told that it drains, and those of its socket are another's at once."""
    peer = await worker.peer()
    os.kill(os.getpid(), signal.SIGTERM)
    await eventually(lambda: "leaving" in worker.words)

    async def drains() -> bool:
        return await _status(worker.port) == 503

    # The word comes some turns of the loop before the drain.
    await eventually(drains)
    worker.say("slots")
    await eventually(lambda: _is_left_alone(worker.port))
    await peer.close()


async def test_a_worker_that_retires_accepts_nowhere_again(worker: Worked) -> None:
    """Its successor does. An order that was on its way is none any more."""
    peers = [await worker.peer() for _ in range(2)]
    worker.say("retire")
    await eventually(lambda: "leaving" in worker.words)
    worker.say("slots 0")
    await worker.lives_on()
    assert await _is_left_alone(worker.port)
    worker.hubs[0].stop_now()
    for peer in peers:
        await peer.close()


@pytest.mark.parametrize("drains", [False, True])
async def test_a_worker_whose_supervisor_dies_lets_go_of_the_port(
    worker: Worked, *, drains: bool
) -> None:
    """The hub that is started in its place needs it, also while this worker drains."""
    peers = [await worker.peer() for _ in range(2)]
    if drains:
        worker.say("drain")
        await eventually(lambda: "leaving" in worker.words)
    assert await _status(worker.port) in (200, 503)
    worker.reader.feed_eof()
    await eventually(lambda: _is_left_alone(worker.port))
    assert not worker.running.done()
    worker.hubs[0].stop_now()
    assert await asyncio.wait_for(worker.running, 20) == 0
    for peer in peers:
        await peer.close()


async def test_a_worker_that_cannot_accept_tries_again_and_hears_its_supervisor(
    worker: Worked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a free descriptor, for one: it would neither accept again nor drain."""
    accept, failures = Acceptor.accept, [OSError(24, "Too many open files")] * 2

    async def accepting(acceptor: Acceptor, listening: socket.socket) -> Any:
        if failures:
            listening.close()
            raise failures.pop()
        return await accept(acceptor, listening)

    monkeypatch.setattr(Acceptor, "accept", accepting)
    monkeypatch.setattr("hub.node.server._AGAIN_SECONDS", 0.01)
    worker.say("slots")
    worker.say("slots 0")
    await eventually(lambda: not failures)
    assert await _status(worker.port) == 200
    worker.say("drain")
    await eventually(lambda: "leaving" in worker.words)


async def test_a_worker_that_is_older_than_its_broker_process_ends_at_once(
    worker: Worked,
) -> None:
    """Its peers are told, and its supervisor starts a newer one."""
    peer = await worker.peer()
    worker.hubs[0]._worker.on_outdated()  # type: ignore[union-attr]
    assert await asyncio.wait_for(worker.running, 20) == 0
    assert "leaving" in worker.words
    with pytest.raises(ConnectionClosedError, match="draining"):
        await _read_all(peer)


async def test_sighup_is_for_the_supervisor(worker: Worked) -> None:
    """Also where it is sent to all processes of a name."""
    os.kill(os.getpid(), signal.SIGHUP)
    await worker.lives_on()
    assert "leaving" not in worker.words
    assert not worker.running.done()


async def _read_all(peer: ClientConnection) -> None:
    async for _ in peer:
        pass


async def _status(port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return int((await reader.readline()).split()[1])


async def _is_left_alone(port: int) -> bool:
    """Return whether nobody accepts: the connection waits in the queue of the socket."""
    try:
        async with asyncio.timeout(0.2):
            await _status(port)
    except TimeoutError:
        return True
    return False
