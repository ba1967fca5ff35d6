"""Faults of the history file, with one line of text each.

SQLite's result codes are translated here and nowhere else.
"""

import errno
import os
import sqlite3
from enum import StrEnum


class Fault(StrEnum):
    """Names of faults in metrics and logs."""

    FULL = "full"
    READ_ONLY = "read_only"
    LOCKED = "locked"
    CORRUPT = "corrupt"
    FOREIGN = "foreign"
    MISSING = "missing"
    IO = "io"
    CLOSED = "closed"


_TEXTS = {
    Fault.FULL: "the disk is full",
    Fault.READ_ONLY: "it may not be written",
    Fault.LOCKED: "another process holds it",
    Fault.CORRUPT: "it is corrupt",
    Fault.FOREIGN: "it is no history of a hub",
    Fault.MISSING: "it, or its directory, is not there",
    Fault.CLOSED: "it is not open yet",
    Fault.IO: "the disk does not do what it is asked",
}
# https://www.sqlite.org/rescode.html, the primary codes.
_BY_CODE = {
    sqlite3.SQLITE_FULL: Fault.FULL,
    sqlite3.SQLITE_READONLY: Fault.READ_ONLY,
    sqlite3.SQLITE_PERM: Fault.READ_ONLY,
    sqlite3.SQLITE_BUSY: Fault.LOCKED,
    sqlite3.SQLITE_LOCKED: Fault.LOCKED,
    sqlite3.SQLITE_PROTOCOL: Fault.LOCKED,
    sqlite3.SQLITE_CORRUPT: Fault.CORRUPT,
    sqlite3.SQLITE_NOTADB: Fault.CORRUPT,
    sqlite3.SQLITE_FORMAT: Fault.CORRUPT,
    sqlite3.SQLITE_CANTOPEN: Fault.MISSING,
}
_BY_ERRNO = {
    errno.ENOSPC: Fault.FULL,
    errno.EDQUOT: Fault.FULL,
    errno.EROFS: Fault.READ_ONLY,
    errno.EACCES: Fault.READ_ONLY,
    errno.EPERM: Fault.READ_ONLY,
    errno.ENOENT: Fault.MISSING,
    errno.ENOTDIR: Fault.MISSING,
    errno.EWOULDBLOCK: Fault.LOCKED,
}


class FileError(Exception):
    """The file cannot be read or written.

    Args:
        uncertain: whether the commit may be in the file all the same.
    """

    def __init__(
        self, fault: Fault, path: str, detail: str = "", *, uncertain: bool = False
    ) -> None:
        self.fault = fault
        self.uncertain = uncertain
        self.message = f"history file {path}: {_TEXTS[fault]}"
        if detail:
            self.message += f" ({detail})"
        super().__init__(self.message)


def translated(error: sqlite3.Error | OSError, path: str) -> FileError:
    """Return an error of SQLite or of the system as a `FileError`.

    Only an fsync that failed leaves open whether a commit stands: SQLite writes a commit's mark
    last, and has taken back a commit that fails before it.
    """
    if isinstance(error, OSError):
        known = _BY_ERRNO.get(error.errno or 0, Fault.IO)
        return FileError(known, path, os.strerror(error.errno) if error.errno else str(error))
    code = getattr(error, "sqlite_errorcode", 0) or 0
    name = getattr(error, "sqlite_errorname", "") or ""
    fault = _BY_CODE.get(code & 0xFF, Fault.IO)
    uncertain = code in {sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC}
    detail = f"{error}, {name}" if name else str(error)
    return FileError(fault, path, detail, uncertain=uncertain)
