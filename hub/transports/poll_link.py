"""The link of a polling session: it takes one answer's worth of frames at a time. No I/O.

Between two polls the link takes nothing. Where a channel has history, nothing is queued meanwhile:
its subscription fills from history (`Subscription.fill`) when the peer comes back. Where it has
none, the session's outbox holds as much as fits. Publications that history does not hold wait
beside it (`hub.core.session.withheld`).
"""

import time
from collections.abc import Callable

from hub.core.ports import MAX_AGENT_CHARACTERS
from hub.core.session.outbox_budget import OutboxBudget
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
        """Called when there may be something to answer with, or nothing more to wait for."""
        self._blocked = False
        self._frames = bytearray()
        self._max_bytes = 0
        self._budget = budget
        self._polled_bytes = 0
        """Bytes of its frames that the budget counts as polled: the session counts the frames that
        `finish` completes as handed over."""

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
        """Begin a poll: take the frames that the session owes, up to `max_bytes`."""
        self.taking = True
        self._max_bytes = max_bytes
        if self._blocked and self.session is not None:
            self._blocked = False
            self.session.on_writable()

    def take(self) -> bytes:
        """End a poll with the frames that came; take no more until the next."""
        frames = bytes(self._frames)
        self.drop()
        self._rest(blocks=bool(frames))
        return frames

    def give_up(self) -> None:
        """End a poll without an answer: its frames are those of the next."""
        self._rest(blocks=bool(self._frames))

    def drop(self) -> None:
        """Drop all frames."""
        self._frames = bytearray()
        self._budget.polled_bytes -= self._polled_bytes
        self._polled_bytes = 0

    def _rest(self, *, blocks: bool) -> None:
        self.taking = False
        self.on_change = _nobody
        if blocks and self.session is not None:
            # Else the replay would go on and leave one message here, which ends the next poll at
            # once: a peer that is behind would get one message for each round trip. After an empty
            # poll it may go on: a peer that never waits gets something with the next poll.
            self._blocked = True
            self.session.block()

    # -- hub.core.session.link.Link ----------------------------------------------------------

    def send(self, data: bytes) -> int:
        """Take as much as there is room for; the session finishes the frame in which that ends."""
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
        """Note that a channel has started, or that its history was read."""
        self.on_change()

    def cork(self, head: bytes = b"") -> None:
        """Do nothing: a poll gathers its frames anyway."""

    def uncork(self) -> bool:
        return True

    def ping(self, payload: bytes) -> bytes:  # noqa: ARG002 - the port's shape
        return b""

    def acknowledged_bytes(self) -> int:
        # Between two polls nobody acknowledges anything: the lease decides how long the session
        # lives, not the heartbeat, for which it always makes progress.
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
            # No connection reports its end later.
            self.session.lost(CloseCode.ABNORMAL, "no further poll")


def is_between_polls(session: Session) -> bool:
    """Return whether the session's peer polls, and no poll of it waits."""
    return isinstance(session.link, PollLink) and not session.link.taking
