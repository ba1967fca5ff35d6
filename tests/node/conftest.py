"""A supervisor with children that are no processes."""

import asyncio
import signal
import socket
from collections.abc import AsyncGenerator

import pytest

from hub.node.supervisor import supervisor as module
from hub.node.supervisor.supervisor import Supervisor
from tests.node.fake_child import FakeChild, supervise
from tests.support.waiting import eventually


@pytest.fixture
async def made(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Supervisor]:
    """With three workers that are up."""
    FakeChild.made.clear()
    monkeypatch.setattr(module, "Child", FakeChild)
    listening = [socket.socket() for _ in range(3)]
    supervisor = supervise(listening)
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: len(FakeChild.made) == 3)
    for child in tuple(FakeChild.made):
        await child.comes_up()
    await eventually(lambda: not supervisor._starting)
    yield supervisor
    supervisor.stop(signal.SIGTERM)
    for child in FakeChild.made:
        if child.exit_code is None:
            await child.ends(0)
    await running
    for each in listening:
        each.close()
