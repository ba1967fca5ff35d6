"""The history file, written and read by plain calls that may wait for the disk.

SQLite in WAL mode with `synchronous=FULL`: a commit has been through fsync when it returns. One
thread writes, a few read; none is the event loop's. Tables and blocks: `hub.brokers.sqlite.layout`.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from hub.brokers.sqlite.beside import (
    FilesOfSqlite,
    HistoryLock,
    create,
    identity,
    refuse_foreign_wal,
)
from hub.brokers.sqlite.connection import checkpoint, connected
from hub.brokers.sqlite.faults import Fault, FileError, translating, translating_content
from hub.brokers.sqlite.key_upkeep import keys_of, row_of
from hub.brokers.sqlite.layout import (
    APPLICATION_ID,
    BEGIN_LINE,
    INTAKE,
    LOAD_CHANNELS,
    OF_CHANNELS,
    RECENT,
    ROWS,
    SCHEMA,
    UPGRADES,
    VERSION,
    VICTIMS,
    ChannelRow,
    Commit,
    Stored,
    StoredChannel,
    StoredKey,
    StoredRow,
    packed,
    unpacked,
)
from hub.brokers.sqlite.recent import merged, steps
from hub.core.options import KIB, MIB

# SQLite's own cache of the connection that writes, in KiB. A guess.
_WRITER_CACHE_KIB = 8 * KIB
_MOVED = "it was moved away or replaced"
# Bounds of one step of trimming: some milliseconds, which a commit may have to wait.
_TRIM_BLOCKS = 256
_TRIM_BYTES = MIB
# Each is a row of some thousand keys.
_TRIM_KEYS = 4
# SQLite looks for each page in the list of free ones: half a millisecond each in a file with a
# gigabyte of them.
VACUUM_PAGES = 8


@dataclass(frozen=True, slots=True)
class Size:
    """The size of the file, in bytes."""

    used: int
    free: int
    """Pages without content now: the next publications go there."""


@dataclass(frozen=True, slots=True)
class Victim:
    """A block that was deleted."""

    channel: int
    last: int
    """Its last offset."""
    bytes: int


class HistoryFile:
    """An open file, which belongs to one thread; no other hub can open it meanwhile."""

    def __init__(self, path: str) -> None:
        """Open the file, and make it where there is none; raise `FileError`."""
        self.path = path
        self._moved = self._written = 0
        """How many commits are in the tables of channels and blocks; and how many there are."""
        self._line = ""
        """The name of the history; empty until the file is open."""
        self.lost_commits = 0
        """How many commits a hub has written that are not in the file: it is an older one, or the
        WAL beside it has gone."""
        self.damaged_rows_of_keys: set[int] = set()
        """Rows of idempotency keys that `load_keys` has found changed by a disk."""
        with translating(path):
            self._lock = HistoryLock(path)
        try:
            with translating(path):
                create(path)
                refuse_foreign_wal(path)
                self._file = identity(path)
                self._db = connected(path, _WRITER_CACHE_KIB)
                self._prepare()
                self._beside = FilesOfSqlite(path)
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        db = self._db
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != APPLICATION_ID:
            raise FileError(Fault.FOREIGN, self.path)
        if version > VERSION:
            detail = f"its format is {version}, this hub knows {VERSION}"
            raise FileError(Fault.FOREIGN, self.path, detail)
        if not tables:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if not tables:
            identity = f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={VERSION};"
            db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} {ROWS} {RECENT} {identity} COMMIT;")
        else:
            for older in range(version, VERSION):
                upgrade = f"{UPGRADES[older]} PRAGMA user_version={older + 1};"
                db.executescript(f"BEGIN IMMEDIATE; {upgrade} COMMIT;")
        db.executescript(INTAKE)
        self._moved = self._number("commits")
        self._move_what_was_left()
        self._written = self._moved
        line = self._fact("line")
        if (noted := self._lock.noted()) is not None and noted.line == line:
            self.lost_commits = max(0, noted.commits - self._written)
        if self._fact("copied") or self.lost_commits:
            self.begin_line()
        else:
            self._line = line
            self._note()

    def _move_what_was_left(self) -> None:
        """Move the commits that a process before this one has not moved."""
        with translating_content(self.path):
            left = [
                unpacked(raw) for (raw,) in self._db.execute("SELECT data FROM recent ORDER BY id")
            ]
        for step in steps(left):
            self.move(step, {})

    def _fact(self, name: str) -> Any:
        row = self._db.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise FileError(Fault.CORRUPT, self.path, f"it does not say its {name}")
        return row[0]

    def _number(self, name: str) -> int:
        if not isinstance(value := self._fact(name), int):
            raise FileError(Fault.CORRUPT, self.path, f"its {name} is no number")
        return value

    def close(self) -> None:
        """Close the file; committed publications stay."""
        if self._line:
            self._note()
        foreign = self._beside.foreign_index() if hasattr(self, "_beside") else None
        if hasattr(self, "_db"):
            # A full disk may refuse it: the WAL stays then. SQLite leaves it out where another
            # connection is open; a WAL that was deleted is only to be had here.
            with suppress(sqlite3.Error):
                checkpoint(self._db)
            with suppress(sqlite3.Error):
                self._db.close()
        if foreign is not None:
            self._beside.forget(foreign)
        self._lock.close()

    def begin_line(self) -> None:
        """Give every channel another epoch: offsets that a copy has given out do not come again."""
        with translating(self.path):
            self._db.executescript(f"BEGIN IMMEDIATE; {BEGIN_LINE} COMMIT;")
            self._line = self._fact("line")
            self._note()

    def _note(self) -> None:
        self._lock.note(self._line, self._written)

    def load(self) -> Stored:
        """Return the state that the first publication needs; raise `FileError`."""
        with translating_content(self.path):
            db = self._db
            found = msgspec.convert(db.execute(LOAD_CHANNELS).fetchall(), list[ChannelRow])
            channels = [StoredChannel(*row) for row in found]
            ended = dict(db.execute("SELECT place, generation FROM ended").fetchall())
            (next_id,) = db.execute(
                "SELECT 1 + max(coalesce((SELECT max(id) FROM channel), 0), "
                "coalesce((SELECT max(channel) FROM block), 0))"
            ).fetchone()
            return Stored(
                line=self._fact("line"),
                secret=bytes.fromhex(self._fact("secret")),
                commits=self._number("commits"),
                clock_ms=self._number("clock_ms"),
                channels=channels,
                ended=ended,
                next_id=next_id,
            )

    def load_keys(self, after: int, now_ms: int, limit: int) -> Sequence[StoredKey]:
        """Return answers that are still remembered, in the order they were made.

        They are all those of the `limit` rows that follow the row `after`, or of later ones where
        these have none.
        """
        with translating(self.path):
            while found := self._db.execute(
                "SELECT id, keys FROM remembered WHERE id > ? AND expires_ms > ? "
                "ORDER BY id LIMIT ?",
                (after, now_ms, limit),
            ).fetchall():
                rows = {id_: keys_of(id_, raw) for id_, raw in found}
                self.damaged_rows_of_keys.update(id_ for id_, row in rows.items() if not row)
                known = [key for row in rows.values() for key in row]
                if keys := [key for key in known if key.expires_ms > now_ms]:
                    return keys
                after = found[-1][0]
        return ()

    def load_rows(self, after: tuple[int, str], limit: int) -> Sequence[StoredRow]:
        """Return rows of all channels, by channel and key."""
        with translating(self.path):
            found = self._db.execute(
                "SELECT channel, key, taken_ms, data FROM row WHERE (channel, key) > (?, ?) "
                "ORDER BY channel, key LIMIT ?",
                (*after, limit),
            )
            return [StoredRow(*row) for row in found]

    def commit(self, commit: Commit) -> None:
        """Write all of `commit` and wait for the disk; raise `FileError` where nothing is written.

        A `FileError` may be `uncertain`: then the commit may be on the disk all the same.
        """
        with translating(self.path):
            # SQLite writes into a deleted file too, and a restart would not find the commit.
            if identity(self.path) != self._file:
                raise FileError(Fault.MISSING, self.path, _MOVED)
            self._db.execute("INSERT INTO recent VALUES (?, ?)", (commit.commits, packed(commit)))
        self._written = commit.commits
        self._note()

    def move(self, commits: Sequence[Commit], oldest: Mapping[int, int]) -> None:
        """Move the content of recent commits into the other tables.

        Args:
            commits: those that one step moves; the first of them may have been moved already.
            oldest: the first offset by channel that history still has.
        """
        if not (left := [each for each in commits if each.commits > self._moved]):
            return
        commit = merged(left, oldest)
        what = {
            "commits": commit.commits, "clock_ms": commit.clock_ms, "channels": commit.channels,
            "blocks": commit.blocks, "gone": commit.gone, "ended": commit.ended,
            "rows": commit.rows, "removed": commit.removed,
        }  # fmt: skip
        expires_ms = max([key[3] for key in commit.made], default=None)
        values = (orjson.dumps(what).decode(), commit.data, expires_ms, orjson.dumps(commit.made))
        with translating(self.path):
            self._db.execute("INSERT INTO intake VALUES (?, ?, ?, ?)", values)
        self._moved = commit.commits

    def check(self) -> None:
        """Write to the disk without a change; raise `FileError` where that fails.

        A file that has been moved away or replaced fails too: SQLite would not notice.
        """
        self.check_identity()
        with translating(self.path):
            # A failure may have come before `_without_waiting` could say so.
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("UPDATE fact SET value = value WHERE name = 'clock_ms'")

    def check_identity(self) -> None:
        """Raise `FileError` where another file, or none, is at the path now, or beside it."""
        with translating(self.path):
            if identity(self.path) != self._file:
                raise FileError(Fault.MISSING, self.path, _MOVED)
            self._beside.check()

    def size(self) -> Size:
        """Return how much of the file is in use."""
        with translating(self.path):
            pages, free, each = self._db.execute(
                "SELECT (SELECT page_count FROM pragma_page_count), "
                "(SELECT freelist_count FROM pragma_freelist_count), "
                "(SELECT page_size FROM pragma_page_size)"
            ).fetchone()
        return Size((pages - free) * each, free * each)

    def trim_expired(self, now_ms: int) -> Sequence[Victim]:
        """Delete some blocks that are too old, and return them."""
        return self._trim("block WHERE expires_ms <= ? ORDER BY expires_ms", now_ms)[0]

    def trim_oldest(self) -> Sequence[Victim]:
        """Delete some of the blocks that came first, whatever their channel."""
        return self._trim("block ORDER BY id")[0]

    def trim_channels(self, before: Mapping[int, int]) -> tuple[Sequence[Victim], bool]:
        """Delete some blocks of channels that end before an offset; tell whether there are more."""
        return self._trim(OF_CHANNELS, json.dumps(list(before.items())))

    def _trim(self, which: str, *values: object) -> tuple[Sequence[Victim], bool]:
        query = VICTIMS.format(which=which, blocks=_TRIM_BLOCKS, bytes=_TRIM_BYTES)
        with translating(self.path), self._without_waiting():
            found, near = self._db.execute(query, values).fetchone()
            victims = json.loads(found)
            if victims:
                chosen = json.dumps([each[0] for each in victims])
                self._db.execute(
                    "DELETE FROM block WHERE id IN (SELECT value FROM json_each(?))", (chosen,)
                )
        more = len(victims) < near or near == _TRIM_BLOCKS
        return [Victim(*each) for _, *each in victims], more

    def trim_keys(self, now_ms: int) -> bool:
        """Delete some rows of idempotency keys that are too old; return whether there may be more.

        Those that were made first expire first.
        """
        with translating(self.path), self._without_waiting():
            gone = self._db.execute(
                "DELETE FROM remembered WHERE expires_ms <= ? AND id IN "
                "(SELECT id FROM remembered ORDER BY id LIMIT ?)",
                (now_ms, _TRIM_KEYS),
            ).rowcount
        return gone == _TRIM_KEYS

    def sift_keys(
        self, changed: Mapping[int, Sequence[StoredKey]], after: int, limit: int
    ) -> Mapping[int, Sequence[StoredKey]]:
        """Leave only these keys in some rows; return the rows that follow the row `after`."""
        left = [
            # A row counts as over when its last key is: a start would take it for the end.
            (max([key.expires_ms for key in keys]), row_of(keys), id_)
            for id_, keys in changed.items()
            if keys
        ]
        gone = [(id_,) for id_, keys in changed.items() if not keys]
        with translating_content(self.path), self._without_waiting():
            self._db.executemany(
                "UPDATE remembered SET expires_ms = ?, keys = ? WHERE id = ?", left
            )
            self._db.executemany("DELETE FROM remembered WHERE id = ?", gone)
            found = self._db.execute(
                "SELECT id, keys FROM remembered WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
            ).fetchall()
            return {id_: keys_of(id_, raw) for id_, raw in found}

    def vacuum(self) -> None:
        """Give some pages without content back to the file system."""
        with translating(self.path), self._without_waiting():
            # SQLite gives one page back per step, and `execute` makes only the first.
            self._db.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")

    @contextmanager
    def _without_waiting(self) -> Iterator[None]:
        """Write without an fsync: deletions need not be on the disk before anything else is."""
        self._db.execute("PRAGMA synchronous = NORMAL")
        try:
            yield
        finally:
            self._db.execute("PRAGMA synchronous = FULL")

    def checkpoint(self) -> None:
        """Copy the WAL into the file; the next commit begins the WAL anew then."""
        with translating(self.path):
            checkpoint(self._db)
