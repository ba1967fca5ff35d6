"""How much memory this process may use: the machine's, or less where a cgroup says so."""

from pathlib import Path

import psutil

_MEMBERSHIP = Path("/proc/self/cgroup")
_HIERARCHY = Path("/sys/fs/cgroup")


def usable_bytes(membership: Path = _MEMBERSHIP, hierarchy: Path = _HIERARCHY) -> int:
    """The smallest of the machine's memory and every `memory.max` from our cgroup up.

    Kernel documentation, "Control Group v2": a limit holds for the whole subtree, and `max`
    means none. In a container the hierarchy's root is the container's own group.
    """
    total = int(psutil.virtual_memory().total)
    group = hierarchy / _own_group(membership)
    groups = [g for g in (group, *group.parents) if g.is_relative_to(hierarchy)]
    limits = (_limit(g / "memory.max") for g in groups)
    return min(total, *(limit for limit in limits if limit is not None), total)


def _own_group(membership: Path) -> str:
    """The path after `0::`, the line of version 2; "" where there is none."""
    try:
        lines = membership.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line[3:].strip().lstrip("/") for line in lines if line.startswith("0::")), "")


def _limit(file: Path) -> int | None:
    try:
        text = file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
