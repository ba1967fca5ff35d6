"""Ends sessions whose time is up: their token has expired, or their connection is old.

A session is warned before its token expires. The wall clock is read once, when the session sends
the token. From then on the monotonic clock counts, which is never set.

Old connections are asked to connect again, so that they spread over all nodes. Without that, the
nodes that started first after a deployment would keep the most connections.

Both cost one deadline for each session that they concern, and nothing for the others.
"""

import random
from collections.abc import Callable

from hub.core.ports import Monotonic
from hub.core.pushes import Expiring
from hub.core.session.session import Session
from hub.core.time.deadlines import FARTHEST_SECONDS, Deadline, Deadlines
from hub.errors import HubError, UnauthorizedError

# Connections that came in one burst must not leave in one: each gets an age of its own.
JITTER = 0.2


class Aging:
    """Closes old connections; one per node, owned by the event loop.

    Args:
        max_age_seconds: how long a connection lives, 20 percent more or less; 0 for no limit.
        close: tells a session to come back, and ends it.
    """

    def __init__(
        self,
        *,
        max_age_seconds: float,
        deadlines: Deadlines,
        clock: Monotonic,
        close: Callable[[Session], None],
    ) -> None:
        self._max_age_seconds = max_age_seconds
        self._deadlines = deadlines
        self._clock = clock
        self._close = close
        self._due: dict[Session, Deadline] = {}

    def add(self, session: Session) -> None:
        if not self._max_age_seconds:
            return
        age = self._max_age_seconds * random.uniform(1 - JITTER, 1 + JITTER)
        self._due[session] = self._deadlines.at(self._clock() + age, lambda: self._close(session))

    def remove(self, session: Session) -> None:
        if (deadline := self._due.pop(session, None)) is not None:
            deadline.cancel()


class Expiry:
    """Ends sessions with their tokens; one per node, owned by the event loop.

    Args:
        warning_seconds: how long before the end a session is warned.
        wall_clock: seconds since 1970 UTC, as tokens count.
        on_refused: called with a session that has sent no token in time, and its error.
    """

    def __init__(
        self,
        *,
        warning_seconds: float,
        deadlines: Deadlines,
        clock: Monotonic,
        wall_clock: Callable[[], float],
        on_refused: Callable[[Session, HubError], None] = lambda *_: None,
    ) -> None:
        self._on_refused = on_refused
        self._warning_seconds = warning_seconds
        self._deadlines = deadlines
        self._clock = clock
        self._wall_clock = wall_clock
        self._due: dict[Session, Deadline] = {}

    def watch(self, session: Session) -> float | None:
        """Follow the session's present identity; return its remaining seconds, None for no end."""
        self.remove(session)
        if (expires_at := session.identity.expires_at) is None:
            return None
        left = min(max(0.0, expires_at - self._wall_clock()), FARTHEST_SECONDS)
        # At most half of the remaining time. A warning at once would make a client whose tokens
        # are short, or which gets the same token for a while, authenticate without a pause.
        warning_seconds = min(self._warning_seconds, left / 2)
        ends = self._clock() + left
        self._at(session, ends - warning_seconds, lambda: self._warn(session, ends))
        return left

    def remove(self, session: Session) -> None:
        if (deadline := self._due.pop(session, None)) is not None:
            deadline.cancel()

    def _at(self, session: Session, when: float, callback: Callable[[], None]) -> None:
        # Nothing would remove the deadline of a session that has ended already.
        if not session.closing:
            self._due[session] = self._deadlines.punctually_at(when, callback)

    def _warn(self, session: Session, ends: float) -> None:
        session.push(Expiring(max(0, round(ends - self._clock()))))
        self._at(session, ends, lambda: self._end(session))

    def _end(self, session: Session) -> None:
        late = session.identity.awaits_token
        error = UnauthorizedError("no token came in time" if late else "the token has expired")
        if late:
            self._on_refused(session, error)
        session.close_error(error)
