"""The broker process keeps what every broker has to keep: `tests.brokers.test_contract`, again."""

from collections.abc import AsyncGenerator

import pytest

from tests.brokers.local.rig import machine
from tests.brokers.rig import Rig
from tests.brokers.test_contract import *  # noqa: F403 - all there is, and what will be


@pytest.fixture
async def rig() -> AsyncGenerator[Rig]:
    """A worker that subscribes to nothing yet; another one stands beside it."""
    async with machine() as made:
        worker = await made.worker()
        await made.worker()
        memory = made.process.memory
        worker.forget = lambda channel: memory._forget(memory._logs[channel])
        yield worker
