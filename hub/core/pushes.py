"""What a session is sent. Dialects make bytes from these; a `Publication` is a push too."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

from hub.core.commands import CommandId
from hub.core.publication import Position, Publication
from hub.core.values import value
from hub.errors import HubError


class GapReason(StrEnum):
    """Why a range of offsets will not arrive (clients/PROTOCOL.md, "Pushes")."""

    SLOW = "slow"
    CONFLATED = "conflated"
    BROKER = "broker"
    EXPIRED = "expired"
    INVALID = "invalid"
    RESET = "reset"


@value(frozen=True, slots=True)
class Welcome:
    connection: str
    node: str
    heartbeat_seconds: float
    version: str
    secret: str
    given: bytes | None = None
    """What the application gives along with its yes, as JSON on one line."""


@value(frozen=True, slots=True)
class Subscribed:
    channel: str
    position: Position
    """Where the subscription starts, before what is replayed."""
    recovered: bool
    replayed: int
    state: bool = False
    """Rows follow: until the last of them a peer that is cut has nothing."""
    given: bytes | None = None
    """As in `Welcome`."""


@value(frozen=True, slots=True)
class State:
    """Rows of a keyed channel as of `position`; what follows it comes as messages.

    One with another position than the one before begins anew.
    """

    channel: str
    position: Position
    rows: Sequence[Publication]
    more: bool
    """Whether further rows of the same position follow."""
    dropped: int = 0
    """Rows that the hub let go of for want of room."""


@value(frozen=True, slots=True)
class Unsubscribed:
    """An operator took the session out of a channel; nothing of it comes any more."""

    channel: str
    reason: str


@value(frozen=True, slots=True)
class PatternSubscribed:
    """A pattern of the URL, or of `/command`, begins: these channels, each from its position."""

    pattern: str
    positions: Mapping[str, Position]


@value(frozen=True, slots=True)
class PatternUnsubscribed:
    """The hub has ended a pattern: nothing more comes of it, and of channels that it alone had."""

    pattern: str
    reason: str


@value(frozen=True, slots=True)
class Gap:
    """Stands exactly where offsets `first` to `last` of `epoch` would have.

    With reason `reset` there is no range: `last` is the offset of the new epoch after which
    the stream continues, and `first` is 0.
    """

    channel: str
    epoch: str
    first: int
    last: int
    reason: GapReason
    unsequenced: int = 0
    """How many publications without an offset were dropped, where there were any."""


@value(frozen=True, slots=True)
class Member:
    """One that is present: `id` is the token's subject, or the connection where there is none."""

    id: str
    connection: str
    subject: str | None = None
    data: bytes | None = None
    """JSON: what any of its connections said last of itself."""
    said_ms: int = 0
    """When that was, since 1970 UTC: what was said last counts, at whatever node."""


@value(frozen=True, slots=True)
class Join:
    channel: str
    member: Member


@value(frozen=True, slots=True)
class Leave:
    channel: str
    member: Member


@value(frozen=True, slots=True)
class Update:
    """A member that stays says something else of itself."""

    channel: str
    member: Member


Change = Join | Leave | Update


@value(frozen=True, slots=True)
class PresenceReset:
    """Some joins or leaves were lost: ask for the members again."""

    channel: str


@value(frozen=True, slots=True)
class Heartbeat:
    pass


@value(frozen=True, slots=True)
class Expiring:
    in_seconds: int


@value(frozen=True, slots=True)
class Goodbye:
    code: int
    reason: str
    reconnect_within_ms: int | None = None
    """The peer picks a moment in this window; None where it should not come back unchanged."""


@value(frozen=True, slots=True)
class JsonText:
    """JSON in a reply's `ok`, as the bytes that came."""

    text: bytes


@value(frozen=True, slots=True)
class Reply:
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
