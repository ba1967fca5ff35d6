"""The requests of peers: commands of sessions, and polls.

`hub.wire` makes commands from bytes, and `hub.core.command_handler` carries them out.
`hub.transports.http.sessions` reads and checks a poll, and passes it to the node of its session.
Later code does not know the method or the form of the request.

An option of a subscription is a field here. It is read in `hub.wire.native_commands` (a command)
and `hub.wire.query` (a URL), and documented in `hub.transports.http.schemas` and
`hub.transports.http.sessions`. The clients send it in their `channel` modules.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hub.core.identity import Identity
from hub.core.options import MIB
from hub.core.publication import Filter, Position
from hub.core.values import Struct

CommandId = str | int | None


class Subscribe(Struct, frozen=True):
    """Subscribe to a channel."""

    id: CommandId
    channel: str
    since: Position | None = None
    """Resume after it; `BEGINNING` stands for a peer that was never in the channel."""
    last: int | None = None
    """Replay the newest `last` publications first, 0 or more; `since` wins over it."""
    fill: bool = False
    """Send a slow reader the missed publications from history, instead of a `slow` gap."""
    filter: Filter | None = None
    """Selects publications; None for all."""
    presence: bytes | None = None
    """The member's data, as JSON."""
    in_url: bool = False
    """Whether it came with the URL of the connection, so that there is no command to reply to."""
    every_ms: int | None = None
    """The interval between updates, which have the newest of each key, or of the channel."""
    state: bool = False
    """Begin with the rows of a keyed channel, and again where history cannot recover."""
    judged: bool = False
    """Whether the application has allowed it already."""
    given: bytes | None = None
    """The application's data for it, as JSON on one line; None for none."""


class Unsubscribe(Struct, frozen=True):
    """Leave a channel."""

    id: CommandId
    channel: str


class SubscribePattern(Struct, frozen=True):
    """Subscribe to every channel that `pattern` matches, now and later."""

    id: CommandId
    pattern: str
    since: Mapping[str, Position] | None = None
    """Resume after these positions, and from the beginning in channels that they do not name. None
    begins at the heads of the existing channels."""
    last: int | None = None
    """This and the next two are as in `Subscribe`, for each channel."""
    fill: bool = False
    filter: Filter | None = None
    in_url: bool = False


class UnsubscribePattern(Struct, frozen=True):
    """End a pattern."""

    id: CommandId
    pattern: str


class Publish(Struct, frozen=True, gc=False):
    """Publish a message."""

    id: CommandId
    channel: str
    data: bytes
    key: str | None = None
    echo: bool = True
    idempotency_key: str | None = None
    tags: bytes | None = None
    """As `hub.core.publication.Publication` has it; so have the next two."""
    marks: int = 0
    keep_ms: int | None = None


class History(Struct, frozen=True):
    """Read a channel's history."""

    id: CommandId
    channel: str
    since: Position | None = None
    limit: int = 100
    from_ms: int | None = None
    """Leave out older publications: milliseconds since 1970 UTC."""
    reverse: bool = False
    """Read newest first; then `since` is the end, not the beginning."""


class ListMembers(Struct, frozen=True):
    """List the members of a channel."""

    id: CommandId
    channel: str
    limit: int | None = None
    after: str | None = None
    """The id of the last member of the previous page."""
    count: bool = False
    """Return only the number of members."""


class PresenceUpdate(Struct, frozen=True):
    """Set the data of the session's member."""

    id: CommandId
    channel: str
    data: bytes
    """JSON."""


class Authenticate(Struct, frozen=True):
    """Present a new token."""

    id: CommandId
    token: str


class Ping(Struct, frozen=True):
    """Ask for a sign of life."""

    id: CommandId


Command = (
    Subscribe
    | Unsubscribe
    | SubscribePattern
    | UnsubscribePattern
    | Publish
    | History
    | ListMembers
    | PresenceUpdate
    | Authenticate
    | Ping
)
InUrl = Subscribe | SubscribePattern
"""The commands that a URL may carry."""


@dataclass(frozen=True, slots=True)
class PollRequest:
    """A checked `GET /poll`."""

    channels: tuple[str, ...]
    since: Mapping[str, Position]
    """Positions of channels, and of patterns without any channel."""
    last: int | None
    wait_seconds: float
    fill: bool
    connection: str | None
    """The polling session that continues; None starts one."""
    secret: str | None
    """The proof that `connection` is the caller's."""
    session: bool
    """Whether the caller keeps to one session. It then gets the starts of subscriptions."""
    identity: Identity
    """The identity of a new session, with checked grants for `channels`. It has no grants where
    `connection` continues, because that session has its own identity."""
    address: str
    user_agent: str
    patterns: tuple[str, ...] = ()
    filter: str | None = None
    """Conditions on tags as JSON, checked (`hub.wire.filters`)."""
    state: bool = False
    """Begin every channel with its rows, and again where history cannot recover."""
    every_ms: int | None = None
    """The interval between updates of each channel."""
    max_bytes: int = MIB
    """An answer takes no more frames from this size on; the next one brings the rest."""
    named: str | None = None
    """The id of a new session, where the application was asked with that id."""
    given: bytes | None = None
    """The application's data for the session, as JSON on one line."""
    of_channels: Mapping[str, bytes] = field(default_factory=dict)
    """The application's data for its channels."""
