"""The cores and the memory that this process may use: the machine's, or less by a cgroup's limit.

The files are those of the kernel's documentation, "Control Group v2": `cpu.max` holds microseconds
in each period, or `max` for no limit; a limit of memory holds for the whole subtree. Version 1 has
files of other names in hierarchies of their own: `cpu.cfs_quota_us`, where -1 is no limit, and
`cpu.cfs_period_us`; `memory.limit_in_bytes`, where a number near 2^63 is no limit, and
`memory.stat`, which holds the least limit of all groups above, also of those that a container does
not see. In a container the hierarchy's root is the container's own group, while `/proc/self/cgroup`
may name the path outside.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

_MEMBERSHIP = Path("/proc/self/cgroup")
_HIERARCHY = Path("/sys/fs/cgroup")


def usable_cores(hierarchy: Path = _HIERARCHY) -> int:
    """Return how many cores the process may keep busy, at least 1. A part of a core counts as a
    whole one."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [
        _share(_text(hierarchy / "cpu.max").split()),
        _share(
            _text(hierarchy / "cpu" / "cpu.cfs_quota_us").split()
            + _text(hierarchy / "cpu" / "cpu.cfs_period_us").split()
        ),
    ]
    return max(1, min([here, *(limit for limit in limits if limit is not None)]))


def _share(words: list[str]) -> int | None:
    """Return quota over period, rounded up; None where there is no limit."""
    if len(words) != 2 or not all(word.isdigit() and int(word) for word in words):
        return None
    quota, period = map(int, words)
    return -(-quota // period)


def usable_bytes(membership: Path = _MEMBERSHIP, hierarchy: Path = _HIERARCHY) -> int:
    """Return the smallest of the machine's memory and every limit from this cgroup up."""
    total = int(psutil.virtual_memory().total)
    limits = [*_of_version_2(membership, hierarchy), *_of_version_1(membership, hierarchy)]
    # A limit of 0 or less is none that a process could live with.
    return min([limit for limit in limits if limit > 0] + [total])


def _of_version_2(membership: Path, hierarchy: Path) -> Iterator[int]:
    for group in _upwards(hierarchy, _own_group(membership, "")):
        yield from _numbers(group / "memory.max", "")


def _of_version_1(membership: Path, hierarchy: Path) -> Iterator[int]:
    for group in _upwards(hierarchy / "memory", _own_group(membership, "memory")):
        yield from _numbers(group / "memory.limit_in_bytes", "")
        yield from _numbers(group / "memory.stat", "hierarchical_memory_limit ")


def _upwards(hierarchy: Path, own: str) -> list[Path]:
    group = hierarchy / own
    return [g for g in (group, *group.parents) if g.is_relative_to(hierarchy)]


def _own_group(membership: Path, controller: str) -> str:
    """Return the path of the line `number:controllers:path` with `controller`; "" where there is
    none.

    In version 2 the line is `0::path`.
    """
    for line in _text(membership).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            return path.strip().lstrip("/")
    return ""


def _numbers(file: Path, name: str) -> Iterator[int]:
    """Yield the whole numbers that stand alone on a line after `name`."""
    for line in _text(file).splitlines():
        text = line.removeprefix(name).strip()
        if line.startswith(name) and text.isdigit():
            yield int(text)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
