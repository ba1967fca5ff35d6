"""The two borders of a session: the link to its peer, and the context that it shares on its node.

Every transport implements `Link`. The composition root makes one `SessionContext` for a node.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hub.core.counters import Counters
from hub.core.forensics.journal import Journal
from hub.core.limits import Limiter
from hub.core.options import KIB, SessionLimits
from hub.core.ports import Monotonic
from hub.core.session.outbox import OutboxBudget

if TYPE_CHECKING:
    from hub.core.session.session import Session

# As large as most frames that are no replies to `history` or `presence`.
SLICE_BYTES = 64 * KIB


class Link(Protocol):
    """The way to one peer. The session decides what to send, the link only sends it."""

    transport: str
    """`websocket`, `sse` or `poll`."""
    address: str
    user_agent: str
    """At most `MAX_AGENT_CHARACTERS`."""
    answers_pings: bool
    """Whether `ping` makes a frame that the peer has to answer."""
    session: "Session | None"
    """Whom it tells of its end; set by the registry, None before."""

    @property
    def descriptor(self) -> int | None:
        """The number of the peer's socket, where it may be written to past the link now.

        `hub.core.ports.NO_DESCRIPTOR` where not now, None where never (any more). Before that
        ends by itself, the link calls `Session.stand_apart`.
        """
        ...

    def send(self, data: bytes) -> int:
        """Hand over what the peer's socket takes at once; return how many bytes that was.

        A lost peer swallows everything: its end is reported by the transport.
        """
        ...

    def finish(self, rest: bytes) -> None:
        """Take all of `rest`, and call `Session.on_writable` once the peer took it.

        Never calls it from within, also where all of `rest` went out at once.
        """
        ...

    def cork(self, head: bytes = b"") -> None:
        """Gather what is sent from now on, behind `head`; it leaves in one write with `uncork`.

        Nothing may wait in between. A link that gathers by itself does nothing here.
        """
        ...

    def uncork(self) -> bool:
        """Write what was gathered; return whether the peer's socket took all of it.

        The rest is finished as with `finish`. Harmless where nothing is corked.
        """
        ...

    def ping(self, payload: bytes) -> bytes:
        """The frame that asks the peer for a sign of life; only where it answers pings."""
        ...

    def acknowledged_bytes(self) -> int:
        """How many bytes the peer's kernel has acknowledged so far; 0 where unknown."""
        ...

    def unsent_bytes(self) -> int:
        """How many bytes this side's kernel holds because the peer's has no room for them."""
        ...

    @property
    def unread(self) -> bool:
        """Whether something of the peer's may be here that was not looked at: reading is paused,
        or what was read waits for its turn."""
        ...

    def pause_reading(self) -> None:
        """Take no more from the peer until `resume_reading`."""
        ...

    def resume_reading(self) -> None: ...

    def close(self, code: int, reason: str) -> None:
        """End in order: what was handed over, the protocol's own farewell, the end of stream."""
        ...

    def abort(self) -> None:
        """End now."""
        ...


def send_in_slices(link: Link, data: bytes) -> int:
    """Send a large frame as far as the link takes it; return how many bytes that was.

    What one call hands over, a transport of the event loop's or of TLS takes whole and holds
    where nobody counts it; the next call it takes nothing of.
    """
    taken = 0
    while part := data[taken : taken + SLICE_BYTES]:
        sent = link.send(part)
        taken += sent
        if sent != len(part):
            break
    return taken


@dataclass(frozen=True, slots=True)
class SessionContext:
    """What all sessions of a node share."""

    limits: SessionLimits
    limiter: Limiter
    clock: Monotonic
    counters: Counters
    outbox_budget: OutboxBudget
    journal: Journal
    close_code: Callable[[str, bool], int]
    """The wire's close code of an error: its `code`, and whether it is `retryable`."""
    on_replay: Callable[["Session"], None]
    """The session takes writes and has subscriptions that read history."""
    on_mark: Callable[["Session"], None]
    """The session's positions moved outside a broadcast."""
    on_closed: Callable[["Session", int, str], None]
    """The session has ended with this close code and reason; called once."""
    on_gone: Callable[["Session"], None]
    """The connection of an ended session is gone as well; called once, after `on_closed`."""
