"""How much memory this process may use: the machine's, or less where a cgroup says so.

Kernel documentation, "Control Group v2": a limit holds for the whole subtree, and `max` means
none. "Memory Resource Controller" of version 1: a file of another name in a hierarchy of its own,
where no limit is a number near 2^63, and `memory.stat` says the least of those above, also of what
a container does not see. In a container the hierarchy's root is the container's own group, while
`/proc/self/cgroup` may name the path outside.
"""

from collections.abc import Iterator
from pathlib import Path

import psutil

_MEMBERSHIP = Path("/proc/self/cgroup")
_HIERARCHY = Path("/sys/fs/cgroup")


def usable_bytes(membership: Path = _MEMBERSHIP, hierarchy: Path = _HIERARCHY) -> int:
    """The smallest of the machine's memory and every limit from our cgroup up."""
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
    """The path of the line `number:controllers:path` that has `controller`; "" where none has.

    Of version 2 the line is `0::path`.
    """
    for line in _lines(membership):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            return path.strip().lstrip("/")
    return ""


def _numbers(file: Path, name: str) -> Iterator[int]:
    """The whole numbers that stand alone on a line after `name`."""
    for line in _lines(file):
        text = line.removeprefix(name).strip()
        if line.startswith(name) and text.isdigit():
            yield int(text)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
