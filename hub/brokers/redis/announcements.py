"""What travels in a channel's pub/sub name between its publications.

    presence LF join|leave LF member
    presence LF trace LF epoch LF offset LF traceparent

The member is a JSON array: id, connection, subject. Written by presence.lua. A trace comes right
before the publication that it is about, which is sampled; written by library.lua. No epoch is
`presence`, so nothing else looks like this, and versions that do not know a word after it pass
over it.
"""

from dataclasses import dataclass, replace

import msgspec

from hub.brokers.redis.messages import Message
from hub.core.pushes import Join, Leave, Member

_MARK = b"presence\n"
_Fields = tuple[str, str, str | None]
_FIELDS = msgspec.json.Decoder(_Fields)


@dataclass(frozen=True, slots=True)
class Traced:
    """A publication to come is traced."""

    channel: str
    epoch: str
    offset: int
    trace: str
    """Its W3C `traceparent`, as it came."""

    def on(self, message: Message) -> Message:
        """`message` with the trace where it is the one meant, else as it is."""
        publication = message.publication
        here = (message.epoch, message.offset) == (self.epoch, self.offset)
        if publication is None or publication.channel != self.channel or not here:
            return message
        return replace(message, publication=replace(publication, trace=self.trace))


def encode_member(member: Member) -> bytes:
    return msgspec.json.encode((member.id, member.connection, member.subject))


def decode_member(raw: bytes) -> Member:
    """Raise `ValueError` for what is none (msgspec's errors are some)."""
    id_, connection, subject = _FIELDS.decode(raw)
    return Member(id_, connection, subject)


def is_announcement(raw: bytes) -> bool:
    return raw.startswith(_MARK)


def decode_announcement(channel: str, raw: bytes) -> Join | Leave | Traced | None:
    """None for what this version does not know."""
    what, _, rest = raw.removeprefix(_MARK).partition(b"\n")
    try:
        if what == b"join":
            return Join(channel, decode_member(rest))
        if what == b"leave":
            return Leave(channel, decode_member(rest))
        if what == b"trace":
            epoch, offset, trace = rest.decode("ascii").split("\n")
            return Traced(channel, epoch, int(offset), trace)
    except ValueError:
        return None
    return None
