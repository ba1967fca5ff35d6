"""Looks through a whole history file for publications that a disk has changed.

SQLite's own check looks at its trees, and at no payload. The file is not in use meanwhile: this is
for the copy that `hub backup` has made.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from sqlite3 import Connection

from hub.brokers.sqlite.connection import connected
from hub.brokers.sqlite.faults import translating_content
from hub.brokers.sqlite.layout import records, unpacked

# Files of version 3 and before have none, and may lack some of the tables.
_CHECKSUMS_SINCE = 4

_Part = tuple[int, str, bytes]
"""A channel's number, what the bytes are, and the bytes: of a block, or of a row of a table."""


def damaged(path: str) -> Sequence[str]:
    """Return what is not as it was written, as texts: channels with offsets, or with keys of rows.

    Raises `FileError` where the file cannot be read.
    """
    found: list[str] = []
    with translating_content(path), closing(connected(path)) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version < _CHECKSUMS_SINCE:
            return found
        names = dict[int, str](db.execute("SELECT id, name FROM channel"))
        for (raw,) in db.execute("SELECT data FROM recent"):
            names.update((channel[0], channel[1]) for channel in unpacked(raw).channels)
        for id_, what, raw in _parts(db):
            # Publications of a forgotten channel are about to be deleted.
            if (name := names.get(id_)) is not None:
                found += [f"{name} {each}" for each in _damaged_in(name, what, raw)]
    return found


def _parts(db: Connection) -> Iterator[_Part]:
    for id_, first, last, raw in db.execute("SELECT channel, first, last, data FROM block"):
        yield id_, _range(first, last), raw
    for id_, key, raw in db.execute("SELECT channel, key, data FROM row"):
        yield id_, f"row {key}", raw
    for (packed,) in db.execute("SELECT data FROM recent"):
        commit = unpacked(packed)
        for id_, first, last, _, _, _, begins, length in commit.blocks:
            yield id_, _range(first, last), commit.data[begins - 1 : begins - 1 + length]
        for id_, key, _, _, begins, length in commit.rows:
            yield id_, f"row {key}", commit.data[begins - 1 : begins - 1 + length]


def _damaged_in(name: str, what: str, raw: bytes) -> Iterator[str]:
    offsets: list[int] = []
    try:
        for _ in records(name, raw, offsets):
            pass
    except ValueError:
        # Without a length that is right, nothing behind it is found either.
        yield what
        return
    if what.startswith("row"):
        yield from [what] if offsets else []
        return
    while offsets:
        first = last = offsets.pop(0)
        while offsets and offsets[0] == last + 1:
            last = offsets.pop(0)
        yield _range(first, last)


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
