"""The link of a polling session: it takes one answer's worth of frames at a time. No I/O.

Between two polls it takes nothing. Where there is history nothing is queued then either: the
subscriptions fill from it (`Subscription.fill`) when the peer comes back, and where there is none
the session's outbox holds what fits. What history does not hold waits beside it
(`hub.core.session.withheld`).
"""

import time
from collections.abc import Callable

from hub.core.ports import MAX_AGENT_CHARACTERS
from hub.core.session.outbox import OutboxBudget
from hub.core.session.session import Session
from hub.wire.codes import CloseCode


def _nobody() -> None:
    pass


class PollLink:
    """Implements `hub.core.session.link.Link`; open for frames only while a poll waits."""

    __slots__ = (
        "_blocked",
        "_budget",
        "_frames",
        "_max_bytes",
        "_polled_bytes",
        "address",
        "ended",
        "on_change",
        "session",
        "taking",
        "user_agent",
    )

    transport = "poll"
    answers_pings = False
    descriptor: int | None = None

    def __init__(self, *, address: str, user_agent: str, budget: OutboxBudget) -> None:
        self.address = address
        self.user_agent = user_agent[:MAX_AGENT_CHARACTERS]
        self.session: Session | None = None
        self.ended = False
        self.taking = False
        """Whether a poll waits now."""
        self.on_change: Callable[[], None] = _nobody
        """Told when there may be something to answer with, or nothing more to wait for."""
        self._blocked = False
        self._frames = bytearray()
        self._max_bytes = 0
        self._budget = budget
        self._polled_bytes = 0
        """Of its frames, what the budget counts as polled: not what it finishes, which the session
        counts as handed over."""

    # -- a poll -------------------------------------------------------------------------------

    @property
    def has_frames(self) -> bool:
        return bool(self._frames)

    @property
    def full(self) -> bool:
        """Whether the answer takes nothing more."""
        return self._room <= 0

    @property
    def _room(self) -> int:
        return min(self._max_bytes - len(self._frames), self._budget.polled_room)

    def begin(self, max_bytes: int) -> None:
        """A poll waits: take what the session owes, nothing more once it is `max_bytes`."""
        self.taking = True
        self._max_bytes = max_bytes
        if self._blocked and self.session is not None:
            self._blocked = False
            self.session.on_writable()

    def take(self) -> bytes:
        """The poll is answered with what came; nothing more is taken until the next."""
        frames = bytes(self._frames)
        self.drop()
        self._rest(blocks=bool(frames))
        return frames

    def give_up(self) -> None:
        """The poll goes without an answer: what came is the next one's."""
        self._rest(blocks=bool(self._frames))

    def drop(self) -> None:
        """Hold nothing of what came any more."""
        self._frames = bytearray()
        self._budget.polled_bytes -= self._polled_bytes
        self._polled_bytes = 0

    def _rest(self, *, blocks: bool) -> None:
        self.taking = False
        self.on_change = _nobody
        if blocks and self.session is not None:
            # Or the replay went on, and left one message here that ends the next poll at once:
            # who is behind would get one message for each round trip. Where there was nothing,
            # it may: whoever never waits gets something with the next poll.
            self._blocked = True
            self.session.block()

    # -- hub.core.session.link.Link ----------------------------------------------------------

    def send(self, data: bytes) -> int:
        """Take what there is room for; the session finishes the frame in which that ends."""
        taken = max(0, min(self._room, len(data))) if self.taking else 0
        self._polled_bytes += taken
        self._budget.polled_bytes += taken
        self._keep(data[:taken])
        return taken

    def finish(self, rest: bytes) -> None:
        self._blocked = True
        self._keep(rest)

    def _keep(self, data: bytes) -> None:
        self._frames += data
        if data:
            self.on_change()

    def progressed(self) -> None:
        """A channel has started, or its history was read."""
        self.on_change()

    def cork(self, head: bytes = b"") -> None:
        """An answer gathers anyway."""

    def uncork(self) -> bool:
        return True

    def ping(self, payload: bytes) -> bytes:  # noqa: ARG002 - the port's shape
        return b""

    def acknowledged_bytes(self) -> int:
        # Between two polls there is nobody to acknowledge anything: the lease decides how
        # long the session lives, not the heartbeat, for which it always makes progress.
        return time.monotonic_ns()

    def unsent_bytes(self) -> int:
        return 0

    unread = False
    """Commands come by other requests."""

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self, code: int, reason: str) -> None:  # noqa: ARG002 - the port's shape
        self.abort()

    def abort(self) -> None:
        self.ended = True
        self.on_change()
        if self.session is not None:
            # There is no connection whose end would be reported later.
            self.session.lost(CloseCode.ABNORMAL, "no further poll")


def is_between_polls(session: Session) -> bool:
    """Whether its peer polls and no poll of it waits: nobody is there to be told anything."""
    return isinstance(session.link, PollLink) and not session.link.taking
