"""Sessions end when their tokens do, and are warned before.

Costs one deadline per session whose token ends, and nothing for the others. How long a token
still holds is asked of the wall clock once, when the session shows it: from then on time is
counted by a clock that nobody sets.
"""

from collections.abc import Callable

from hub.core.ports import Monotonic
from hub.core.pushes import Expiring
from hub.core.session.session import Session
from hub.core.time.deadlines import FARTHEST_SECONDS, Deadline, Deadlines
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
        left = min(max(0.0, expires_at - self._wall_clock()), FARTHEST_SECONDS)
        # Half of it at most: to be warned at once would have a client whose tokens are short, or
        # the same ones for a while, authenticate again and again without a pause.
        warning_seconds = min(self._warning_seconds, left / 2)
        ends = self._clock() + left
        self._at(session, ends - warning_seconds, lambda: self._warn(session, ends))
        return left

    def remove(self, session: Session) -> None:
        if (deadline := self._due.pop(session, None)) is not None:
            deadline.cancel()

    def _at(self, session: Session, when: float, callback: Callable[[], None]) -> None:
        # One that has ended already would never be taken out again.
        if not session.closing:
            self._due[session] = self._deadlines.punctually_at(when, callback)

    def _warn(self, session: Session, ends: float) -> None:
        session.push(Expiring(max(0, round(ends - self._clock()))))
        late = session.identity.awaits_token
        error = UnauthorizedError("no token came in time" if late else "the token has expired")
        self._at(session, ends, lambda: session.close_error(error))
