"""A copy of a history file that a hub has open: whole, consistent, and known to be one.

SQLite's online backup, as one read: commits go on beside it, and only the WAL grows until it has
ended. The copy is marked, so that a hub that opens it begins a new epoch in every channel: the
source may have gone further, and its offsets must not come again with other data.
"""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from hub.brokers.sqlite.beside import sync
from hub.brokers.sqlite.connection import connected
from hub.brokers.sqlite.faults import Fault, FileError, translated, translating
from hub.brokers.sqlite.layout import APPLICATION_ID

# Errors of writing, which are the copy's.
_OF_THE_COPY = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR_WRITE}


def copy(source: str, target: str) -> int:
    """Copy `source` to `target`, which appears when it is whole; return its size in bytes.

    Raises `FileError` where the source cannot be read or the target not be written, or another
    backup writes it; `target` is then as it was before.
    """
    partial = f"{target}.partial"
    with translating(source):
        Path(source).stat()
    with _reserved(partial, target):
        try:
            verdict = _copy(source, partial, target)
            if verdict != "ok":
                raise FileError(Fault.CORRUPT, source, verdict)
            with translating(target):
                sync(partial)
                size = Path(partial).stat().st_size
                Path(partial).replace(target)
                sync(str(Path(target).parent))
        finally:
            _forget(partial)
    return size


@contextmanager
def _reserved(partial: str, target: str) -> Iterator[None]:
    """Make `partial`, which no other backup writes meanwhile, readable by this user alone.

    A backup that was killed may have left one.
    """
    with translating(target):
        made = _made(partial, target)
    try:
        yield
    finally:
        os.close(made)


def _made(partial: str, target: str) -> int:
    while True:
        left = False
        try:
            made = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            left = True
            try:
                made = os.open(partial, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
        try:
            fcntl.flock(made, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if left:
                _forget(partial)
            elif os.path.samestat(os.fstat(made), Path(partial).stat()):
                # Another backup may have taken it for one that was left, before it was locked.
                return made
        except BlockingIOError:
            os.close(made)
            raise FileError(Fault.LOCKED, target, "another backup writes it") from None
        except FileNotFoundError:
            pass
        os.close(made)


def _copy(source: str, partial: str, target: str) -> str:
    """Copy, mark and check; return what the check says."""
    try:
        _copy_open(source, partial, target)
    except FileError as error:
        if error.fault is not Fault.READ_ONLY or not _cannot_change(source):
            raise
        _copy_snapshot(source, partial, target)
    with translating(target), closing(connected(partial)) as made:
        # Without a WAL beside it, the copy is one file.
        made.execute("PRAGMA journal_mode = DELETE").fetchone()
        _require_history(made, source)
        made.execute("UPDATE fact SET value = 1 WHERE name = 'copied'")
        return str(_first(made, "PRAGMA quick_check(1)"))


def _copy_open(source: str, partial: str, target: str) -> None:
    with translating(source), closing(connected(source)) as origin:
        _require_history(origin, source)
        with closing(connected(partial)) as made:
            try:
                # All in one step: a copy in several steps begins anew with each commit.
                origin.backup(made, pages=-1)
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", 0) in _OF_THE_COPY:
                    raise translated(error, target) from error
                raise


def _copy_snapshot(source: str, partial: str, target: str) -> None:
    """Copy file and WAL as they lie: SQLite opens them only where it can make files beside them."""
    for suffix in ("", "-wal"):
        if Path(source + suffix).exists():
            with translating(target):
                os.close(os.open(partial + suffix, os.O_WRONLY | os.O_CREAT, 0o600))
                shutil.copyfile(source + suffix, partial + suffix)


def _cannot_change(path: str) -> bool:
    """Return whether the file lies on a file system that is read-only, as a snapshot does."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _require_history(db: sqlite3.Connection, source: str) -> None:
    if _first(db, "PRAGMA application_id") != APPLICATION_ID:
        raise FileError(Fault.FOREIGN, source)


def _first(db: sqlite3.Connection, query: str) -> Any:
    return db.execute(query).fetchone()[0]


def _forget(partial: str) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        with suppress(OSError):
            Path(partial + suffix).unlink()
