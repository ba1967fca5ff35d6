"""The life of a connection as a table.

    state             ends with                         deadline                   bytes that come
    AWAITING_HEAD     a whole request head              handshake_timeout_seconds  parsed
    READING_BODY      the body's last byte              body_timeout_seconds       parsed
    ANSWERING         the handler's answer              the route's own            held
    WRITING           the peer takes the answer         write_timeout_seconds      held
    BETWEEN           the first byte of a request       keep_alive_seconds         parsed
    APPLICATION       the application's answer          body_timeout_seconds       parsed
    DISCARDING        the peer's end                    2 s                        thrown away
    STREAMING         the session's end                 the session's heartbeats   the stream's
    CLOSING           everything is written             write_timeout_seconds      thrown away

A deadline runs from when its state began. A trickle of bytes does not put it off. That of
APPLICATION counts while the application waits for more of a body, and anew with each part of it;
its answer has no deadline. STREAMING has no row below: the stream's own protocol has taken the
connection over for good.
"""

from dataclasses import dataclass
from enum import Enum, auto


class HttpState(Enum):
    # States are looked up with each read; the hash of an enumeration is one of its name, in Python.
    __hash__ = object.__hash__
    AWAITING_HEAD = auto()
    READING_BODY = auto()
    ANSWERING = auto()
    WRITING = auto()
    BETWEEN = auto()
    APPLICATION = auto()
    DISCARDING = auto()
    STREAMING = auto()
    CLOSING = auto()


class Incoming(Enum):
    """The treatment of bytes that come."""

    LOOK = auto()
    """Refuse a peer by its first bytes, where that needs no parser."""
    PARSE = auto()
    HOLD = auto()
    DROP = auto()


class Late(Enum):
    """The measure when a state takes too long."""

    REFUSE = auto()
    """Answer 408 and close."""
    GIVE_UP = auto()
    """Cancel the handler, answer 503 and close."""
    CLOSE = auto()
    ABORT = auto()
    """The peer does not take the bytes that are written: end without a word."""


@dataclass(frozen=True, slots=True)
class StateRules:
    """The rules of one state."""

    incoming: Incoming
    late: Late


ROWS = {
    HttpState.AWAITING_HEAD: StateRules(Incoming.PARSE, Late.REFUSE),
    HttpState.READING_BODY: StateRules(Incoming.PARSE, Late.REFUSE),
    HttpState.ANSWERING: StateRules(Incoming.HOLD, Late.GIVE_UP),
    HttpState.WRITING: StateRules(Incoming.HOLD, Late.ABORT),
    HttpState.BETWEEN: StateRules(Incoming.PARSE, Late.CLOSE),
    HttpState.APPLICATION: StateRules(Incoming.PARSE, Late.ABORT),
    HttpState.DISCARDING: StateRules(Incoming.DROP, Late.CLOSE),
    HttpState.CLOSING: StateRules(Incoming.DROP, Late.ABORT),
}


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of one connection, in bytes and seconds."""

    max_head_bytes: int = 16 * 1024
    """Request line and header fields together."""
    handshake_timeout_seconds: float = 10
    """Counted from the connection, or from the first byte of a request, to its whole head."""
    body_timeout_seconds: float = 30
    """Counted from the end of the head to the last byte of the body."""
    write_timeout_seconds: float = 30
    """A peer that takes less than `MIN_TAKEN_BYTES` of an answer in this time is cut."""
    keep_alive_seconds: float = 75
    """Between two requests. Above the idle time of common proxies, which must end it first:
    60 s in nginx, HAProxy and the load balancers of the large clouds."""


# A peer that is still sending a body when the answer is written loses the answer to a reset
# unless the rest is read for a while (RFC 9112 section 9.6).
# A client that sends all of a body before it reads gets its 413 up to this size, above
# `HUB_MAX_BODY_BYTES` by default; more is not read until the deadline. Guess, not measured.
DISCARD_BYTES = 16 * 1024 * 1024
DISCARD_SECONDS = 2.0
# Held behind a request that is being answered; more stops the reading.
HELD_BYTES = 64 * 1024
# Parsed at a time: bounds the objects that requests behind one that waits become.
PIECE_BYTES = 4 * 1024
# Guess, not measured: 0.5 KB/s, below any link on which an answer of 1 MiB makes sense.
MIN_TAKEN_BYTES = 16 * 1024
