"""Which file is which: what shows that a file was read before, and where rotation put it.

A name says little (rotation renames), an inode not enough (it is used again as soon as its file
is deleted, and a copy has another), a device number nothing (it changes with a reboot). What was
read says it: a digest of the file's first bytes and of the last ones before the place.
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


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a file was read, and what was read there."""

    inode: int
    offset: int
    digest: str


def mark(fd: int, offset: int) -> Mark:
    """Of the open file, read up to byte `offset`."""
    size = min(offset, _WINDOW_BYTES)
    seen = os.pread(fd, size, 0) + os.pread(fd, size, offset - size)
    return Mark(os.fstat(fd).st_ino, offset, sha256(seen).hexdigest())


def continues(fd: int, known: Mark) -> bool:
    """Whether the open file begins with what was read up to `known`."""
    if os.fstat(fd).st_size < known.offset:
        return False
    return mark(fd, known.offset).digest == known.digest


@dataclass(frozen=True, slots=True)
class _Seen:
    path: Path
    inode: int
    written_ns: int


def find(path: Path, known: Mark) -> Path | None:
    """The file that continues `known`: at `path`, or rotated beside it; None when it is gone.

    The same inode is preferred to the same content (a copy), and a newer file to an older.
    Where nothing was read there is no content to tell by.
    """
    same = [each for each in _at_and_beside(path) if _continues_at(each.path, known)]
    renamed = [each for each in same if each.inode == known.inode]
    copies = sorted(same, key=_age, reverse=True) if known.offset else []
    return next((each.path for each in [*renamed, *copies]), None)


def rotations_after(path: Path, written_ns: int) -> list[Path]:
    """Rotated files of `path` that were last written after `written_ns`, oldest first.

    Renaming does not change when a file was written. Compressed ones are left out.
    """
    name = re.escape(path.name)
    stem, suffix = re.escape(path.stem), re.escape(path.suffix)
    rotated = re.compile(f"{name}[.-]{_AGE}|{stem}[.-]{_AGE}{suffix}")
    found = [each for each in _at_and_beside(path) if rotated.fullmatch(each.path.name)]
    return [each.path for each in sorted(found, key=_age) if each.written_ns > written_ns]


def _at_and_beside(path: Path) -> Iterator[_Seen]:
    for each in (path, *_listed(path.parent)):
        if each is path or (each.name.startswith(path.stem) and each != path):
            # Rotated in this very moment, or not ours to read.
            with contextlib.suppress(FileNotFoundError, PermissionError):
                found = each.stat()
                if stat.S_ISREG(found.st_mode):
                    yield _Seen(each, found.st_ino, found.st_mtime_ns)


def _listed(directory: Path) -> list[Path]:
    """What is in it; nothing where only its files may be read, so that no rotation is found."""
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
