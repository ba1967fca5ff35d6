"""The bytes that all sessions of a process are owed together, and their bound.

At the bound the sessions that are owed most are closed. The budget knows sessions only through a
protocol (`Debtor`).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from heapq import nlargest
from itertools import islice
from operator import attrgetter
from typing import Protocol

# When memory runs out, a peer whose transport still holds more than this is aborted: waiting until
# it has taken that and the goodbye would hold the memory. Any slow reader may have less in flight,
# and most of those still get the reason of their close.
ABORT_FROM_BYTES = 128 * 1024
# Sessions looked at in one step for the age of what they are owed: 1.6 us each (measured).
LOOKED_AT_ONCE = 500
# Sessions that may be closed for memory by one look at all of them.
CLOSED_IN_A_LOOK = 32


class Owing(Protocol):
    """An outbox as the budget sees it."""

    forgiven_seconds: float

    def oldest_at(self) -> float | None: ...


class Debtor(Protocol):
    """A session as the budget of all outboxes sees it."""

    @property
    def outbox(self) -> Owing | None: ...

    @property
    def handed_bytes(self) -> int: ...

    @property
    def held_bytes(self) -> int: ...

    def close_slow(self, reason: str) -> None: ...

    def abort(self) -> None: ...


class OutboxBudget:
    """The bytes that all sessions of the process are owed together, and their bound."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._is_put_off = False
        self._round: Iterator[Debtor] = iter(())
        """The sessions that `look` has still to look at in this round."""
        self._oldest: float | None = None
        self._oldest_so_far: float | None = None
        self.bytes = 0
        """Bytes in all outboxes."""
        self.handed_bytes = 0
        """Bytes that transports hold because their peers do not take them: the rests of frames that
        were begun. One may be a reply of a MiB."""
        self.leaving_bytes = 0
        """The same for closed sessions, until their connections are gone."""
        self.polled_bytes = 0
        """Bytes of polls that are not answered yet. They have the same bound a second time
        (`polled_room`). At it polls are answered early, and no session is closed."""
        self.unkept: dict[Debtor, int] = {}
        """Bytes of unkept publications (`hub.core.session.withheld.Unkept`) by session."""
        self.unkept_bytes = 0
        """Their sum. It has the same bound a third time (`unkept_room`), at which the oldest
        publication of a subscription gives way."""
        self.sessions: dict[Debtor, None] = {}
        """Sessions that are owed anything, longest first."""

    @property
    def total_bytes(self) -> int:
        """All bytes that are held for peers."""
        held = self.polled_bytes + self.unkept_bytes
        return self.bytes + self.handed_bytes + self.leaving_bytes + held

    @property
    def polled_room(self) -> int:
        """Bytes that all polls together may still take."""
        return max(0, self.max_bytes - self.polled_bytes)

    @property
    def unkept_room(self) -> int:
        """Bytes that unkept publications may still take."""
        return max(0, self.max_bytes - self.unkept_bytes)

    def hold(self, session: Debtor, size: int) -> None:
        """Count `size` more bytes of unkept publications of a session; less where negative."""
        self.unkept_bytes += size
        held_bytes = self.unkept.pop(session, 0) + size
        if held_bytes:
            self.unkept[session] = held_bytes

    @property
    def bounded_bytes(self) -> int:
        """The bytes under the bound. Nothing more can be dropped of closed sessions."""
        return self.bytes + self.handed_bytes

    def handed(self, session: Debtor, size: int) -> None:
        """Count `size` more bytes that the session's transport holds."""
        self.handed_bytes += size
        self.sessions[session] = None

    def taken(self, session: Debtor, size: int, *, leaving: bool) -> None:
        """Count that the peer took what its transport held; `leaving` for a closed session."""
        if leaving:
            self.leaving_bytes -= size
            return
        self.handed_bytes -= size
        if session.outbox is None:
            self.sessions.pop(session, None)

    def leaves(self, session: Debtor) -> None:
        """Count the bytes that a closed session's transport still holds as leaving."""
        self.sessions.pop(session, None)
        self.handed_bytes -= session.handed_bytes
        self.leaving_bytes += session.handed_bytes

    @contextmanager
    def put_off(self) -> Iterator[None]:
        """Close no session within the block, and relieve at its end.

        For a change of many sessions: one that is closed in the middle of it would resume from a
        position that is half changed.
        """
        self._is_put_off = True
        try:
            yield
        finally:
            self._is_put_off = False
            self.relieve()

    def relieve(self) -> None:
        """At the bound, close the sessions that are owed most, until there is room."""
        if self._is_put_off:
            return
        while self._is_over and self.sessions:
            # To look at 15,000 sessions takes 3 ms; several often have to go.
            for most in nlargest(CLOSED_IN_A_LOOK, self.sessions, key=attrgetter("held_bytes")):
                if self._is_over and most in self.sessions:
                    handed = most.handed_bytes
                    most.close_slow(f"all outboxes together are over {self.max_bytes:,} bytes")
                    if handed > ABORT_FROM_BYTES:
                        most.abort()

    @property
    def _is_over(self) -> bool:
        return self.bytes + self.handed_bytes > self.max_bytes

    def forgive(self, seconds: float) -> None:
        """Leave `seconds` out of the age of owed frames, because the node was held up."""
        for session in self.sessions:
            if session.outbox is not None:
                session.outbox.forgiven_seconds += seconds

    def oldest_at(self) -> float | None:
        """Return the monotonic time of the oldest owed frame; None without any.

        With very many sessions it is that of the last round of `look`.
        """
        if len(self.sessions) <= LOOKED_AT_ONCE:
            return self._oldest_of(self.sessions)
        found = (self._oldest, self._oldest_so_far)
        return min((at for at in found if at is not None), default=None)

    def look(self) -> None:
        """Look for the oldest owed frame at the next sessions; call it with each tick."""
        if len(self.sessions) <= LOOKED_AT_ONCE:
            self._round, self._oldest, self._oldest_so_far = iter(()), None, None
            return
        if not (some := tuple(islice(self._round, LOOKED_AT_ONCE))):
            self._oldest, self._oldest_so_far = self._oldest_so_far, None
            self._round = iter(tuple(self.sessions))
            some = tuple(islice(self._round, LOOKED_AT_ONCE))
        found = (self._oldest_so_far, self._oldest_of(some))
        self._oldest_so_far = min((at for at in found if at is not None), default=None)

    def _oldest_of(self, sessions: Iterable[Debtor]) -> float | None:
        outboxes = (session.outbox for session in sessions)
        found = (outbox.oldest_at() for outbox in outboxes if outbox is not None)
        return min((at for at in found if at is not None), default=None)
