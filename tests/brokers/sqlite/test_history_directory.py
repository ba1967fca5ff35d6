"""The directory of the history file: made at the start, or the hub does not start."""

from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from hub.brokers.sqlite.urls import make_directory
from hub.errors import SettingsError
from hub.settings import Settings
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


def test_a_directory_in_the_place_of_the_file_is_told_with_the_cure(tmp_path: Path) -> None:
    """A volume is often mounted at the path that was meant for the file."""
    cure = f"HUB_BROKER: {tmp_path} is a directory: .* sqlite://{tmp_path}/history.db"
    with pytest.raises(SettingsError, match=cure):
        made(f"sqlite://{tmp_path}")
    assert not list(tmp_path.iterdir())


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
    """The hub makes the directory and keeps its history there."""
    with HubProcess(HUB_BROKER=f"sqlite://{tmp_path}/later/history.db"):
        assert (tmp_path / "later" / "history.db").is_file()


@pytest.mark.parametrize(
    ("url", "cure"),
    [
        ("sqlite://hub.db", "sqlite://{here}/hub.db"),
        ("sqlite:hub.db", "sqlite://{here}/hub.db"),
        ("sqlite:data/hub.db", "sqlite://{here}/data/hub.db"),
        ("sqlite://./hub.db", "sqlite://{here}/hub.db"),
        ("sqlite:///./hub.db", "sqlite://{here}/hub.db"),
        ("sqlite:///../hub.db", "sqlite://{parent}/hub.db"),
        ("sqlite:///~/hub.db", "sqlite://{home}/hub.db"),
        (
            "sqlite:///var/lib/hub/",
            "/var/lib/hub/ is a directory: sqlite:///var/lib/hub/history.db",
        ),
        ("sqlite:///", "allowed: sqlite:///path"),
        ("sqlite://", "allowed: sqlite:///path"),
        ("sqlite:///a/hub.db?mode=ro", "allowed: sqlite:///path"),
    ],
)
def test_a_url_that_names_no_absolute_path_is_refused_with_the_cure(
    url: str, cure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As people write it who know other programs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ann")
    with pytest.raises(SettingsError) as raised:
        Settings(broker=url)
    cure = cure.format(here=tmp_path, parent=tmp_path.parent, home="/home/ann")
    assert cure in str(raised.value)


def test_a_file_in_the_root_directory_is_said_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three slashes are a relative path to other programs; and where it cannot be, the hub does
    not start."""
    monkeypatch.chdir(tmp_path)
    with capture_logs() as logs:
        make_directory("sqlite:///of-nobody.db", structlog.get_logger())
    (warning,) = logs
    assert (warning["event"], warning["path"]) == ("history_in_root", "/of-nobody.db")
    assert f"write sqlite://{tmp_path}/of-nobody.db" in warning["message"]
    assert not Path("/of-nobody.db").exists()
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(SettingsError, match=f"cannot make the file /of-nobody.db.*{tmp_path}"):
        make_directory("sqlite:///of-nobody.db", structlog.get_logger())
