"""Publications as they travel through Redis, in pub/sub and in the stream alike.

    epoch LF offset LF milliseconds LF envelope LF data

The envelope is empty or a JSON array: key, sender, connection that gets no echo (null where
there is none). Data comes last because it alone may hold line breaks. Written by library.lua.
"""

from dataclasses import dataclass

import msgspec

from hub.core.ports import PublishRequest
from hub.core.publication import MAX_OFFSET, Publication
from hub.errors import HubError
from hub.wire.payload import check_key, check_payload

_Envelope = tuple[str | None, str | None, str | None]
_ENVELOPE = msgspec.json.Decoder(_Envelope)
_EMPTY: _Envelope = (None, None, None)


@dataclass(frozen=True, slots=True)
class Message:
    """One number of a channel's sequence, and what it stands for."""

    epoch: str
    offset: int
    publication: Publication | None
    """None when it is no JSON, too large or otherwise not to be delivered."""
    size_bytes: int


def envelope(request: PublishRequest) -> bytes:
    """What a message says beside its data."""
    if request.key is None and request.sender is None and request.skip_connection is None:
        return b""
    return msgspec.json.encode((request.key, request.sender, request.skip_connection))


def decode(channel: str, raw: bytes, *, max_message_bytes: int) -> Message | None:
    """Read a message; None when not even its place in the sequence can be told."""
    parts = raw.split(b"\n", 4)
    if len(parts) != 5 or not parts[1].isdigit():
        return None
    offset = int(parts[1]) if len(parts[1]) <= 16 else 0
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
    return Message(epoch, offset, publication, len(raw))


def _publication(channel: str, offset: int, parts: list[bytes], limit: int) -> Publication:
    """Raise `HubError` or `ValueError` (msgspec's errors are some) for what cannot be one."""
    key, sender, skip = _ENVELOPE.decode(parts[3]) if parts[3] else _EMPTY
    if key is not None:
        check_key(key, "key")
    data = check_payload(parts[4], limit=limit)
    return Publication(channel, offset, data, _milliseconds(parts[2]), key, sender, skip)


def _milliseconds(digits: bytes) -> int:
    """Read a time; raise `ValueError` for what is none, or is no exact number in a browser."""
    if not digits.isdigit() or len(digits) > 16 or int(digits) > MAX_OFFSET:
        raise ValueError("no time")
    return int(digits)
