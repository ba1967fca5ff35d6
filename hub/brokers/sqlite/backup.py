"""A copy of a history file that a hub has open: whole, consistent, and known to be one.

SQLite's online backup, as one read: commits go on beside it, and only the WAL grows until it has
ended. The copy is marked, so that a hub that opens it begins a new epoch in every channel: the
source may have gone further, and its offsets must not come again with other data.
"""

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from hub.brokers.sqlite.beside import sync
from hub.brokers.sqlite.faults import Fault, FileError, translating
from hub.brokers.sqlite.file import connected
from hub.brokers.sqlite.layout import APPLICATION_ID


def copy(source: str, target: str) -> int:
    """Copy `source` to `target`, which appears when it is whole; return its size in bytes.

    Raises `FileError` where the source cannot be read or the target not be written; `target` is
    then as it was before.
    """
    partial = f"{target}.partial"
    _forget(partial)
    try:
        _copy(source, partial)
        with translating(target):
            size = Path(partial).stat().st_size
            Path(partial).replace(target)
            sync(str(Path(target).parent))
    finally:
        _forget(partial)
    return size


def _copy(source: str, partial: str) -> None:
    with translating(source):
        Path(source).stat()
    with translating(source), closing(connected(source)) as origin:
        if _first(origin, "PRAGMA application_id") != APPLICATION_ID:
            raise FileError(Fault.FOREIGN, source)
        with translating(partial):
            # Readable by the hub's user alone from the beginning.
            os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(connected(partial)) as made:
            # All in one step: a copy in several steps begins anew with each commit.
            origin.backup(made, pages=-1)
            with translating(partial):
                _mark(made)
                verdict = _first(made, "PRAGMA quick_check(1)")
    if verdict != "ok":
        raise FileError(Fault.CORRUPT, source, str(verdict))
    with translating(partial):
        sync(partial)


def _mark(made: sqlite3.Connection) -> None:
    # Without a WAL beside it, the copy is one file.
    made.execute("PRAGMA journal_mode = DELETE").fetchone()
    made.execute("UPDATE fact SET value = 1 WHERE name = 'copied'")


def _first(db: sqlite3.Connection, query: str) -> Any:
    return db.execute(query).fetchone()[0]


def _forget(partial: str) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        with suppress(OSError):
            Path(partial + suffix).unlink()
