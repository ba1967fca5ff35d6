"""Positions and publications, which make up a channel's sequence, and filters of publications."""

import re
import string
from functools import lru_cache
from typing import Protocol

from hub.core.values import Struct
from hub.errors import BadRequestError

# clients/PROTOCOL.md, "Channels and positions".
MAX_CHANNEL_LENGTH = 200
_CHANNEL = re.compile(rf"[A-Za-z0-9_.:@~+-]{{1,{MAX_CHANNEL_LENGTH}}}")
_CHANNEL_ALPHABET = string.ascii_letters + string.digits + "_.:@~+-"
_EPOCH = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Offsets are JSON numbers read by browsers, exact up to ECMA-262's Number.MAX_SAFE_INTEGER.
MAX_OFFSET = 2**53 - 1
MAX_OFFSET_DIGITS = len(str(MAX_OFFSET))
"""Python takes its time to read a number of thousands of digits."""


_PATTERN_HINT = "; a pattern is subscribed to as pattern, not as channel"


def check_channel(name: object) -> str:
    """Return `name` when it is a channel name; raise `BadRequestError` with the allowed form
    otherwise."""
    if not isinstance(name, str):
        raise BadRequestError(f"channel must be a string, not {type(name).__name__}")
    # A longer text must not stay in the cache: a peer may send thousands, each of a whole command.
    if len(name) > MAX_CHANNEL_LENGTH or not _is_channel(name):
        shown = name if len(name) <= 60 else f"{name[:60]}... ({len(name)} characters)"
        odd = odd_character(name, _CHANNEL_ALPHABET)
        raise BadRequestError(
            f"channel {shown!r} is not allowed: {f'{odd}, allowed are ' if odd else ''}"
            f"1 to {MAX_CHANNEL_LENGTH} characters of A-Z a-z 0-9 _ . : @ ~ + -"
            f"{_PATTERN_HINT if '*' in name else ''}"
        )
    return name


@lru_cache(maxsize=4096)
def _is_channel(name: str) -> bool:
    """Return whether `name` is a channel name. The cache costs a fifth of the expression."""
    return _CHANNEL.fullmatch(name) is not None


class Position(Struct, frozen=True, gc=False):
    """A place in one channel's sequence: after `offset` (0 or more) of `epoch`."""

    epoch: str
    offset: int

    @classmethod
    def parse(cls, text: object) -> "Position":
        """Read `epoch:offset`, split at the last colon; raise `BadRequestError` otherwise."""
        if isinstance(text, str):
            epoch, _, digits = text.rpartition(":")
            plain = digits.isascii() and digits.isdigit() and len(digits) <= MAX_OFFSET_DIGITS
            if plain and _EPOCH.fullmatch(epoch) and int(digits) <= MAX_OFFSET:
                return cls(epoch, int(digits))
        raise BadRequestError(f"position {str(text)[:80]!r} is not of the form epoch:offset")

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"


BEGINNING = Position("", 0)
"""Before the first publication of the channel's present epoch, whichever that is.

No peer can send this position.
"""


REMOVES = 1
"""Mark of a publication that takes the row of its key away, in a channel that keeps state."""
ENDS = 2
"""Mark of the last publication of a channel."""


class Publication(Struct, frozen=True, gc=False, array_like=True):
    """A published message, numbered 1, 2, 3, ... within its channel's epoch.

    `array_like`: where it is written in one piece, it is a list of its fields.
    """

    channel: str
    offset: int
    data: bytes
    """JSON as the publisher sent it, validated, on one line."""
    time_ms: int
    """Time at which the broker took it, in milliseconds since 1970 UTC."""
    key: str | None = None
    sender: str | None = None
    """The token subject of the publishing session; `from` on the wire."""
    skip_connection: str | None = None
    """The publishing connection, where it asked not to get its message back (`"echo": false`)."""
    trace: str | None = None
    """W3C `traceparent` of the publish request; None for nearly all, which are not sampled."""
    tags: bytes | None = None
    """A JSON object of scalars by name, on one line. Filters look at it."""
    marks: int = 0
    """The sum of `REMOVES` and `ENDS` where they apply."""
    keep_ms: int | None = None
    """Time in history, where that is shorter than the channel's; 0 for none at all."""

    @property
    def size_bytes(self) -> int:
        """The bytes of its data and tags, by which pages and queues are bounded."""
        return len(self.data) if self.tags is None else len(self.data) + len(self.tags)


def odd_character(name: str, allowed: str) -> str:
    """Return a clause that names the first character of `name` that is not in `allowed`.

    It is empty where all characters are allowed, so that only the length can be wrong.
    Example: `'é' (U+00E9) is its character 4`.
    """
    for place, character in enumerate(name, 1):
        if character not in allowed:
            return f"{character!r} (U+{ord(character):04X}) is its character {place}"
    return ""


class Filter(Protocol):
    """A subscription's condition on the tags of publications.

    A filter is frozen, and filters with the same condition are equal, so that all subscriptions
    with one condition share their frames. `hub.wire.filters` implements it. A batch asks a filter
    once for each publication and dialect (`hub.core.fanout.batch.Batch`), a replay once for each
    publication that it reads (`hub.core.recovery.replay`). No broker knows filters: a publication
    that is left out moves the position.
    """

    @property
    def text(self) -> bytes:
        """The condition as JSON."""
        ...

    @property
    def of_rows(self) -> bool:
        """Whether the peer keeps rows, and so gets a removal for a publication that it left out."""
        ...

    def for_rows(self) -> "Filter":
        """Return the same condition for a peer that keeps rows."""
        ...

    def matches(self, tags: bytes | None) -> bool:
        """Return whether a publication with these tags (`Publication.tags`) matches."""
        ...

    def __hash__(self) -> int: ...

    def __eq__(self, other: object, /) -> bool: ...
