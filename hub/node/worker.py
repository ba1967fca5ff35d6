"""What a node that is one of several workers on a machine is given by its supervisor."""

import socket
from collections.abc import Callable
from dataclasses import dataclass

from hub.settings import Settings


@dataclass(frozen=True, slots=True)
class Worker:
    """One of `workers` nodes behind one port."""

    number: int
    """From 1."""
    workers: int
    sockets: tuple[socket.socket, ...]
    """Listening, one per worker, all on the port. A worker accepts at its own, and at those of
    workers that do not take connections now. They stay open in the supervisor, so that what the
    kernel has queued there outlives whoever accepts."""
    connect: Callable[[], socket.socket] | None
    """A new connection to the broker process; None where the broker is elsewhere."""

    def settings(self, settings: Settings, *, node: str) -> Settings:
        """`settings` of all as this worker's own; `node` is the name that all share.

        A bound that follows from the machine's memory is this worker's share of it.
        """
        own: dict[str, object] = {"node": f"{node}-{self.number}"}
        if settings.is_default("outbox_total_bytes"):
            own["outbox_total_bytes"] = settings.outbox_total_bytes // self.workers
        return settings.model_copy(update=own)
