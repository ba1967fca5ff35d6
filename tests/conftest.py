"""What many tests need: a channel nobody else uses."""

import os
import secrets
from pathlib import Path

import pytest
from hypothesis import settings

# Examples may take their time: the machine may be busy.
settings.register_profile("hub", deadline=None)
settings.load_profile("hub")


@pytest.fixture
def channel() -> str:
    """A channel of this test alone, in no namespace."""
    return f"test-{secrets.token_hex(4)}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Leave the names of what failed where `tests/run` looks for them."""
    if (path := os.environ.get("HUB_TEST_FAILED")) is None:
        return
    reports = [*terminalreporter.stats.get("failed", ()), *terminalreporter.stats.get("error", ())]
    names = sorted({report.nodeid for report in reports})
    Path(path).write_text("".join(f"{name}\n" for name in names))
