"""Recognize files: whether a file was read before, and where rotation put it.

A name says little (rotation renames), an inode not enough (it is used again as soon as its file is
deleted, and a copy has another), and a device number nothing (it changes with a reboot). The
content that was read identifies a file: a digest of its first bytes and of the last ones before the
place.

The name may be a link. Then rotation renames the link's target, or makes a new file and changes the
link (`current.log` to `app-2026-11-29.log`), so the target's folder is searched as well.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

# Two lines of a log with their times differ well within this.
_WINDOW_BYTES = 1024
# What logrotate, newsyslog and Python's handlers append: a number or a date. Not compressed.
_AGE = r"\d[\d_T:-]*"
# How often it was rotated, and no part of a date.
_COUNT = r"(\d{1,3})"


@dataclass(frozen=True, slots=True)
class Mark:
    """The number of bytes that were read of a file, and their digest."""

    inode: int
    offset: int
    digest: str


def mark(fd: int, offset: int) -> Mark:
    """Return the mark of the open file, read up to byte `offset`."""
    size = min(offset, _WINDOW_BYTES)
    seen = os.pread(fd, size, 0) + os.pread(fd, size, offset - size)
    return Mark(os.fstat(fd).st_ino, offset, sha256(seen).hexdigest())


def continues(fd: int, known: Mark) -> bool:
    """Return whether the open file begins with the content that was read up to `known`."""
    if os.fstat(fd).st_size < known.offset:
        return False
    return mark(fd, known.offset).digest == known.digest


@dataclass(frozen=True, slots=True)
class _Seen:
    path: Path
    identity: tuple[int, int]
    written_ns: int

    @property
    def inode(self) -> int:
        return self.identity[1]


@dataclass(frozen=True, slots=True)
class Succession:
    """The files that had a name after a former file, before the present one."""

    paths: tuple[Path, ...]
    """The paths, oldest first."""
    missing: tuple[int, ...]
    """The numbers of rotated files that should be among them and are absent."""
    is_certain: bool
    """Whether the former file is still beside the name: then all later files are there too, because
    rotation removes the oldest first."""


def find(path: Path, known: Mark) -> Path | None:
    """Return the file that continues `known`: at `path`, or rotated beside it; None when it is
    gone.

    The same inode is preferred to the same content (a copy), and a newer file to an older one.
    Where nothing was read there is no content to compare.
    """
    same = [each for each in _at_and_beside(path) if _continues_at(each.path, known)]
    renamed = [each for each in same if each.inode == known.inode]
    copies = sorted(same, key=_age, reverse=True) if known.offset else []
    return next((each.path for each in [*renamed, *copies]), None)


def copies_of(path: Path, known: Mark, written_ns: int) -> list[Path]:
    """Return files beside `path` that continue `known` and were written at `written_ns` or later.

    The newest comes first. Where nothing was read there is no content to compare.
    """
    if not known.offset:
        return []
    beside = [each for each in _at_and_beside(path) if each.path != path]
    late = [each for each in beside if each.written_ns >= written_ns]
    same = [each for each in late if _continues_at(each.path, known)]
    return [each.path for each in sorted(same, key=_age, reverse=True)]


def rotations_after(path: Path, written_ns: int) -> list[Path]:
    """Return rotated files of `path` that were last written after `written_ns`, oldest first.

    Renaming leaves the time of the last write unchanged. Compressed files are left out.
    """
    found = sorted(_rotated(path), key=_age)
    return [each.path for each in found if each.written_ns > written_ns]


def succession(
    path: Path, former: tuple[int, int] | None, led_to: Path | None, written_ns: int
) -> Succession:
    """Return the files that had the name `path` after the file `former`, a device and inode.

    Args:
        former: None where the file is gone.
        led_to: The target of `path`, where it was a link then.
        written_ns: The time of the last write to `former` while it had the name. A writer may go
            on with it, so later times of it say nothing.
    """
    rotated = _rotated(path)
    where = next((each for each in _at_and_beside(path) if each.identity == former), None)
    others = [each for each in rotated if each.identity != former]
    late = sorted((each for each in others if each.written_ns >= written_ns), key=_age)
    missing: tuple[int, ...] = ()
    # Where numbers rise with the age, they say the order better than times do.
    count = _count(path, where.path) if where else None
    if where and count is not None:
        below = {
            number: each
            for each in others
            if each.path.parent == where.path.parent
            and (number := _count(path, each.path)) is not None
            and number < count
        }
        if not below or below[max(below)] in late:
            late = [below[number] for number in sorted(below, reverse=True)]
            least = 0 if 0 in below else 1
            missing = tuple(number for number in range(least, count) if number not in below)
    linked = linked_between(path, led_to) if led_to else []
    paths = dict.fromkeys([*(each.path for each in late), *linked])
    return Succession(tuple(paths), missing, where is not None)


def _count(path: Path, rotated: Path) -> int | None:
    """Return how often the file was rotated, where its name tells."""
    for each in _names(path):
        if each.parent == rotated.parent:
            name, stem, suffix = map(re.escape, (each.name, each.stem, each.suffix))
            pattern = f"{name}[.-]{_COUNT}|{stem}[.-]{_COUNT}{suffix}"
            if found := re.fullmatch(pattern, rotated.name):
                return int(found[1] or found[2])
    return None


def _rotated(path: Path) -> list[_Seen]:
    # Each name in its own folder: beside what a link leads to are files that have names like it.
    rotated = {name.parent: _rotations(name) for name in reversed(_names(path))}
    return [
        each
        for each in _at_and_beside(path)
        if re.fullmatch(rotated[each.path.parent], each.path.name)
    ]


def _rotations(path: Path) -> str:
    name, stem, suffix = map(re.escape, (path.name, path.stem, path.suffix))
    return f"{name}[.-]{_AGE}|{stem}[.-]{_AGE}{suffix}"


def linked_between(link: Path, former: Path) -> list[Path]:
    """Return the targets of `link` after `former` and before the present one, oldest first.

    They are the files whose names differ from both by a number or date between theirs, so that
    other logs in that folder are left out.
    """
    present = link.resolve()
    if former.parent != present.parent or _family(former) != _family(present):
        return []
    found = [each for each in _listed(present.parent) if _family(each) == _family(present)]
    first, last = _numbers(former), _numbers(present)
    return sorted((each for each in found if first < _numbers(each) < last), key=_numbers)


def _family(path: Path) -> str:
    """Return a name without its numbers."""
    return re.sub(r"\d+", "0", path.name)


def _numbers(path: Path) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", path.name)))


def _names(path: Path) -> list[Path]:
    """Return `path`, and its target where it is a link."""
    try:
        target = path.resolve()
    except (OSError, RuntimeError):  # a link to itself
        return [path]
    return [path] if target == path else [path, target]


def _at_and_beside(path: Path) -> Iterator[_Seen]:
    names = _names(path)
    stems = tuple(name.stem for name in names)
    families = {_family(name) for name in names[1:]}
    folders = dict.fromkeys(name.parent for name in names)
    for each in (path, *(found for folder in folders for found in _listed(folder))):
        alike = each.name.startswith(stems) or _family(each) in families
        if each is path or (alike and each != path):
            # Rotated in this very moment, or not ours to read.
            with contextlib.suppress(FileNotFoundError, PermissionError):
                found = each.stat()
                if stat.S_ISREG(found.st_mode):
                    yield _Seen(each, (found.st_dev, found.st_ino), found.st_mtime_ns)


def _listed(directory: Path) -> list[Path]:
    """List a directory; return nothing where it cannot be listed, so that no rotation is found."""
    try:
        return list(directory.iterdir())
    except PermissionError:
        return []


def _age(seen: _Seen) -> int:
    return seen.written_ns


def _continues_at(path: Path, known: Mark) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return continues(fd, known)
    finally:
        os.close(fd)
