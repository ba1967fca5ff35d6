"""One poll, as transports hand it to the node that holds the session.

`hub.transports.http.sessions` reads it of a request and checks it. Nothing behind that knows by
which method it came, or in which form.
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
    """Of channels, and of patterns that have none."""
    last: int | None
    wait_seconds: float
    fill: bool
    connection: str | None
    """The polling session to go on with; None starts one."""
    secret: str | None
    """Proves that `connection` is the caller's."""
    session: bool
    """Whether the caller keeps to one session, and so is told where subscriptions start."""
    identity: Identity
    """Of a new session, its grants for `channels` checked; without any grant where
    `connection` goes on, because that session has its own."""
    address: str
    user_agent: str
    patterns: tuple[str, ...] = ()
    filter: str | None = None
    """Conditions on tags as JSON, checked (`hub.wire.filters`)."""
    state: bool = False
    """Every channel begins with its rows, and again where history cannot make it whole."""
    every_ms: int | None = None
    """Publications of each channel at most that often."""
    max_bytes: int = MIB
    """From there on an answer takes nothing more; what does not fit comes with the next."""
    named: str | None = None
    """The id of a new session, where the application was asked about it by that, ..."""
    given: bytes | None = None
    """... what the application gives along with its yes, as JSON on one line, ..."""
    of_channels: Mapping[str, bytes] = field(default_factory=dict)
    """... and the same for its channels."""
