"""A path for a history file, and retries that do not wait for long."""

from pathlib import Path

import pytest

from hub.brokers.sqlite import writing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hub.db"


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(writing, "MAX_RETRY_SECONDS", 0.05)
