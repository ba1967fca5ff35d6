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
from hub.core.session.outbox_budget import OutboxBudget

if TYPE_CHECKING:
    from hub.core.session.session import Session

# Most frames are smaller, but for replies to `history` or `presence`.
SLICE_BYTES = 64 * KIB


class Link(Protocol):
    """The connection to one peer. The session decides what to send; the link only sends it."""

    transport: str
    """`websocket`, `sse` or `poll`."""
    address: str
    user_agent: str
    """At most `MAX_AGENT_CHARACTERS`."""
    answers_pings: bool
    """Whether `ping` makes a frame that the peer has to answer."""
    session: "Session | None"
    """The session that it reports its end to; set by the registry, None before."""

    @property
    def descriptor(self) -> int | None:
        """The number of the peer's socket, while the hub may write to it past the link.

        It is `hub.core.ports.NO_DESCRIPTOR` where the hub may not do so now, and None where it
        never may, or never again. The link calls `Session.stand_apart` before it withdraws the
        number.
        """
        ...

    def send(self, data: bytes) -> int:
        """Write the bytes that the peer's socket takes at once; return how many those were.

        A lost peer swallows everything. The transport reports its end.
        """
        ...

    def finish(self, rest: bytes) -> None:
        """Take all of `rest`, and call `Session.on_writable` once the peer has taken it.

        That call never comes from within this one, even where all of `rest` went out at once.
        """
        ...

    def cork(self, head: bytes = b"") -> None:
        """Gather frames from now on behind `head`, for one write with `uncork`.

        The caller must not await in between. A link that gathers by itself does nothing here.
        """
        ...

    def uncork(self) -> bool:
        """Write the gathered bytes; return whether the peer's socket took all of them.

        The link finishes the rest as in `finish`. Harmless where nothing is corked.
        """
        ...

    def ping(self, payload: bytes) -> bytes:
        """Return the frame that asks the peer for a sign of life; only where it answers pings."""
        ...

    def acknowledged_bytes(self) -> int:
        """Return how many bytes the peer's kernel has acknowledged so far; 0 where unknown."""
        ...

    def unsent_bytes(self) -> int:
        """Return how many bytes this side's kernel holds because the peer's has no room."""
        ...

    @property
    def unread(self) -> bool:
        """Whether bytes of the peer may wait here: reading is paused, or they wait their turn."""
        ...

    def pause_reading(self) -> None:
        """Read no more from the peer until `resume_reading`."""
        ...

    def resume_reading(self) -> None: ...

    def close(self, code: int, reason: str) -> None:
        """End in order: send the taken bytes, the protocol's close, then the end of stream."""
        ...

    def abort(self) -> None:
        """End the connection now."""
        ...


def send_in_slices(link: Link, data: bytes) -> int:
    """Send a large frame as far as the link takes it; return how many bytes those were.

    A transport of the event loop or of TLS takes the whole of one call and holds it uncounted. It
    takes nothing of the next call.
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
    """The objects that all sessions of a node share, and the callbacks for their events."""

    limits: SessionLimits
    limiter: Limiter
    clock: Monotonic
    counters: Counters
    outbox_budget: OutboxBudget
    journal: Journal
    close_code: Callable[[str, bool], int]
    """Returns the close code for an error's `code` and whether it is `retryable`."""
    on_replay: Callable[["Session"], None]
    """Called when a session that takes writes has subscriptions that read history."""
    on_mark: Callable[["Session"], None]
    """Called when the session's positions moved outside a broadcast."""
    on_closed: Callable[["Session", int, str], None]
    """Called once, when the session has ended, with the close code and the reason."""
    on_gone: Callable[["Session"], None]
    """Called once, after `on_closed`, when the connection of the session is gone too."""
