"""What the hub holds for peers that read too slowly: one costs its own limit, many this one."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hub.core.session import Session

# A peer whose transport still holds more than this when it has to go for want of memory is
# aborted: to wait until it takes that, and the goodbye behind it, would hold the memory. Smaller
# is what any slow reader may have in flight, and most of those still hear why they are closed.
ABORT_FROM_BYTES = 128 * 1024


class OutboxBudget:
    """What all sessions of the process are owed together, and the bound on it."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        """Of all outboxes."""
        self.handed_bytes = 0
        """What transports hold because their peers do not take it: the rest of a frame that was
        begun, which may be a reply of a MiB."""
        self.leaving_bytes = 0
        """The same of sessions that are closed, until their connections are gone."""
        self.sessions: dict[Session, None] = {}
        """Those that are owed anything, in the order that began."""

    @property
    def total_bytes(self) -> int:
        """All that is held for peers."""
        return self.bytes + self.handed_bytes + self.leaving_bytes

    @property
    def bounded_bytes(self) -> int:
        """What the bound holds for: of sessions that are closed nothing more can be taken away."""
        return self.bytes + self.handed_bytes

    def relieve(self) -> None:
        """At the bound, close whoever is owed most until there is room again."""
        while self.bytes + self.handed_bytes > self.max_bytes and self.sessions:
            most = max(self.sessions, key=lambda session: session.held_bytes)
            handed = most.handed_bytes
            most.close_slow(f"all outboxes together are over {self.max_bytes:,} bytes")
            if handed > ABORT_FROM_BYTES:
                most.link.abort()

    def forgive(self, seconds: float) -> None:
        """The node was held up for so long: what is owed is not too old by that."""
        for session in self.sessions:
            if session.outbox is not None:
                session.outbox.forgiven_seconds += seconds

    def oldest_at(self) -> float | None:
        """When what is owed longest was put in, monotonic seconds; None where nothing is."""
        outboxes = (session.outbox for session in self.sessions)
        found = (outbox.oldest_at() for outbox in outboxes if outbox is not None)
        return min((at for at in found if at is not None), default=None)
