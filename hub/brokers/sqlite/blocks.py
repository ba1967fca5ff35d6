"""How publications lie in the file: in blocks, each a stretch of one channel from one commit.

A row for each publication would cost a row and an entry in two indexes each; a block of 64 costs
as much as one. Within a block each publication is

    offset SP milliseconds SP length of the envelope SP length of the data LF envelope data

The envelope is empty or a JSON array: key, sender, connection that gets no echo, traceparent
(null where there is none), then tags as text and marks where there are any, then for how many
milliseconds it may be held. Blocks that follow one another read as one.
"""

from collections.abc import Iterator, Sequence

import msgspec

from hub.core.options import KIB
from hub.core.publication import Publication

# A page of history has as many (`hub.core.recovery.replay`), so that it reads little for nothing.
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
    """A publication as it lies in a block."""
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
        said = (publication.key, publication.sender, publication.skip_connection, publication.trace)
        more: tuple[str | int | None, ...] = ()
        if publication.tags is not None or publication.marks or publication.keep_ms is not None:
            tags = publication.tags
            more = (None if tags is None else tags.decode(), publication.marks)
        if publication.keep_ms is not None:
            more = (*more, publication.keep_ms)
        envelope = msgspec.json.encode((*said, *more))
    return b"%d %d %d %d\n%b%b" % (
        publication.offset, publication.time_ms, len(envelope), len(data), envelope, data,
    )  # fmt: skip


def records(channel: str, raw: bytes) -> Iterator[Publication]:
    """The publications of blocks that follow one another; raise `ValueError` for other bytes."""
    at = 0
    while at < len(raw):
        line = raw.index(b"\n", at)
        offset, time_ms, enveloped, length = map(int, raw[at:line].split(b" "))
        begins = line + 1 + enveloped
        at = begins + length
        if at > len(raw):
            raise ValueError("a publication is cut off")
        said = _ENVELOPE.decode(raw[line + 1 : begins]) if enveloped else _EMPTY
        yield Publication(
            channel,
            offset,
            raw[begins:at],
            time_ms,
            said.key,
            said.sender,
            said.skip,
            said.trace,
            None if said.tags is None else said.tags.encode(),
            said.marks,
            said.keep_ms,
        )


def cut(publications: Sequence[Publication]) -> Iterator[Sequence[Publication]]:
    """Stretches that make one block each."""
    begins, size = 0, 0
    for place, publication in enumerate(publications):
        length = len(publication.data)
        full = size + length > MAX_BLOCK_BYTES or place - begins >= MAX_BLOCK_PUBLICATIONS
        if full and place > begins:
            yield publications[begins:place]
            begins, size = place, 0
        size += length
    yield publications[begins:]
