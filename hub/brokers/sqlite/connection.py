"""A connection to the history file, as the threads that write, read and copy each have one."""

import os
import sqlite3
from urllib.parse import quote

from hub.core.options import KIB, MIB

# SQLite's own cache of each connection that reads, in KiB. A guess.
READER_CACHE_KIB = 2 * KIB
# Another program that holds the file for a moment, such as a shell, is waited for.
_BUSY_SECONDS = 1.0
_WAL_KEPT_BYTES = 32 * MIB


def checkpoint(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


def connected(path: str, cache_kib: int = READER_CACHE_KIB) -> sqlite3.Connection:
    """Open a file that is there; `FileError` and `sqlite3.Error` for one that is not."""
    # Without the mode SQLite would make a file, which everybody may read.
    url = f"file:{quote(os.fsencode(path))}?mode=rw"
    db = sqlite3.connect(
        url, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        db.execute(f"PRAGMA cache_size = -{cache_kib}")
        # A checkpoint within a commit would make it wait; `Commits` runs them beside it.
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("PRAGMA temp_store = MEMORY")
        # A WAL that a backup or a burst has made larger is cut when it begins anew.
        db.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
    except BaseException:
        db.close()
        raise
    return db
