"""Sessions end when their tokens do, and are warned before.

Costs one deadline per session whose token ends, and nothing for the others.
"""

from collections.abc import Callable

from hub.core.deadlines import Deadline, Deadlines
from hub.core.ports import Monotonic
from hub.core.pushes import Expiring
from hub.core.session import Session
from hub.errors import UnauthorizedError


class Expiry:
    """One per node; owned by the event loop.

    Args:
        warning_seconds: how long before the end a session is told.
        wall_clock: seconds since 1970 UTC, as tokens count.
    """

    def __init__(
        self,
        *,
        warning_seconds: float,
        deadlines: Deadlines,
        clock: Monotonic,
        wall_clock: Callable[[], float],
    ) -> None:
        self._warning_seconds = warning_seconds
        self._deadlines = deadlines
        self._clock = clock
        self._wall_clock = wall_clock
        self._due: dict[Session, Deadline] = {}

    def watch(self, session: Session) -> float | None:
        """Follow the session's identity of now; in how many seconds it ends, None for never."""
        self.remove(session)
        if (expires_at := session.identity.expires_at) is None:
            return None
        left = expires_at - self._wall_clock()
        # Half of it at most: to be warned at once would have a client whose tokens are short, or
        # the same ones for a while, authenticate again and again without a pause.
        warning_seconds = min(self._warning_seconds, left / 2)
        warn_in = max(0.0, left - warning_seconds)
        self._after(session, warn_in, lambda: self._warn(session, expires_at))
        return max(0.0, left)

    def remove(self, session: Session) -> None:
        if (deadline := self._due.pop(session, None)) is not None:
            deadline.cancel()

    def _after(self, session: Session, seconds: float, callback: Callable[[], None]) -> None:
        # One that has ended already would never be taken out again.
        if not session.closing:
            self._due[session] = self._deadlines.at(self._clock() + seconds, callback)

    def _warn(self, session: Session, expires_at: float) -> None:
        left = expires_at - self._wall_clock()
        session.push(Expiring(max(0, round(left))))
        error = UnauthorizedError("the token has expired")
        self._after(session, left, lambda: session.close_error(error))
