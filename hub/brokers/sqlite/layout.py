"""The layout of the history file: its tables, the statements that read and write them, and blocks.

A commit is one row of `recent`: all that it brings, as it came. A row changes a few pages of the
file, and the tables of channels, blocks and rows of state would change two pages for each channel.
The writing thread moves recent commits into these tables later, many at a time
(`hub.brokers.sqlite.recent`).

Each write of a call is one statement, because the interpreter's lock is released, and has to be
taken again, once per step: a view takes all that is moved as JSON and one run of bytes, and its
trigger puts it into the tables. Times are milliseconds of the broker's own clock, which no wall
clock that jumps can move.

Publications lie in blocks, each a stretch of one channel. A row for each publication would cost a
row and an entry in two indexes each; a block of 64 costs as much as one. Within a block each
publication is

    offset SP milliseconds SP length of the envelope SP length of the data SP checksum
    LF envelope data

The checksum is the CRC-32 of envelope and data, begun with channel, offset and time. SQLite checks
no payload and no number, and a byte that a disk has changed must not be taken for published, or for
one of another channel. Publications of files of version 3 and before have none.

The envelope is empty or a JSON array: key, sender, connection that gets no echo, traceparent
(null where there is none), then tags as text and marks where there are any, then for how many
milliseconds history may hold it. Blocks that follow one another read as one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import msgspec
import orjson

from hub.core.options import KIB
from hub.core.publication import Publication

# "hubH": `file` and other programs know the format by it.
APPLICATION_ID = 0x68756248
VERSION = 4

# New in version 2: the newest publication of each key of a keyed channel.
ROWS = """
CREATE TABLE row (
  channel INTEGER NOT NULL, key TEXT NOT NULL, offset INTEGER NOT NULL, taken_ms INTEGER NOT NULL,
  data BLOB NOT NULL, PRIMARY KEY (channel, key)
);
"""

SCHEMA = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE channel (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, epoch TEXT NOT NULL,
  offset INTEGER NOT NULL, used_ms INTEGER NOT NULL
);
CREATE TABLE block (
  id INTEGER PRIMARY KEY, channel INTEGER NOT NULL, first INTEGER NOT NULL,
  last INTEGER NOT NULL, taken_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL,
  bytes INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE INDEX block_place ON block (channel, last);
CREATE INDEX block_expiry ON block (expires_ms);
CREATE TABLE ended (place INTEGER PRIMARY KEY, generation INTEGER NOT NULL);
INSERT INTO fact VALUES ('line', lower(hex(randomblob(8)))), ('secret', hex(randomblob(16))),
  ('commits', 0), ('clock_ms', 0), ('copied', 0);
"""

# New in version 3: commits that are not in the other tables yet, and idempotency keys, which memory
# has all of: they are read at a start only, so a row of `remembered` has many, and no index.
RECENT = """
CREATE TABLE recent (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE remembered (id INTEGER PRIMARY KEY, expires_ms INTEGER NOT NULL, keys BLOB NOT NULL);
"""

_KEEP_KEYS = """
INSERT INTO remembered (expires_ms, keys)
  SELECT max(expires_ms),
    CAST(json_group_array(json_array(publisher, scope, content, expires_ms, epoch, offset)) AS BLOB)
  FROM (SELECT *, (row_number() OVER (ORDER BY id) - 1) / 1000 AS part FROM made ORDER BY id)
  GROUP BY part ORDER BY part;
DROP TABLE made;
"""

# By the version of the file: what makes it one of the next version. New in version 4: checksums of
# publications, in the bytes of those that are written from then on.
UPGRADES = {1: ROWS, 2: f"{RECENT} {_KEEP_KEYS}", 3: ""}

INTAKE = """
CREATE TEMP VIEW intake AS SELECT '' AS what, x'' AS data, 0 AS expires_ms, x'' AS keys;
CREATE TEMP TRIGGER take_in INSTEAD OF INSERT ON intake BEGIN
  DELETE FROM recent WHERE id <= json_extract(NEW.what, '$.commits');
  DELETE FROM channel WHERE id IN (SELECT value FROM json_each(NEW.what, '$.gone'));
  DELETE FROM row WHERE channel IN (SELECT value FROM json_each(NEW.what, '$.gone'));
  INSERT OR REPLACE INTO ended
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]')
    FROM json_each(NEW.what, '$.ended');
  INSERT INTO channel (id, name, epoch, offset, used_ms)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
      json_extract(value, '$[3]'), json_extract(value, '$[4]')
    FROM json_each(NEW.what, '$.channels') WHERE true
    ON CONFLICT (id) DO UPDATE SET offset = excluded.offset, used_ms = excluded.used_ms;
  INSERT INTO block (channel, first, last, taken_ms, expires_ms, bytes, data)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
      json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'),
      substr(NEW.data, json_extract(value, '$[6]'), json_extract(value, '$[7]'))
    FROM json_each(NEW.what, '$.blocks');
  DELETE FROM row WHERE (channel, key) IN (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]')
    FROM json_each(NEW.what, '$.removed'));
  INSERT OR REPLACE INTO row (channel, key, offset, taken_ms, data)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
      json_extract(value, '$[3]'),
      substr(NEW.data, json_extract(value, '$[4]'), json_extract(value, '$[5]'))
    FROM json_each(NEW.what, '$.rows');
  INSERT INTO remembered (expires_ms, keys)
    SELECT NEW.expires_ms, NEW.keys WHERE NEW.expires_ms IS NOT NULL;
  UPDATE fact SET value = json_extract(NEW.what, '$.commits') WHERE name = 'commits';
  UPDATE fact SET value = json_extract(NEW.what, '$.clock_ms') WHERE name = 'clock_ms';
END;
"""

