"""One poll, as a transport passes it to the node of its session.

`hub.transports.http.sessions` reads and checks it. Later code does not know the method or the form
of the request.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hub.core.identity import Identity
from hub.core.options import MIB
from hub.core.publication import Position


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
