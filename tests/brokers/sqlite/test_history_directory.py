"""The directory of the history file: made at the start, or the hub does not start."""

from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from hub.brokers.sqlite.urls import make_directory
from hub.errors import SettingsError
from tests.cli.commands import run
from tests.support.hub_process import HubProcess


def made(broker: str) -> list[str]:
    """The events of the log."""
    with capture_logs() as logs:
        make_directory(broker, structlog.get_logger())
    return [entry["event"] for entry in logs]


def test_a_directory_that_is_missing_is_made_for_the_hubs_user_alone(tmp_path: Path) -> None:
    """A first start needs no other command; the log says it, because it may be a wrong path."""
    broker = f"sqlite://{tmp_path}/new/place/history.db"
    assert made(broker) == ["history_directory_made"]
    assert (tmp_path / "new" / "place").stat().st_mode & 0o777 == 0o700
    assert made(broker) == []
    assert made("memory://") == []


def test_a_directory_that_cannot_be_made_is_one_line_that_names_it(tmp_path: Path) -> None:
    """A file stands in the way, as a missing right would."""
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=f"HUB_BROKER: cannot make .*{tmp_path}/file/x: Not a"):
        made(f"sqlite://{tmp_path}/file/x/history.db")


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_hub_without_its_directory_does_not_start(tmp_path: Path, workers: str) -> None:
    """Neither alone nor with workers, which would be started again and again."""
    (tmp_path / "file").touch()
    broker = ("--broker", f"sqlite://{tmp_path}/file/history.db")
    ended = await run("serve", *broker, "--workers", workers, "--port", "0")
    assert ended.code == 2
    assert "HUB_BROKER: cannot make the directory" in ended.err
    assert "started" not in ended.err


def test_a_hub_starts_where_its_directory_is_missing(tmp_path: Path) -> None:
    """And keeps its history there."""
    with HubProcess(HUB_BROKER=f"sqlite://{tmp_path}/later/history.db"):
        assert (tmp_path / "later" / "history.db").is_file()
