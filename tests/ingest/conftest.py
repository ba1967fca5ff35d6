"""A hub that keeps all that `hub ingest` publishes, and a file for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ingest.ingesting import KEEP_ALL, Case
from tests.support.hub_process import HubProcess


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(allow_tracebacks=False, **KEEP_ALL) as running:
        yield running


@pytest.fixture
def case(hub: HubProcess, channel: str, tmp_path: Path) -> Case:
    return Case(hub, channel, tmp_path / "app.log")
