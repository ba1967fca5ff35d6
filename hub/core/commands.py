"""What a session may ask for. Dialects make these from bytes; the registry carries them out."""

from collections.abc import Mapping

from hub.core.publication import Filter, Position
from hub.core.values import value

CommandId = str | int | None


@value(frozen=True, slots=True)
class Subscribe:
    id: CommandId
    channel: str
    since: Position | None = None
    """Resume after it; `BEGINNING` is for a peer that was never in the channel."""
    last: int | None = None
    """Replay the newest `last` publications first, 0 or more; `since` wins over it."""
    fill: bool = False
    """Refill what a slow reader missed from history instead of announcing a `slow` gap."""
    filter: Filter | None = None
    """Which publications; None for all."""
    presence: bytes | None = None
    """What the member says of itself, as JSON."""
    in_url: bool = False
    """Asked for by the URL of the connection: there is no command to reply to."""
    every_ms: int | None = None
    """Publications at most that often: the newest of each key, or of the channel."""
    state: bool = False
    """Begin with the rows of a keyed channel, and again where history cannot make it whole."""
    judged: bool = False
    """The application was asked about it already, and gives this along with its yes: ..."""
    given: bytes | None = None
    """... JSON on one line, None for nothing."""


@value(frozen=True, slots=True)
class Unsubscribe:
    id: CommandId
    channel: str


@value(frozen=True, slots=True)
class SubscribePattern:
    """Subscribe to every channel that `pattern` matches, now and later."""

    id: CommandId
    pattern: str
    since: Mapping[str, Position] | None = None
    """Resume: after these positions, and from the beginning where a channel is not named. None
    begins at the heads of the channels that there are."""
    last: int | None = None
    """As in `Subscribe`, of each channel; and so are the others."""
    fill: bool = False
    filter: Filter | None = None
    in_url: bool = False


@value(frozen=True, slots=True)
class UnsubscribePattern:
    id: CommandId
    pattern: str


@value(frozen=True, slots=True)
class Publish:
    id: CommandId
    channel: str
    data: bytes
    key: str | None = None
    echo: bool = True
    idempotency_key: str | None = None
    tags: bytes | None = None
    """As in `hub.core.publication.Publication`, ..."""
    marks: int = 0
    """... so are these, ..."""
    keep_ms: int | None = None
    """... and so is this."""


@value(frozen=True, slots=True)
class History:
    id: CommandId
    channel: str
    since: Position | None = None
    limit: int = 100
    from_ms: int | None = None
    """Nothing older: milliseconds since 1970."""
    reverse: bool = False
    """Newest first; then `since` asks for what is before it."""


@value(frozen=True, slots=True)
class Presence:
    id: CommandId
    channel: str
    limit: int | None = None
    after: str | None = None
    """The id of the last member of the page before."""
    count: bool = False
    """How many, without who."""


@value(frozen=True, slots=True)
class PresenceUpdate:
    id: CommandId
    channel: str
    data: bytes
    """As JSON."""


@value(frozen=True, slots=True)
class Authenticate:
    id: CommandId
    token: str


@value(frozen=True, slots=True)
class Ping:
    id: CommandId


Command = (
    Subscribe
    | Unsubscribe
    | SubscribePattern
    | UnsubscribePattern
    | Publish
    | History
    | Presence
    | PresenceUpdate
    | Authenticate
    | Ping
)
InUrl = Subscribe | SubscribePattern
"""What a URL may ask for."""
