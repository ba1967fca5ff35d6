"""Messages in a channel's pub/sub name and in its stream, as bytes and as values.

A publication is the same in both, written by library.lua:

    epoch LF offset LF milliseconds LF envelope LF data

The envelope is empty or a JSON array: key, sender, connection that gets no echo (null where
there is none), then tags as text and marks where there are any, and where history does not
hold the publication a 0 and the marks once more: library.lua reads the last field. Data comes
last because it alone may hold line breaks.

Between publications the pub/sub name carries announcements, which are kept nowhere:

    presence LF join|leave|update LF member
    presence LF trace LF epoch LF offset LF traceparent

The member is a JSON array: id, connection, subject, and where it says something of itself, that as
text of JSON and when it said so; announced by presence.lua. A trace comes right
before the publication that it is about, which is sampled; written by library.lua. No epoch is
named `presence`, so no publication looks like an announcement. A version that does not know the
second word passes over the message.
"""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec
from msgspec import structs

from hub.brokers.tracker import SequencedMessage
from hub.core.fanout.presence import MAX_DATA_BYTES
from hub.core.ports import PublishRequest
from hub.core.publication import ENDS, MAX_OFFSET, MAX_OFFSET_DIGITS, REMOVES, Publication
from hub.core.pushes import Change, Join, Leave, Member, Update
from hub.errors import HubError
from hub.wire.filters import check_tags
from hub.wire.payload import check_key, check_payload


class _Envelope(msgspec.Struct, array_like=True, frozen=True):
    key: str | None = None
    sender: str | None = None
    skip: str | None = None
    tags: str | None = None
    marks: int = 0
    keep_ms: int | None = None


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_EMPTY = _Envelope()
_MARKS = REMOVES | ENDS
_Read = TypeVar("_Read")


def envelope(request: PublishRequest) -> bytes:
    """Return the envelope of a message: the fields beside its data."""
    said = (request.key, request.sender, request.skip_connection)
    tags = None if request.tags is None else request.tags.decode()
    if request.keep_ms == 0:
        return msgspec.json.encode((*said, tags, request.marks, 0, request.marks))
    if request.tags is not None or request.marks:
        return msgspec.json.encode((*said, tags, request.marks))
    return b"" if said == (None, None, None) else msgspec.json.encode(said)


def decode(channel: str, raw: bytes, *, max_message_bytes: int) -> SequencedMessage | None:
    """Read a message; return None where not even its offset can be read."""
    parts = raw.split(b"\n", 4)
    if len(parts) != 5 or not parts[1].isdigit():
        return None
    offset = int(parts[1]) if len(parts[1]) <= MAX_OFFSET_DIGITS else 0
    if not 0 < offset <= MAX_OFFSET:
        return None
    try:
        epoch = parts[0].decode("ascii")
    except UnicodeDecodeError:
        return None
    try:
        publication = _publication(channel, offset, parts, max_message_bytes)
    except (HubError, ValueError):
        publication = None
    return SequencedMessage(epoch, offset, publication, len(raw))


def _publication(channel: str, offset: int, parts: list[bytes], limit: int) -> Publication:
    """Raise `HubError` or `ValueError` (msgspec's errors are some) for bytes that are no
    publication."""
    said = _read(_ENVELOPE, parts[3]) if parts[3] else _EMPTY
    if said.key is not None:
        check_key(said.key, "key")
    tags = None if said.tags is None else check_tags(said.tags.encode())
    data = check_payload(parts[4], limit=limit)
    time_ms, marks = _milliseconds(parts[2]), said.marks & _MARKS
    keep_ms = 0 if said.keep_ms == 0 else None
    return Publication(
        channel, offset, data, time_ms, said.key, said.sender, said.skip, None, tags, marks, keep_ms
    )


def _read(decoder: msgspec.json.Decoder[_Read], raw: bytes) -> _Read:
    """Raise `ValueError` also for brackets within more brackets than the library follows."""
    try:
        return decoder.decode(raw)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _milliseconds(digits: bytes) -> int:
    """Read a time; raise `ValueError` for other text, or a number that browsers do not hold."""
    if not digits.isdigit() or len(digits) > MAX_OFFSET_DIGITS or int(digits) > MAX_OFFSET:
        raise ValueError("no time")
    return int(digits)


_MARK = b"presence\n"
_FIELDS = msgspec.json.Decoder(list[Any])


@dataclass(frozen=True, slots=True)
class Traced:
    """The trace of the next publication."""

    channel: str
    epoch: str
    offset: int
    trace: str
    """Its W3C `traceparent`, as it came."""

    def on(self, message: SequencedMessage) -> SequencedMessage:
        """Return `message` with the trace where it is the one meant, else as it is."""
        publication = message.publication
        here = (message.epoch, message.offset) == (self.epoch, self.offset)
        if publication is None or publication.channel != self.channel or not here:
            return message
        return replace(message, publication=structs.replace(publication, trace=self.trace))


def encode_member(member: Member) -> bytes:
    who = (member.id, member.connection, member.subject)
    if member.data is None:
        return msgspec.json.encode(who)
    return msgspec.json.encode((*who, member.data.decode(), member.said_ms))


def decode_member(raw: bytes) -> Member:
    """Read a member; raise `ValueError` for other bytes (msgspec's errors are some)."""
    match _read(_FIELDS, raw):
        case [str(id_), str(connection), str() | None as subject] | [
            str(id_),
            str(connection),
            str() | None as subject,
            None,
            *_,
        ]:
            return Member(id_, connection, subject)
        # A later version may send more fields.
        case [str(id_), str(connection), str() | None as subject, str(data), int(said), *_]:
            try:
                said_of_itself = check_payload(data.encode(), limit=MAX_DATA_BYTES)
            except HubError as error:
                raise ValueError(error.message) from None
            return Member(id_, connection, subject, said_of_itself, said)
    raise ValueError("no member")


def is_announcement(raw: bytes) -> bool:
    return raw.startswith(_MARK)


def decode_announcement(channel: str, raw: bytes) -> Change | Traced | None:
    """Return the announcement; None for one that this version does not know."""
    what, _, rest = raw.removeprefix(_MARK).partition(b"\n")
    try:
        if what == b"join":
            return Join(channel, decode_member(rest))
        if what == b"leave":
            return Leave(channel, decode_member(rest))
        if what == b"update":
            return Update(channel, decode_member(rest))
        if what == b"trace":
            epoch, offset, trace = rest.decode("ascii").split("\n")
            return Traced(channel, epoch, int(offset), trace)
    except ValueError:
        return None
    return None
