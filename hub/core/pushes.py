"""The messages that a session is sent. Dialects encode them; a `Publication` is a push too."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

from hub.core.commands import CommandId
from hub.core.publication import Position, Publication
from hub.core.values import value
from hub.errors import HubError


class GapReason(StrEnum):
    """The reason for which a range of offsets will not arrive (clients/PROTOCOL.md, "Pushes")."""

    SLOW = "slow"
    CONFLATED = "conflated"
    BROKER = "broker"
    EXPIRED = "expired"
    INVALID = "invalid"
    RESET = "reset"


@value(frozen=True, slots=True)
class Welcome:
    """The first push of a connection."""

    connection: str
    node: str
    heartbeat_seconds: float
    version: str
    secret: str
    given: bytes | None = None
    """The application's data for the peer, as JSON on one line."""


@value(frozen=True, slots=True)
class Subscribed:
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


@value(frozen=True, slots=True)
class State:
    """Rows of a keyed channel as of `position`; later changes come as messages.

    A push with another position than the one before begins a new set of rows.
    """

    channel: str
    position: Position
    rows: Sequence[Publication]
    more: bool
    """Whether further rows of the same position follow."""
    dropped: int = 0
    """Rows that the hub dropped at its bound."""


@value(frozen=True, slots=True)
class Unsubscribed:
    """The hub took the session out of a channel, and sends nothing of it any more."""

    channel: str
    reason: str


@value(frozen=True, slots=True)
class PatternSubscribed:
    """A pattern of the URL, or of `/command`, begins: these channels, each from its position."""

    pattern: str
    positions: Mapping[str, Position]


@value(frozen=True, slots=True)
class PatternUnsubscribed:
    """The hub has ended a pattern, and the subscriptions that came through it alone."""

    pattern: str
    reason: str


@value(frozen=True, slots=True)
class Gap:
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


@value(frozen=True, slots=True)
class Member:
    """A present member; `id` is the token's subject, or the connection without one."""

    id: str
    connection: str
    subject: str | None = None
    data: bytes | None = None
    """JSON that one of its connections set last."""
    said_ms: int = 0
    """Time at which they were set, in milliseconds since 1970 UTC. The latest data count."""


@value(frozen=True, slots=True)
class Join:
    """A member has come."""

    channel: str
    member: Member


@value(frozen=True, slots=True)
class Leave:
    """A member has gone."""

    channel: str
    member: Member


@value(frozen=True, slots=True)
class Update:
    """A present member has other data."""

    channel: str
    member: Member


Change = Join | Leave | Update


@value(frozen=True, slots=True)
class PresenceReset:
    """Joins or leaves were lost, so the peer has to ask for the members again."""

    channel: str


@value(frozen=True, slots=True)
class Heartbeat:
    """A sign of life."""


@value(frozen=True, slots=True)
class Expiring:
    """The session's token expires soon."""

    in_seconds: int


@value(frozen=True, slots=True)
class Goodbye:
    """The hub ends the session."""

    code: int
    reason: str
    reconnect_within_ms: int | None = None
    """The peer picks a moment in this window; None where it should not come back unchanged."""


@value(frozen=True, slots=True)
class JsonText:
    """JSON in a reply's `ok`, as the bytes that the hub received."""

    text: bytes


@value(frozen=True, slots=True)
class Reply:
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
