"""A bounded SQLite file of notes, in the order in which they came; the oldest go first.

A store is synchronous, and only the thread that made it uses it (`hub.archive.writer`). A
write-ahead log makes a batch one append. A process that is killed loses at most the batch under way
(SQLite documentation, "Write-Ahead Logging" and "PRAGMA synchronous": NORMAL).
"""

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hub.core.options import KIB, MIB

FILE_NAME = "hub-journal.sqlite3"
# "hubj" (PRAGMA application_id). The hub never writes to a file of another program.
APPLICATION_ID = 0x6875626A
VERSION = 1
# Shares of `max_bytes`: three quarters for the file, the rest for its log with a batch's additions.
_FILE_SHARE = 3 / 4
_LOG_SHARE = 1 / 16
# Trimming begins at this share of the file, so that a batch finds room. Each cut takes a twentieth
# of the rows.
_FULL = 0.9
_CUTS = 20
# Processes of one machine may write side by side, each in a file of its own.
_MOST_FILES = 256
_BUSY_SECONDS = 5.0

EVENT, OPENED, CLOSED, SENT, HOLE, CRASH = "event", "opened", "closed", "sent", "hole", "crash"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS notes (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    connection TEXT,
    subject TEXT,
    channel TEXT,
    epoch TEXT,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS by_connection ON notes (connection, id) WHERE connection IS NOT NULL;
CREATE INDEX IF NOT EXISTS by_subject ON notes (subject, id) WHERE subject IS NOT NULL;
CREATE INDEX IF NOT EXISTS by_channel ON notes (channel, epoch, last) WHERE kind = 'sent';
CREATE INDEX IF NOT EXISTS by_hole ON notes (last) WHERE kind = 'hole';
CREATE INDEX IF NOT EXISTS by_crash ON notes (at_ms) WHERE kind = 'crash';
"""

# No crash follows the opening of this process' own connections.
_CRASH_AFTER = "SELECT min(at_ms) FROM notes WHERE kind = 'crash' AND at_ms >= ?"


class NoteRow(NamedTuple):
    """A note. Fields that its kind does not have are None or 0."""

    kind: str
    at_ms: int
    """Its time in milliseconds since 1970 UTC."""
    connection: str | None = None
    subject: str | None = None
    channel: str | None = None
    epoch: str | None = None
    first: int = 0
    """For `event` and `sent` an offset, for `opened` and `closed` the time of opening, for `hole`
    its begin."""
    last: int = 0
    body: bytes = b""


_COLUMNS = ", ".join(NoteRow._fields)
_MARKS = ", ".join("?" for _ in NoteRow._fields)
# Made only of the names above. Values are never part of a query's text.
_INSERT = f"INSERT INTO notes ({_COLUMNS}) VALUES ({_MARKS})"  # noqa: S608


class Store:
    """A file of notes, owned by one thread.

    Args:
        max_bytes: bound on file and log together; at least `MIN_JOURNAL_BYTES`.

    Raises:
        OSError, sqlite3.Error: the file cannot be opened, or is not a journal of a hub.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path, self._lock = _claimed(_file_of(path))
        try:
            # Only the owner may read subjects and addresses. The log inherits the mode.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None
            )
            try:
                self._prepare(max_bytes)
            except BaseException:
                self._connection.close()
                raise
        except BaseException:
            os.close(self._lock)
            raise

    def _prepare(self, max_bytes: int) -> None:
        if self._one("SELECT count(*) FROM sqlite_master"):
            known = (self._one("PRAGMA application_id"), self._one("PRAGMA user_version"))
            if known != (APPLICATION_ID, VERSION):
                raise sqlite3.DatabaseError("the file is no journal of this version of the hub")
        page = self._one("PRAGMA page_size")
        self._max_pages = int(max_bytes * _FILE_SHARE) // page
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute(f"PRAGMA max_page_count = {self._max_pages}")
        log_bytes = int(max_bytes * _LOG_SHARE)
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {log_bytes // page}")
        self._connection.execute(f"PRAGMA journal_size_limit = {log_bytes}")
        self._connection.execute(f"PRAGMA cache_size = -{2 * MIB // KIB}")
        self._connection.executescript(_SCHEMA)
        self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._connection.execute(f"PRAGMA user_version = {VERSION}")
        with self._transaction():
            if self._one("SELECT value FROM meta WHERE name = 'running'"):
                # The previous process did not close the file. It wrote until `alive_ms`.
                alive_ms = self._one("SELECT value FROM meta WHERE name = 'alive_ms'")
                self._connection.execute(_INSERT, NoteRow(CRASH, alive_ms))
            self._set("running", 1)

    def close(self) -> None:
        try:
            # If the disk takes nothing, the next process believes that this one was killed.
            with contextlib.suppress(sqlite3.Error):
                self._set("running", 0)
            self._connection.close()
        finally:
            os.close(self._lock)

    @property
    def bytes(self) -> int:
        """Bytes on disk, with the log."""
        return sum(
            path.stat().st_size for path in (self.path, Path(f"{self.path}-wal")) if path.exists()
        )

    def _one(self, query: str, *values: object) -> int:
        row = self._connection.execute(query, values).fetchone()
        return 0 if row is None or row[0] is None else int(row[0])

    def _set(self, name: str, value: int) -> None:
        self._connection.execute(
            "INSERT INTO meta VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET value = max(value * (name = 'forgotten_ms'), "
            "excluded.value)",
            (name, value),
        )

    # -- writing -----------------------------------------------------------------------------

    def write(self, rows: Sequence[NoteRow]) -> None:
        """Write all rows or none. The oldest notes go where there is no room."""
        with self._transaction():
            self._connection.executemany(_INSERT, rows)
            self._set("alive_ms", int(time.time() * 1000))
            for _ in range(_CUTS):
                used = self._one("PRAGMA page_count") - self._one("PRAGMA freelist_count")
                if used <= self._max_pages * _FULL or not self._cut():
                    break

    def _cut(self) -> bool:
        """Forget the oldest notes; return whether there were any."""
        oldest, newest = (
            self._one("SELECT min(id) FROM notes"),
            self._one("SELECT max(id) FROM notes"),
        )
        if oldest >= newest:
            return False
        cut = oldest + max(0, (newest - oldest) // _CUTS)
        until = self._one("SELECT max(at_ms) FROM notes WHERE id <= ?", cut)
        self._connection.execute("DELETE FROM notes WHERE id <= ?", (cut,))
        self._set("forgotten_ms", until)
        return True

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            # A full disk may have ended the transaction already.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    # -- reading -----------------------------------------------------------------------------

    def closed_of(self, subject: str, *, from_ms: int, to_ms: int, limit: int) -> list[NoteRow]:
        """Return the subject's connections that were open in that time, newest last."""
        return self._rows(
            "subject = ? AND kind = 'closed' AND at_ms >= ? AND first <= ? ORDER BY id DESC",
            (subject, from_ms, to_ms),
            limit,
        )[::-1]

    def closed(self, connection: str) -> NoteRow | None:
        found = self._rows("connection = ? AND kind = 'closed' ORDER BY id DESC", (connection,), 1)
        return found[0] if found else None

    def left_open(self, subject: str, *, to_ms: int, limit: int) -> list[tuple[NoteRow, int]]:
        """Return the subject's connections whose process crashed, newest last.

        Each has the time until which its process lived.
        """
        rows = self._rows(
            "subject = ? AND kind = 'opened' AND first <= ? AND NOT EXISTS "
            "(SELECT 1 FROM notes AS ends WHERE ends.connection = notes.connection "
            "AND ends.kind = 'closed') ORDER BY id DESC",
            (subject, to_ms),
            limit,
        )[::-1]
        ends = [(row, self._one(_CRASH_AFTER, row.first)) for row in rows]
        return [(row, end) for row, end in ends if end]

    def cut(self, connection: str) -> tuple[NoteRow, int] | None:
        """Return a connection whose process crashed, and the time until which that lived."""
        found = self._rows("connection = ? AND kind = 'opened' ORDER BY id DESC", (connection,), 1)
        end = self._one(_CRASH_AFTER, found[0].first) if found else 0
        return (found[0], end) if end else None

    def events(self, connection: str, limit: int) -> list[NoteRow]:
        """Return the newest events of a connection, in order."""
        return self._rows(
            "connection = ? AND kind = 'event' ORDER BY id DESC", (connection,), limit
        )[::-1]

    def sent(
        self, channel: str, epoch: str, *, from_ms: int, to_ms: int, limit: int
    ) -> list[NoteRow]:
        """Return the `sent` rows of a channel in that time, in order; `at_ms` is a row's end."""
        found = self._rows(
            "channel = ? AND epoch = ? AND kind = 'sent' AND at_ms >= ? ORDER BY last",
            (channel, epoch, from_ms),
            limit,
        )
        # The first row that ends after the time may have begun in it.
        ends = [place for place, row in enumerate(found) if row.at_ms > to_ms]
        return found[: ends[0] + 1] if ends else found

    def sent_around(self, channel: str, epoch: str, offset: int, limit: int) -> list[NoteRow]:
        return self._rows(
            "channel = ? AND epoch = ? AND kind = 'sent' AND last >= ? ORDER BY last",
            (channel, epoch, offset),
            limit,
        )

    def forgotten_ms(self, from_ms: int, to_ms: int) -> int | None:
        """Return the time up to which notes of that time are missing; None without any."""
        ends = [
            self._one("SELECT value FROM meta WHERE name = 'forgotten_ms'"),
            self._one(
                "SELECT max(last) FROM notes WHERE kind = 'hole' AND last >= ? AND first <= ?",
                from_ms,
                to_ms,
            ),
        ]
        until = max(ends)
        return until if until >= from_ms and until else None

    def _rows(self, where: str, values: tuple[object, ...], limit: int) -> list[NoteRow]:
        query = f"SELECT {_COLUMNS} FROM notes WHERE {where} LIMIT ?"  # noqa: S608 - `where` is of this file
        return [NoteRow(*row) for row in self._connection.execute(query, (*values, limit))]


def _file_of(path: Path) -> Path:
    """Return the file of a setting: the path itself, or the hub's own name in a directory."""
    if path.is_dir() or str(path).endswith(os.sep):
        path.mkdir(parents=True, exist_ok=True)
        return path / FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _claimed(path: Path) -> tuple[Path, int]:
    """Lock and return the first of `path`, `path-2`, ... that no other process has.

    A process gets the same file after a restart. Several processes of one machine get one each.
    """
    for number in range(1, _MOST_FILES + 1):
        mine = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        lock = os.open(f"{mine}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        except BaseException:
            os.close(lock)
            raise
        else:
            return mine, lock
    raise OSError(f"{_MOST_FILES} processes write beside {path} already")
