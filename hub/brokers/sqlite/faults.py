"""Faults of the history file, with one line of text each.

SQLite's result codes are translated here and nowhere else.
"""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path


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


_NO_RIGHTS = "this user may not read it and make files beside it"
# A WAL has to be made, or its index, where the directory takes no file.
_NO_FILE_BESIDE = {sqlite3.SQLITE_READONLY_DIRECTORY, sqlite3.SQLITE_READONLY_CANTINIT}
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
# What neither SQLite nor the system says: these two do not pass by themselves.
_CURES = {
    Fault.CORRUPT: "stop the hub; restore a backup, move it away, or name another in HUB_BROKER",
    Fault.FOREIGN: "stop the hub, and name another in HUB_BROKER, or move it away",
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
    sqlite3.SQLITE_CONSTRAINT: Fault.CORRUPT,
    sqlite3.SQLITE_MISMATCH: Fault.CORRUPT,
    sqlite3.SQLITE_CANTOPEN: Fault.MISSING,
}
# The commit's mark is written before these can fail: fsync comes behind it, and then the index of
# the WAL is made longer, for which a full disk may have no room.
_AFTER_THE_MARK = {
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_DIR_FSYNC,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_SHMMAP,
}
_BY_ERRNO = {
    errno.ENOSPC: Fault.FULL,
    errno.EDQUOT: Fault.FULL,
    errno.EROFS: Fault.READ_ONLY,
    errno.EACCES: Fault.READ_ONLY,
    errno.EPERM: Fault.READ_ONLY,
    errno.ENOENT: Fault.MISSING,
    errno.ENOTDIR: Fault.MISSING,
    errno.EISDIR: Fault.FOREIGN,
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
        if cure := _CURES.get(fault):
            self.message += f"; {cure}"
        super().__init__(self.message)


@contextmanager
def translating(path: str) -> Iterator[None]:
    """Raise errors of SQLite and of the system within the block as `FileError`."""
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
        raise translated(error, path) from error


@contextmanager
def translating_content(path: str) -> Iterator[None]:
    """Translate like `translating`; a `ValueError` says that the content is not a hub's."""
    with translating(path):
        try:
            yield
        except (ValueError, TypeError) as error:
            raise FileError(Fault.CORRUPT, path, str(error)) from error


def translated(error: sqlite3.Error | OSError | UnicodeDecodeError, path: str) -> FileError:
    """Return an error of SQLite or of the system as a `FileError`.

    Only an error behind the mark of a commit leaves open whether the commit stands: SQLite writes
    that mark last, and has taken back a commit that fails before it. A `UnicodeDecodeError` is a
    message of SQLite that quotes a file which is no text.
    """
    if isinstance(error, UnicodeDecodeError):
        return FileError(Fault.CORRUPT, path, repr(error.object))
    if isinstance(error, OSError):
        known = _BY_ERRNO.get(error.errno or 0, Fault.IO)
        return FileError(known, path, os.strerror(error.errno) if error.errno else str(error))
    code = getattr(error, "sqlite_errorcode", 0) or 0
    name = getattr(error, "sqlite_errorname", "") or ""
    fault = _BY_CODE.get(code & 0xFF, Fault.IO)
    detail = f"{error}, {name}" if name else str(error)
    if fault is Fault.MISSING and Path(path).exists():
        fault = Fault.IO
        if not (os.access(path, os.R_OK | os.W_OK) and os.access(Path(path).parent, os.W_OK)):
            fault, detail = Fault.READ_ONLY, _NO_RIGHTS
    elif code == sqlite3.SQLITE_IOERR_WRITE:
        detail += ": a quota, a limit of file sizes (ulimit -f), or the disk, see dmesg"
    elif code in _NO_FILE_BESIDE:
        detail = _NO_RIGHTS
    elif code == sqlite3.SQLITE_IOERR_SHORT_READ or _names_what_is_missing(error):
        fault = Fault.CORRUPT
    return FileError(fault, path, detail, uncertain=code in _AFTER_THE_MARK)


def _names_what_is_missing(error: sqlite3.Error) -> bool:
    """Return whether a table or column is missing, or a text cannot be decoded."""
    return str(error).startswith(("no such ", "Could not decode"))
