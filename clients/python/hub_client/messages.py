"""What the application receives: frozen values, without any idea of a connection."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

# Marks "not parsed yet": None is a value that JSON can hold.
_UNPARSED: Final = object()


@dataclass(frozen=True, slots=True)
class Position:
    """A place in one channel's sequence: after `offset` (0 or more) of `epoch`."""

    epoch: str
    offset: int

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Read `epoch:offset`, split at the last colon; raise `ValueError` otherwise."""
        epoch, _, digits = text.rpartition(":")
        if not epoch or not (digits.isascii() and digits.isdigit()):
            raise ValueError(f"position {text[:80]!r} is not of the form epoch:offset")
        return cls(epoch, int(digits))

    @classmethod
    def of(cls, place: "Position | str") -> "Position":
        """Read it where it is text; raises as `parse`."""
        return cls.parse(place) if isinstance(place, str) else place

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"


Positions = Mapping[str, "Position | str"]
"""By channel."""


Moment = datetime | int | str
"""With a time zone, as milliseconds since 1970 UTC, or as ISO 8601."""


ManyChannels = list[str] | tuple[str, ...]
"""Several channels."""


Tags = Mapping[str, str | int | float | bool]
"""What filters look at."""


Filter = Mapping[str, Any]
"""A condition for each of some tags (clients/PROTOCOL.md, "Filters")."""


@dataclass(frozen=True, slots=True)
class Message:
    """One publication."""

    channel: str
    epoch: str
    offset: int | None
    """None for what came by plain Redis PUBLISH: outside the sequence."""
    raw_data: bytes
    """The payload's JSON, byte for byte as the publisher sent it."""
    key: str | None = None
    time_ms: int | None = None
    """When the broker took it: milliseconds since 1970 UTC."""
    sender: str | None = None
    """The token subject of the session that published it, set by the hub."""
    tags: Tags | None = None
    remove: bool = False
    """It takes the row of its key away."""
    end: bool = False
    """It is the last one of its channel."""
    state: bool = False
    """It is what `get_state` answered."""
    at: Position | None = None
    """Of a state: the position that it is as of."""
    joined: int = 0
    """Of so many replayed messages it is made: its data is theirs, one after the other."""
    parts: "tuple[Message, ...]" = field(default=(), repr=False, compare=False)
    """Of a joined one: those messages."""
    frame: bytes = field(default=b"", repr=False, compare=False)
    """The whole push as it came; empty for what `history` returned. Of a joined one, its data."""
    _parsed: Any = field(default=_UNPARSED, init=False, repr=False, compare=False)

    @property
    def data(self) -> Any:
        """The payload, parsed when first asked for; integers of any size stay exact."""
        if self._parsed is _UNPARSED:
            object.__setattr__(self, "_parsed", msgspec.json.decode(self.raw_data))
        return self._parsed

    @property
    def position(self) -> Position | None:
        """Where to resume after this message; None outside the sequence."""
        return self.at if self.offset is None else Position(self.epoch, self.offset)


@dataclass(frozen=True, slots=True)
class Gap:
    """Stands exactly where offsets `first` to `last` of `epoch` would have come.

    With reason `reset` there is no range: a new epoch began, `last` is the offset after
    which the stream continues and offsets remembered from before mean nothing any more.
    """

    channel: str
    epoch: str
    first: int
    last: int
    reason: str
    """`slow`, `conflated`, `broker`, `expired`, `invalid`, `reset`, or one yet to come."""
    unsequenced: int = 0
    """How many messages without an offset were dropped, where there were any."""
    frame: bytes = field(default=b"", repr=False, compare=False)

    @property
    def missing(self) -> int:
        """How many offsets are missing; 0 for a reset, where nobody can know."""
        return 0 if self.reason == "reset" or not self.last else self.last - self.first + 1

    @property
    def position(self) -> Position:
        """Where the stream continues."""
        return Position(self.epoch, self.last)


@dataclass(frozen=True, slots=True)
class Member:
    """Who is present: `id` is the token's subject, or the connection where there is none."""

    id: str
    connection: str
    subject: str | None = None
    data: Any = None
    """What it says of itself, where it does."""


@dataclass(frozen=True, slots=True)
class Presence:
    """A member came, went or says something else of itself.

    With change `presence_reset` some of that was lost: ask again.
    """

    channel: str
    change: str
    """`join`, `leave`, `update` or `presence_reset`."""
    member: Member | None = None
    frame: bytes = field(default=b"", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class State:
    """Rows of a keyed channel as of `position`; what follows it comes as messages.

    Where one `begins`, forget the rows that came so far.
    """

    channel: str
    position: Position
    rows: tuple[Message, ...]
    """The newest message of each key."""
    more: bool
    """Whether further rows as of the same position follow."""
    begins: bool
    """Whether the table begins anew with it."""
    dropped: int = 0
    """Rows that the hub let go of for want of room."""
    frame: bytes = field(default=b"", repr=False, compare=False)


Item = Message | Gap | Presence | State


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A stretch of one channel's history, in the order that was asked for."""

    channel: str
    position: Position
    """The newest offset given out."""
    oldest: int
    """The first offset that history still holds."""
    messages: tuple[Message, ...]
    next: Position | None = None
    """`since` of the page that goes on, with the rest as it was; None where nothing is left."""


@dataclass(frozen=True, slots=True)
class Published:
    """A publication that happened."""

    channel: str
    position: Position
    duplicate: bool = False
    """The idempotency key was seen before: this is the first answer again."""


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """What the client is doing, for a status line or a log."""

    name: str
    """`connecting`, `connected`, `waiting` (before the next attempt) or `closed`."""
    detail: str = ""
    transport: str = ""
    retry_in_seconds: float | None = None
    data: Any = None
    """With `connected`: what the application that the hub asks gives along with its yes."""
