"""How many cores this process may keep busy: those it may run on, or less where a cgroup says so.

Kernel documentation, "Control Group v2", `cpu.max`: microseconds in each period, or `max`; of
version 1 `cpu.cfs_quota_us`, where -1 is no limit, and `cpu.cfs_period_us`. A container sees its
own group at the hierarchy's root.
"""

import os
from pathlib import Path

_HIERARCHY = Path("/sys/fs/cgroup")


def usable_cores(hierarchy: Path = _HIERARCHY) -> int:
    """At least 1. A part of a core counts as a whole one."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [
        _share(_words(hierarchy / "cpu.max")),
        _share(
            _words(hierarchy / "cpu" / "cpu.cfs_quota_us")
            + _words(hierarchy / "cpu" / "cpu.cfs_period_us")
        ),
    ]
    return max(1, min([here, *(limit for limit in limits if limit is not None)]))


def _share(words: list[str]) -> int | None:
    """Of quota and period, rounded up; None where there is no limit."""
    if len(words) != 2 or not all(word.isdigit() and int(word) for word in words):
        return None
    quota, period = map(int, words)
    return -(-quota // period)


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return []
