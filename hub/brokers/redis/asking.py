"""What nodes ask each other about connections, as bytes. Pure.

MessagePack, because a command's bytes need not be text. A newer version may know more kinds
and fields; what this one cannot read it does not answer.
"""

from typing import Literal

import msgspec

from hub import errors
from hub.core.records import SessionRecord
from hub.errors import HubError, UnavailableError

_ERRORS = {
    each.code: each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, HubError)
}


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """One question to the node that holds `connection`."""

    number: int
    asker: str
    """Tag of the node that waits for the answer."""
    what: Literal["command", "connection", "disconnect"]
    connection: str
    secret: str = ""
    raw: bytes = b""
    code: int = 0
    reason: str = ""


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """`error` and `message` where there is none."""

    number: int
    raw: bytes = b""
    """The reply to a command."""
    found: bool = False
    record: SessionRecord | None = None
    error: str = ""
    message: str = ""

    def check(self) -> None:
        """Raise the error that the other node answered with."""
        if self.error:
            raise _ERRORS.get(self.error, UnavailableError)(self.message)


_DECODER: msgspec.msgpack.Decoder[Ask | Answer] = msgspec.msgpack.Decoder(Ask | Answer)


def encode(message: Ask | Answer) -> bytes:
    return msgspec.msgpack.encode(message)


def decode(raw: bytes) -> Ask | Answer | None:
    """None for what cannot be read."""
    try:
        return _DECODER.decode(raw)
    except (ValueError, RecursionError):
        return None