# A page of one channel: the first offset held, and the blocks that fit, one after another. Sizes
# are added up before any data is touched.
PAGE = """
WITH near AS (
  SELECT id, last, bytes FROM block
  WHERE channel = :channel AND last > :after AND taken_ms >= :fresh_ms ORDER BY last LIMIT :limit
), fits AS (SELECT id, last, sum(bytes) OVER (ORDER BY last) - bytes AS before FROM near)
SELECT
  (SELECT first FROM block
    WHERE channel = :channel AND taken_ms >= :fresh_ms ORDER BY last LIMIT 1),
  (SELECT CAST(group_concat(CAST(data AS TEXT), '') AS BLOB) FROM (
    SELECT data FROM fits JOIN block USING (id) WHERE before < :max_bytes ORDER BY fits.last))
"""

# Blocks to be deleted, and how many there are before their bytes are bounded.
VICTIMS = """
WITH near AS (SELECT block.id, channel, last, bytes FROM {which} LIMIT {blocks}),
fits AS (SELECT id, channel, last, bytes,
    sum(bytes) OVER (ROWS UNBOUNDED PRECEDING) - bytes AS before FROM near)
SELECT json_group_array(json_array(id, channel, last, bytes)), (SELECT count(*) FROM near)
FROM fits WHERE before < {bytes}
"""

# Those of each channel that end before an offset; both as JSON.
OF_CHANNELS = """
json_each(?) AS wanted CROSS JOIN block ON channel = json_extract(wanted.value, '$[0]')
  AND last < json_extract(wanted.value, '$[1]')
"""

# The head is not before the newest block, whatever a disk has made of it: no offset comes again.
LOAD_CHANNELS = """
SELECT id, name, epoch,
  max(offset, coalesce((SELECT max(last) FROM block WHERE channel = channel.id), 0)), used_ms,
  coalesce(
  (SELECT first FROM block WHERE channel = channel.id ORDER BY last LIMIT 1), offset + 1)
FROM channel ORDER BY used_ms, id
"""

BEGIN_LINE = """
UPDATE fact SET value = lower(hex(randomblob(8))) WHERE name = 'line';
UPDATE fact SET value = hex(randomblob(16)) WHERE name = 'secret';
UPDATE fact SET value = 0 WHERE name = 'copied';
UPDATE channel SET epoch = lower(hex(randomblob(6)));
"""


@dataclass(frozen=True, slots=True)
class StoredChannel:
    """A channel as its last commit left it."""

    id: int
    name: str
    epoch: str
    offset: int
    used_ms: int
    oldest: int
    """The first offset held; `offset + 1` where none is."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The content of a file beside publications and idempotency keys."""

    line: str
    """The name of one history: a copy that is opened begins another line."""
    secret: bytes
    commits: int
    clock_ms: int
    channels: Sequence[StoredChannel]
    ended: dict[int, int]
    next_id: int


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An answer that is remembered under an idempotency key."""

    id: int
    publisher: str
    scope: str
    content: int
    expires_ms: int
    epoch: str
    offset: int


@dataclass(frozen=True, slots=True)
class StoredRow:
    """The newest publication of a key, as `hub.brokers.sqlite.layout` writes it."""

    channel: int
    key: str
    taken_ms: int
    data: bytes


ChannelRow = tuple[int, str, str, int, int, int]
"""The fields of a `StoredChannel`."""

Block = tuple[int, int, int, int, int, int, int, int]
"""Channel, first and last offset, when taken and when it expires, bytes of data; and where it lies
in a commit's `data`: place, and length."""

Placed = tuple[int, str, int, int, int, int]
"""A row of state: channel, key, offset, when taken; and where it lies, as above."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Rows that are written together, or not at all, in the order of the trigger's columns.

    Places in `data` begin with 1.
    """

    commits: int
    """The number of commits that the file has with this one."""
    clock_ms: int
    channels: Sequence[tuple[int, str, str, int, int]] = ()
    blocks: Sequence[Block] = ()
    made: Sequence[tuple[str, str, int, int, str, int]] = ()
    rows: Sequence[Placed] = ()
    removed: Sequence[tuple[int, str]] = ()
    gone: Sequence[int] = ()
    ended: Sequence[tuple[int, int]] = ()
    data: bytes = b""


