"""Looks through a whole history file for publications that a disk has changed.

SQLite's own check looks at its trees, and at no payload. The file is not in use meanwhile: this is
for the copy that `hub backup` has made.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from sqlite3 import Connection

from hub.brokers.sqlite.connection import connected
from hub.brokers.sqlite.faults import translating_content
from hub.brokers.sqlite.layout import Commit, records, unpacked
from hub.brokers.sqlite.recent import bytes_of

# Files of version 3 and before have none, and may lack some of the tables.
_CHECKSUMS_SINCE = 4


def damaged(path: str) -> Sequence[str]:
    """Return what is not as it was written, as texts: channels with offsets, or with keys of rows.

    Raises `FileError` where the file cannot be read.
    """
    found: list[str] = []
    with translating_content(path), closing(connected(path)) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version < _CHECKSUMS_SINCE:
            return found
        recent = [unpacked(raw) for (raw,) in db.execute("SELECT data FROM recent")]
        names = dict[int, str](db.execute("SELECT id, name FROM channel"))
        names.update((channel[0], channel[1]) for each in recent for channel in each.channels)
        # Publications of a forgotten channel are about to be deleted.
        for id_, first, last, raw in _blocks(db, recent):
            if (name := names.get(id_)) is not None:
                offsets = _changed(name, raw)
                ranges = [(first, last)] if offsets is None else _ranges(offsets)
                found += [
                    f"{name} {begin}" if begin == end else f"{name} {begin}-{end}"
                    for begin, end in ranges
                ]
        for id_, key, raw in _rows(db, recent):
            if (name := names.get(id_)) is not None and _changed(name, raw) != []:
                found.append(f"{name} row {key}")
    return found


def _blocks(db: Connection, recent: Sequence[Commit]) -> Iterator[tuple[int, int, int, bytes]]:
    yield from db.execute("SELECT channel, first, last, data FROM block")
    for commit in recent:
        for block in commit.blocks:
            yield *block[:3], bytes_of(block, commit.data)


def _rows(db: Connection, recent: Sequence[Commit]) -> Iterator[tuple[int, str, bytes]]:
    yield from db.execute("SELECT channel, key, data FROM row")
    for commit in recent:
        for row in commit.rows:
            yield *row[:2], bytes_of(row, commit.data)


def _changed(name: str, raw: bytes) -> Sequence[int] | None:
    """Return the offsets of changed publications; None where a length is wrong, and with it all
    that is behind it."""
    offsets: list[int] = []
    try:
        for _ in records(name, raw, offsets):
            pass
    except ValueError:
        return None
    return offsets


def _ranges(offsets: Sequence[int]) -> Sequence[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for offset in offsets:
        first = found.pop()[0] if found and found[-1][1] == offset - 1 else offset
        found.append((first, offset))
    return found
