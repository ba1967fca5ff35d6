"""What nodes ask each other about connections, as bytes. Pure.

MessagePack, because a command's bytes need not be text. A newer version may know more kinds
and fields; what this one cannot read it does not answer.
"""

from dataclasses import replace
from itertools import accumulate
from typing import Any, Literal

import msgspec

from hub import errors
from hub.core.listing import ConnectionQuery, Listed
from hub.core.options import MIB
from hub.core.peers import Scalar
from hub.core.polling import PollRequest
from hub.core.records import SessionRecord
from hub.errors import HubError, UnavailableError

# Of one node's part of a list of connections. Redis cuts a subscriber that is 8 MB behind for
# 60 s (client-output-buffer-limit pubsub), and a page asks every node at once.
MAX_LISTED_BYTES = MIB

_ERRORS = {
    each.code: each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, HubError)
}


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """One question to a node, mostly about the `connection` that it holds."""

    number: int
    asker: str
    """Tag of the node that waits for the answer."""
    what: Literal["check", "command", "connection", "disconnect", "poll", "list", "operate"]
    connection: str = ""
    secret: str = ""
    raw: bytes = b""
    code: int = 0
    reason: str = ""
    query: ConnectionQuery | None = None
    poll: PollRequest | None = None
    operation: str = ""
    arguments: dict[str, Scalar] = {}


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """`error` and `message` where there is none."""

    number: int
    raw: bytes = b""
    """The reply to a command, or the answer to a poll."""
    found: bool = False
    record: SessionRecord | None = None
    listed: Listed | None = None
    told: dict[str, Any] = {}
    error: str = ""
    message: str = ""

    def check(self) -> None:
        """Raise the error that the other node answered with."""
        if self.error:
            raise _ERRORS.get(self.error, UnavailableError)(self.message)


class Gone(msgspec.Struct, frozen=True, tag="gone"):
    """Nobody waits for the answer to this question any more."""

    number: int
    asker: str


Message = Ask | Answer | Gone
_DECODER: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    return msgspec.msgpack.encode(message)


def decode(raw: bytes) -> Message | None:
    """None for what cannot be read."""
    try:
        return _DECODER.decode(raw)
    except (ValueError, RecursionError):
        return None


def fitting(listed: Listed, max_bytes: int = MAX_LISTED_BYTES) -> Listed:
    """As many of its rows as may travel at once, one at least; the rest comes with later pages."""
    sizes = accumulate(len(msgspec.msgpack.encode(row)) for row in listed.rows)
    rows = listed.rows[: max(1, sum(size <= max_bytes for size in sizes))]
    return replace(listed, rows=rows, more=listed.more or len(rows) < len(listed.rows))