Made = tuple[str, str, int, int, str, int]
_COMMIT = msgspec.json.Decoder(
    tuple[
        int, int, list[tuple[int, str, str, int, int]], list[Block], list[Made], list[Placed],
        list[tuple[int, str]], list[int], list[tuple[int, int]],
    ]
)  # fmt: skip


def packed(commit: Commit) -> bytes:
    """Return a commit as a row of `recent` has it: a line of JSON, and the bytes."""
    line = orjson.dumps(
        (
            commit.commits, commit.clock_ms, commit.channels, commit.blocks, commit.made,
            commit.rows, commit.removed, commit.gone, commit.ended,
        )
    )  # fmt: skip
    return b"%b\n%b" % (line, commit.data)


def unpacked(raw: bytes) -> Commit:
    """Return the commit of a row of `recent`; raise `ValueError` for anything else."""
    if not isinstance(raw, bytes):
        raise ValueError("a commit is no bytes")  # noqa: TRY004 - the file's fault, not the caller's
    line, end, data = raw.partition(b"\n")
    if not end:
        raise ValueError("a commit is cut off")
    commit = Commit(*_COMMIT.decode(line), data)
    placed = [each[6:] for each in commit.blocks] + [each[4:] for each in commit.rows]
    for begins, length in placed:
        if not 1 <= begins <= begins + length <= len(data) + 1:
            raise ValueError("a commit has no such bytes")
    return commit


# A page of history has as many (`hub.core.recovery.replay`), so that little is read in vain.
MAX_BLOCK_PUBLICATIONS = 64
MAX_BLOCK_BYTES = 32 * KIB


class _Envelope(msgspec.Struct, array_like=True, frozen=True):
    key: str | None = None
    sender: str | None = None
    skip: str | None = None
    trace: str | None = None
    tags: str | None = None
    marks: int = 0
    keep_ms: int | None = None


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_EMPTY = _Envelope()


def record(publication: Publication) -> bytes:
    """Return the bytes of a publication in a block."""
    data = publication.data
    envelope = b""
    if (
        publication.key is not None
        or publication.sender is not None
        or publication.skip_connection is not None
        or publication.trace is not None
        or publication.tags is not None
        or publication.marks
        or publication.keep_ms is not None
    ):
        fields = (
            publication.key,
            publication.sender,
            publication.skip_connection,
            publication.trace,
        )
        more: tuple[str | int | None, ...] = ()
        if publication.tags is not None or publication.marks or publication.keep_ms is not None:
            tags = publication.tags
            more = (None if tags is None else tags.decode(), publication.marks)
        if publication.keep_ms is not None:
            more = (*more, publication.keep_ms)
        envelope = msgspec.json.encode((*fields, *more))
    offset, time_ms = publication.offset, publication.time_ms
    checksum = _checksum(_of_channel(publication.channel), offset, time_ms, envelope, data)
    return b"%d %d %d %d %d\n%b%b" % (
        offset, time_ms, len(envelope), len(data), checksum, envelope, data,
    )  # fmt: skip


@lru_cache(maxsize=4096)
def _of_channel(name: str) -> int:
    return crc32(name.encode())


def _checksum(of_channel: int, offset: int, time_ms: int, envelope: bytes, data: bytes) -> int:
    begun = (of_channel ^ offset ^ time_ms) & 0xFFFFFFFF
    return crc32(data, crc32(envelope, begun) if envelope else begun)


def records(channel: str, raw: bytes, damaged: list[int] | None = None) -> Iterator[Publication]:
    """Yield the publications of consecutive blocks; raise `ValueError` for other bytes.

    With `damaged`, offsets of publications that are not as they were written go there instead.
    """
    at = before = 0
    of_channel = _of_channel(channel)
    while at < len(raw):
        line = raw.index(b"\n", at)
        offset, time_ms, enveloped, length, *checksum = map(int, raw[at:line].split(b" "))
        begins = line + 1 + enveloped
        at = begins + length
        if not line < begins <= at <= len(raw):
            raise ValueError("a publication is cut off")
        envelope, data = raw[line + 1 : begins], raw[begins:at]
        if checksum and checksum != [_checksum(of_channel, offset, time_ms, envelope, data)]:
            if damaged is None:
                raise ValueError(f"publication {offset} of {channel} is not as it was written")
            damaged.append(offset)
            continue
        if offset <= before:
            raise ValueError(f"offset {offset} comes after {before}")
        before = offset
        read = _ENVELOPE.decode(envelope) if enveloped else _EMPTY
        yield Publication(
            channel,
            offset,
            data,
            time_ms,
            read.key,
            read.sender,
            read.skip,
            read.trace,
            None if read.tags is None else read.tags.encode(),
            read.marks,
            read.keep_ms,
        )


def cut(publications: Sequence[Publication]) -> Iterator[Sequence[Publication]]:
    """Yield stretches that make one block each."""
    begins, size = 0, 0
    for place, publication in enumerate(publications):
        length = publication.size_bytes
        full = size + length > MAX_BLOCK_BYTES or place - begins >= MAX_BLOCK_PUBLICATIONS
        if full and place > begins:
            yield publications[begins:place]
            begins, size = place, 0
        size += length
    yield publications[begins:]
