"""The durable broker keeps what every broker has to keep: `tests.brokers.test_contract`, again.

Twice: with the newest of history in memory, as it runs, and with none of it, so that every page
is read from the file.
"""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from hub.brokers.sqlite import restoring
from tests.brokers.rig import Rig
from tests.brokers.sqlite.nodes import StoredNode
from tests.brokers.test_contract import *  # noqa: F403 - all there is, and what will be


@pytest.fixture(params=["memory first", "file alone"])
async def rig(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Rig]:
    """A durable broker whose node subscribes to nothing yet."""
    if request.param == "file alone":
        monkeypatch.setattr(restoring, "MEMORY_BYTES", 0)
    async with StoredNode(tmp_path / "hub.db") as node:
        yield node
