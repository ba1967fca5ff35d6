"""Connections that get old are asked to connect again, so that they spread over all nodes.

After a deploy the nodes that started first hold the most connections, and without this they
keep them. Costs one deadline per connection, and nothing where no age is set.
"""

import random
from collections.abc import Callable

from hub.core.ports import Monotonic
from hub.core.session.session import Session
from hub.core.time.deadlines import Deadline, Deadlines

# Connections that came in one burst must not leave in one: each gets an age of its own.
JITTER = 0.2


class Aging:
    """One per node; owned by the event loop.

    Args:
        max_age_seconds: a connection lives this long, 20 percent more or less; 0 for ever.
        close: tells a session to come back and ends it.
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
