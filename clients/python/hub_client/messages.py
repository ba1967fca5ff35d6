"""The values that an application receives: frozen, and independent of any connection."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

# Marks "not parsed yet": None is a value that JSON can hold.
_UNPARSED: Final = object()


@dataclass(frozen=True, slots=True)
class Position:
    """A place in one channel's sequence, behind `offset` (0 or more) of `epoch`."""

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
        """Return `value`, parsed where it is text; raises as `parse`."""
        return cls.parse(place) if isinstance(place, str) else place

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"


Positions = Mapping[str, "Position | str"]
"""Positions by channel."""


Moment = datetime | int | str
"""A `datetime` with its time zone, milliseconds since 1970 UTC, or a text in ISO 8601."""


ManyChannels = list[str] | tuple[str, ...]
"""Several channels."""


Tags = Mapping[str, str | int | float | bool]
"""Tags of a publication, by name; filters compare them."""


Filter = Mapping[str, Any]
"""A condition for each of some tags (clients/PROTOCOL.md, "Filters")."""


@dataclass(frozen=True, slots=True)
class Message:
    """One publication."""

    channel: str
    epoch: str
    offset: int | None
    """None for a message of a plain Redis PUBLISH, which is outside the sequence."""
    raw_data: bytes
    """The payload's JSON, byte for byte as the publisher sent it."""
    key: str | None = None
    time_ms: int | None = None
    """The time at which the broker took the publication, in milliseconds since 1970 UTC."""
    sender: str | None = None
    """The token subject of the session that published it, set by the hub."""
    tags: Tags | None = None
    remove: bool = False
    """Whether the message removes the row of its key."""
    end: bool = False
    """Whether the message is the last one of its channel."""
    state: bool = False
    """Whether the message is an answer of `get_state`."""
    at: Position | None = None
    """The position that the state of `get_state` describes; None for other messages."""
    joined: int = 0
    """The number of replayed messages that are joined in this one; its data is their concatenation.
    """
    parts: "tuple[Message, ...]" = field(default=(), repr=False, compare=False)
    """The messages that are joined in this one."""
    frame: bytes = field(default=b"", repr=False, compare=False)
    """The whole push as it came. It is empty for a message of `history`, and the data of a joined
    one."""
    _parsed: Any = field(default=_UNPARSED, init=False, repr=False, compare=False)

    @property
    def data(self) -> Any:
        """The payload, parsed at the first access; integers of any size stay exact."""
        if self._parsed is _UNPARSED:
            object.__setattr__(self, "_parsed", msgspec.json.decode(self.raw_data))
        return self._parsed

    @property
    def position(self) -> Position | None:
        """The position to resume from behind this message; None outside the sequence."""
        return self.at if self.offset is None else Position(self.epoch, self.offset)


@dataclass(frozen=True, slots=True)
class Gap:
    """A gap stands exactly in the place of the offsets `first` to `last` of `epoch`.

    A gap with the reason `reset` has no range: a new epoch began, the stream continues behind the
    offset `last`, and offsets of the former epoch have no meaning any more.
    """

    channel: str
    epoch: str
    first: int
    last: int
    reason: str
    """`slow`, `conflated`, `broker`, `expired`, `invalid`, `reset`, or a later hub's reason."""
    unsequenced: int = 0
    """The number of dropped messages without an offset."""
    frame: bytes = field(default=b"", repr=False, compare=False)

    @property
    def missing(self) -> int:
        """The number of missing offsets; 0 for a reset, whose number is unknown."""
        return 0 if self.reason == "reset" or not self.last else self.last - self.first + 1

    @property
    def position(self) -> Position:
        """The position behind which the stream continues."""
        return Position(self.epoch, self.last)


@dataclass(frozen=True, slots=True)
class Member:
    """One present member; `id` is the token's subject, or the connection's id without one."""

    id: str
    connection: str
    subject: str | None = None
    data: Any = None
    """The member's own data; None where it has none."""


@dataclass(frozen=True, slots=True)
class Presence:
    """A member joined, left or changed its data.

    With the change `presence_reset` some of these pushes were lost, so ask for the members again.
    """

    channel: str
    change: str
    """`join`, `leave`, `update` or `presence_reset`."""
    member: Member | None = None
    frame: bytes = field(default=b"", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class State:
    """Rows of a keyed channel as of `position`; later changes come as messages.

    Forget the former rows where one `begins`.
    """

    channel: str
    position: Position
    rows: tuple[Message, ...]
    """The newest message of each key."""
    more: bool
    """Whether more rows as of the same position follow."""
    begins: bool
    """Whether the table begins anew with these rows."""
    dropped: int = 0
    """The number of rows that the hub removed for want of room."""
    frame: bytes = field(default=b"", repr=False, compare=False)


Item = Message | Gap | Presence | State


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A part of one channel's history, in the order that was asked for."""

    channel: str
    position: Position
    """The position of the newest publication."""
    oldest: int
    """The oldest offset in history."""
    messages: tuple[Message, ...]
    next: Position | None = None
    """The `since` of the next page, with all other arguments unchanged; None on the last page."""


@dataclass(frozen=True, slots=True)
class Published:
    """The position of a publication that happened."""

    channel: str
    position: Position
    duplicate: bool = False
    """Whether the hub had seen the idempotency key: then this is the first answer again."""


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """The state of the client's connection, for a status line or a log."""

    name: str
    """`connecting`, `connected`, `waiting` (before the next attempt) or `closed`."""
    detail: str = ""
    transport: str = ""
    retry_in_seconds: float | None = None
    data: Any = None
    """With `connected`: the data that the application gave in its answer to the connect hook."""
