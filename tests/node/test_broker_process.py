"""The broker process between its supervisor's words and its end, in the loop of the test."""

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from hub.brokers.local import frames
from hub.brokers.local.server import BrokerServer
from hub.node.binding import broker_socket
from hub.node.supervisor import broker_process
from hub.node.supervisor.roles import BROKER, Role, unix_address
from hub.settings import Settings
from tests.brokers.local.rig import LOG
from tests.brokers.local.test_frames_between_workers import frame
from tests.support.waiting import eventually


@dataclass
class Served:
    name: str
    control: socket.socket
    running: asyncio.Task[int]

    async def worker(self, tag: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The connection of one that was welcomed."""
        reader, writer = await asyncio.open_unix_connection(unix_address(self.name))
        writer.write(frame((frames.HELLO, frames.SHAPE, tag)))
        assert await _messages(reader) == [[frames.WELCOME, frames.SHAPE]]
        return reader, writer


async def _messages(reader: asyncio.StreamReader) -> list[Any]:
    size = int.from_bytes(await reader.readexactly(4), "big")
    found: list[Any] = msgspec.msgpack.decode(await reader.readexactly(size))
    return found


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Served]:
    """One that is up, for a hub of two workers."""
    monkeypatch.setattr(gc, "freeze", lambda: None)
    mine, theirs = socket.socketpair()
    mine.setblocking(False)
    with mine, broker_socket() as (name, listening):
        role = Role(
            BROKER, 2, "node", theirs.detach(), (os.dup(listening.fileno()),), name,
            broker_url="memory://",
        )  # fmt: skip
        # The file may name another broker by now.
        settings = broker_process.own_settings(Settings(broker="redis://127.0.0.1:1"), role)
        assert settings.node == "node"
        made = Served(name, mine, asyncio.create_task(broker_process._run(settings, role, LOG)))
        told = b""
        # One that does not say that it lives is killed after a minute.
        while not {b"up", b"alive"} <= set(told.splitlines()):
            told += await asyncio.get_running_loop().sock_recv(mine, 100)
        yield made
        mine.close()
        await asyncio.wait({made.running}, timeout=20)
        assert made.running.done()


@pytest.mark.parametrize("end", ["told", "supervisor dies"])
async def test_the_broker_process_ends_behind_the_last_worker(served: Served, end: str) -> None:
    """Publications of workers that drain are taken until the workers have gone."""
    reader, writer = await served.worker("w1")
    if end == "told":
        served.control.send(b"drain\n")
    else:
        served.control.close()
    await asyncio.sleep(3 * broker_process._STEP_SECONDS)
    assert not served.running.done()
    other, late = await served.worker("w2")
    for each in (writer, late):
        each.write(frame((frames.PING, 1)))
    for each_reader in (reader, other):
        assert [message[0] for message in await _messages(each_reader)] == [frames.PONG]
    writer.close()
    late.close()
    assert await asyncio.wait_for(served.running, 20) == 0


async def test_a_fault_that_keeps_one_worker_from_connecting_keeps_no_later_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A lack of descriptors passes; a process of another user is refused, and logged."""
    logged = structlog.testing.CapturingLogger()
    ends = [socket.socketpair() for _ in range(2)]
    answers: list[Any] = [OSError(24, "Too many open files"), ends[0][1], ends[1][1]]
    are_ours = [True, False]
    taken: list[socket.socket] = []

    async def sock_accept(_listening: socket.socket) -> tuple[socket.socket, str]:
        if not answers:
            await asyncio.Event().wait()
        if isinstance(answer := answers.pop(0), OSError):
            raise answer
        return answer, ""

    async def connect_accepted_socket(_protocol: object, sock: socket.socket) -> None:
        taken.append(sock)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "sock_accept", sock_accept)
    monkeypatch.setattr(loop, "connect_accepted_socket", connect_accepted_socket)
    monkeypatch.setattr(broker_process, "is_of_this_user", lambda _peer: are_ours.pop(0))
    server = object.__new__(BrokerServer)
    with contextlib.ExitStack() as stack:
        for end in (end for pair in ends for end in pair):
            stack.enter_context(end)
        log = structlog.wrap_logger(logged, processors=[])
        accepting = asyncio.create_task(broker_process._accept(server, ends[0][0], log))
        await eventually(lambda: not are_ours)
        assert taken == [ends[0][1]]
        assert ends[1][1].fileno() == -1
        assert not accepting.done()
        accepting.cancel()
    events = [call.kwargs["event"] for call in logged.calls]
    assert events == ["worker_not_accepted", "stranger_refused"]


def test_where_names_stand_in_a_directory_it_is_this_user_s_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The directory is removed when the hub ends."""
    monkeypatch.setattr("sys.platform", "darwin")
    with broker_socket() as (name, _):
        directory = Path(name).parent
        assert directory.stat().st_mode & 0o777 == 0o700
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
            end.connect(unix_address(name))
    assert not directory.exists()
