"""The messages that a session is sent. Dialects encode them; a `Publication` is a push too."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

from hub.core.commands import CommandId
from hub.core.publication import Position, Publication
from hub.core.values import Struct
from hub.errors import HubError


class GapReason(StrEnum):
    """The reason for which a range of offsets will not arrive (clients/PROTOCOL.md, "Pushes")."""

    SLOW = "slow"
    CONFLATED = "conflated"
    BROKER = "broker"
    EXPIRED = "expired"
    INVALID = "invalid"
    RESET = "reset"


class Welcome(Struct, frozen=True):
    """The first push of a connection."""

    connection: str
    node: str
    heartbeat_seconds: float
    version: str
    secret: str
    given: bytes | None = None
    """The application's data for the peer, as JSON on one line."""


class Subscribed(Struct, frozen=True):
    """A subscription begins that no reply in the stream announces."""

    channel: str
    position: Position
    """The start of the subscription, before the replayed publications."""
    recovered: bool
    replayed: int
    state: bool = False
    """Whether rows follow. A peer that is cut before the last of them starts over."""
    given: bytes | None = None
    """The application's data for the subscription, as JSON on one line."""


class State(Struct, frozen=True):
    """Rows of a keyed channel as of `position`; later changes come as messages.

    A push with another position than the one before begins a new set of rows.
    """

    channel: str
    position: Position
    rows: Sequence[Publication]
    more: bool
    """Whether further rows of the same position follow."""
    dropped: int = 0
    """Rows that the hub dropped at its bound, or that a disk has changed."""


class Unsubscribed(Struct, frozen=True):
    """The hub took the session out of a channel, and sends nothing of it any more."""

    channel: str
    reason: str


class PatternSubscribed(Struct, frozen=True):
    """A pattern of the URL, or of `/command`, begins: these channels, each from its position."""

    pattern: str
    positions: Mapping[str, Position]


class PatternUnsubscribed(Struct, frozen=True):
    """The hub has ended a pattern, and the subscriptions that came through it alone."""

    pattern: str
    reason: str


class Gap(Struct, frozen=True):
    """A loss, at the place of offsets `first` to `last` of `epoch` in the stream.

    With reason `reset` there is no range. `last` is the offset of the new epoch after which the
    stream continues, and `first` is 0.
    """

    channel: str
    epoch: str
    first: int
    last: int
    reason: GapReason
    unsequenced: int = 0
    """The number of dropped publications without an offset; 0 for a range."""


class Member(Struct, frozen=True):
    """A present member; `id` is the token's subject, or the connection without one."""

    id: str
    connection: str
    subject: str | None = None
    data: bytes | None = None
    """JSON that one of its connections set last."""
    said_ms: int = 0
    """Time at which they were set, in milliseconds since 1970 UTC. The latest data count."""


class Join(Struct, frozen=True):
    """A member has come."""

    channel: str
    member: Member


class Leave(Struct, frozen=True):
    """A member has gone."""

    channel: str
    member: Member


class Update(Struct, frozen=True):
    """A present member has other data."""

    channel: str
    member: Member


Change = Join | Leave | Update


class PresenceReset(Struct, frozen=True):
    """Joins or leaves were lost, so the peer has to ask for the members again."""

    channel: str


class Heartbeat(Struct, frozen=True):
    """A sign of life."""


class Expiring(Struct, frozen=True):
    """The session's token expires soon."""

    in_seconds: int


class Goodbye(Struct, frozen=True):
    """The hub ends the session."""

    code: int
    reason: str
    reconnect_within_ms: int | None = None
    """The peer picks a moment in this window; None where it should not come back unchanged."""


class JsonText(Struct, frozen=True):
    """JSON in a reply's `ok`, as the bytes that the hub received."""

    text: bytes


class Reply(Struct, frozen=True):
    """The answer to a command."""

    id: CommandId
    ok: Mapping[str, object] | None = None
    error: HubError | None = None


Push = (
    Publication
    | Welcome
    | Subscribed
    | State
    | Unsubscribed
    | PatternSubscribed
    | PatternUnsubscribed
    | Gap
    | Join
    | Leave
    | Update
    | PresenceReset
    | Heartbeat
    | Expiring
    | Goodbye
    | Reply
)
