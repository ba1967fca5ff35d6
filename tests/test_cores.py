"""How many workers `auto` is."""

import os
from pathlib import Path

import pytest

from hub.errors import SettingsError
from hub.settings import load_settings
from hub.settings.cores import usable_cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("9900000 100000", 8),
        ("nonsense", 8),
        ("0 0", 8),
    ],
)
def test_a_container_has_as_many_cores_as_its_limit_says(
    tmp_path: Path, limit: str, cores: int
) -> None:
    """A part of a core counts as a whole one; never more than there are."""
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("300000", 3)])
def test_control_groups_of_version_1_are_understood(tmp_path: Path, quota: str, cores: int) -> None:
    folder = tmp_path / "cpu"
    folder.mkdir()
    (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(folder.parent) == cores


def test_without_a_limit_all_cores_that_may_be_used_count(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 8


def workers(text: str) -> int:
    return load_settings(config_file=None, flags={}, environ={"HUB_WORKERS": text}).workers


def test_auto_is_one_worker_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.settings.parsing.usable_cores", lambda: 5)
    assert (workers("auto"), workers("3")) == (5, 3)


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", "99999"])
def test_other_numbers_of_workers_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="HUB_WORKERS"):
        workers(text)
