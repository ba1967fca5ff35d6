"""The number of workers of `auto`, and the memory, follow from what this
process may use of the machine."""

import os
from pathlib import Path

import pytest

from hub.core.options import MIB
from hub.errors import SettingsError
from hub.settings import load_settings
from hub.settings.machine import usable_bytes, usable_cores


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


@pytest.mark.parametrize(
    ("own", "parent", "expected"),
    [("1048576", "max", MIB), ("max", "2097152", 2 * MIB), ("4194304", "2097152", 2 * MIB)],
)
def test_memory_is_the_smallest_limit_from_our_cgroup_up(
    tmp_path: Path, own: str, parent: str, expected: int
) -> None:
    """Kernel documentation, "Control Group v2": a limit holds for the whole subtree."""
    group = tmp_path / "cgroup" / "a" / "b"
    group.mkdir(parents=True)
    (group / "memory.max").write_text(own + "\n")
    (group.parent / "memory.max").write_text(parent + "\n")
    membership = tmp_path / "self"
    membership.write_text("4:memory:/old\n0::/a/b\n")
    assert usable_bytes(membership, tmp_path / "cgroup") == expected


def test_memory_without_cgroups_is_the_machines(tmp_path: Path) -> None:
    """No file is no limit."""
    assert usable_bytes(tmp_path / "absent", tmp_path) > 16 * MIB


NO_LIMIT_OF_VERSION_1 = 2**63 - 4096


@pytest.mark.parametrize(
    ("seen_as", "own", "above", "stat", "expected"),
    [
        ("/a/b", MIB, NO_LIMIT_OF_VERSION_1, NO_LIMIT_OF_VERSION_1, MIB),
        ("/a/b", NO_LIMIT_OF_VERSION_1, 2 * MIB, NO_LIMIT_OF_VERSION_1, 2 * MIB),
        ("/a/b", NO_LIMIT_OF_VERSION_1, NO_LIMIT_OF_VERSION_1, 3 * MIB, 3 * MIB),
        # In a container, whose hierarchy begins at its own group.
        ("/docker/0123", NO_LIMIT_OF_VERSION_1, 4 * MIB, NO_LIMIT_OF_VERSION_1, 4 * MIB),
    ],
)
def test_memory_limits_of_the_first_version_of_cgroups_are_seen(
    tmp_path: Path, seen_as: str, own: int, above: int, stat: int, expected: int
) -> None:
    """Also beside an empty hierarchy of the second, as where both are mounted."""
    hierarchy = tmp_path / "cgroup"
    group = hierarchy / "memory" / "a" / "b"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text(f"{own}\n")
    (group / "memory.stat").write_text(f"cache 1\nhierarchical_memory_limit {stat}\n")
    (hierarchy / "memory" / "memory.limit_in_bytes").write_text(f"{above}\n")
    membership = tmp_path / "self"
    membership.write_text(
        f"12:cpu,cpuacct:/x\n4:hugetlb,memory:{seen_as}\n1:name=systemd:/y\n0::/\n"
    )
    assert usable_bytes(membership, hierarchy) == expected
