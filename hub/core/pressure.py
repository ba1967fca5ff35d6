"""What all outboxes of a node hold together: one slow reader costs its own limit, many this one."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hub.core.session import Session


class Pressure:
    """What all outboxes of the process hold together, and the bound on it."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.sessions: dict[Session, None] = {}
        """Those with an outbox, in the order they got it."""

    def relieve(self) -> None:
        """At the bound, close whoever is owed most until there is room again."""
        while self.bytes > self.max_bytes and self.sessions:
            most = max(self.sessions, key=lambda session: session.owed_bytes)
            most.close_slow(f"all outboxes together are over {self.max_bytes:,} bytes")

    def oldest_at(self) -> float | None:
        """When what is owed longest was put in, monotonic seconds; None where nothing is."""
        outboxes = (session.outbox for session in self.sessions)
        found = (outbox.oldest_at() for outbox in outboxes if outbox is not None)
        return min((at for at in found if at is not None), default=None)
