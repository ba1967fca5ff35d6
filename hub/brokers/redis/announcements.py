"""Joins and leaves as they travel in a channel's pub/sub name, between its publications.

    presence LF join|leave LF member

The member is a JSON array: id, connection, subject. Written by presence.lua. No epoch is
`presence`, so nothing else looks like this.
"""

import msgspec

from hub.core.pushes import Join, Leave, Member

_MARK = b"presence\n"
_Fields = tuple[str, str, str | None]
_FIELDS = msgspec.json.Decoder(_Fields)


def encode_member(member: Member) -> bytes:
    return msgspec.json.encode((member.id, member.connection, member.subject))


def decode_member(raw: bytes) -> Member:
    """Raise `ValueError` for what is none (msgspec's errors are some)."""
    id_, connection, subject = _FIELDS.decode(raw)
    return Member(id_, connection, subject)


def is_announcement(raw: bytes) -> bool:
    return raw.startswith(_MARK)


def decode_announcement(channel: str, raw: bytes) -> Join | Leave | None:
    """None for what this version does not know."""
    change, _, member = raw.removeprefix(_MARK).partition(b"\n")
    try:
        if change == b"join":
            return Join(channel, decode_member(member))
        if change == b"leave":
            return Leave(channel, decode_member(member))
    except ValueError:
        return None
    return None
