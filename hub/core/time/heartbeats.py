"""Signs of life, both ways, from one timer wheel.

Each session keeps one slot of the wheel, which turns once in `heartbeat_seconds`: there its
peer gets a heartbeat push (a browser cannot see pings) and, where the transport has one, a
ping. A pong is due `pong_timeout_seconds` after the ping was *due*, whether or not it could
be written: a reader that takes nothing at all is not slow but dead. Not counted is what is no
silence of the peer: time in which the node was held up, or did not read from it.
"""

import random
from collections import deque
from dataclasses import dataclass

from hub.core.counters import Counters
from hub.core.ports import Dialect, Monotonic
from hub.core.pushes import Heartbeat
from hub.core.session.session import Session
from hub.core.time.deadlines import GRANULARITY_SECONDS
from hub.errors import HeartbeatTimeoutError

# A slot has many sessions, so that most pongs come while others are written to, and few wake the
# process by themselves: that is a tenth of what an idle connection costs. Of 15,000 sessions 120
# share a slot, and take 2 ms.
_SLOTS = 125
# Nearly all pongs come sooner. What the kernel knows of a connection is asked only where one does
# not: to ask at each ping took an eighth of what an idle connection costs.
_LATE_SECONDS = 0.5
# At most this share of the time that a peer has.
_LATE_SHARE = 0.1


@dataclass(slots=True, eq=False)
class _Ping:
    """One that is not answered yet."""

    session: Session
    due_seconds: float
    """Monotonic ..."""
    awake_seconds: float
    """... and by the clock of `hub.core.time.deadlines`."""
    acknowledged_bytes: int = 0
    """What the peer's kernel had acknowledged then, or when the pong began to be late."""


class Heartbeats:
    """Owned by the event loop, which calls `tick` every `GRANULARITY_SECONDS` or later.

    Args:
        awake: counts no stall of the node; `clock` where None.
    """

    def __init__(
        self,
        *,
        heartbeat_seconds: float,
        pong_timeout_seconds: float,
        clock: Monotonic,
        counters: Counters,
        awake: Monotonic | None = None,
    ) -> None:
        self._awake = awake or clock
        self._pong_timeout_seconds = pong_timeout_seconds
        self._clock = clock
        self._counters = counters
        # Rounded down, so that the interval between two heartbeats is never longer than said.
        count = min(_SLOTS, max(1, int(heartbeat_seconds / GRANULARITY_SECONDS)))
        self._slots: list[set[Session]] = [set() for _ in range(count)]
        self._slot_seconds = heartbeat_seconds / count
        self._turned = int(clock() / self._slot_seconds)
        self._late_seconds = min(_LATE_SECONDS, pong_timeout_seconds * _LATE_SHARE)
        self._awaited: dict[Session, _Ping] = {}
        """The unanswered pings, the one due longest first."""
        self._young: deque[_Ping] = deque()
        """Those that are not late yet, and some that were answered meanwhile."""

    def add(self, session: Session) -> None:
        """Give the session a slot of its own, spread evenly over the interval."""
        session.beat_slot = int(random.random() * len(self._slots))
        self._slots[session.beat_slot].add(session)

    def remove(self, session: Session) -> None:
        self._slots[session.beat_slot].discard(session)
        self._awaited.pop(session, None)

    def tick(self) -> None:
        """Beat every session whose slot came up; close those whose pong is overdue."""
        now, awake = self._clock(), self._awake()
        turned = int(now / self._slot_seconds)
        # After a stall each slot is beaten once, not once for every turn missed.
        for turn in range(max(self._turned, turned - len(self._slots)) + 1, turned + 1):
            frames: dict[tuple[Dialect, bool], bytes] = {}
            for session in tuple(self._slots[turn % len(self._slots)]):
                self._beat(session, now, awake, turn, frames)
        self._turned = turned
        self._ask_of_late(awake)
        self._check(now, awake)

    def _beat(
        self,
        session: Session,
        now: float,
        awake: float,
        turn: int,
        frames: dict[tuple[Dialect, bool], bytes],
    ) -> None:
        """`frames` are those of this turn, the same for all who speak alike."""
        pings = stuck = False
        if session not in self._awaited:
            pings, stuck = session.link.answers_pings, not session.writable
            if pings or stuck:
                self._await(session, now, awake)
        said = (session.dialect, pings)
        if (frame := frames.get(said)) is None:
            frame = session.dialect.encode(Heartbeat(), "")
            if pings:
                frame += session.link.ping(turn.to_bytes(8))
            frames[said] = frame
        session.control(frame)

    def _await(self, session: Session, now: float, awake: float, *, late: bool = False) -> None:
        ping = self._awaited[session] = _Ping(session, now, awake)
        if session.writable and session.link.answers_pings and not late:
            self._young.append(ping)
        else:
            ping.acknowledged_bytes = session.link.acknowledged_bytes()

    def _ask_of_late(self, awake: float) -> None:
        """Note how far the kernels of those are whose pongs are late: from then on more of it is a
        sign of life."""
        young, since = self._young, awake - self._late_seconds
        while young and young[0].awake_seconds <= since:
            ping = young.popleft()
            if self._awaited.get(ping.session) is ping:
                ping.acknowledged_bytes = ping.session.link.acknowledged_bytes()

    def pong(self, session: Session) -> None:
        """The peer answered the ping."""
        if (ping := self._awaited.pop(session, None)) is not None:
            elapsed = self._clock() - ping.due_seconds
            session.round_trip_seconds = elapsed
            self._counters.heartbeat_round_trip.observe(elapsed)

    def _check(self, now: float, awake: float) -> None:
        while self._awaited:
            session, ping = next(iter(self._awaited.items()))
            if awake < ping.awake_seconds + self._pong_timeout_seconds:
                return
            del self._awaited[session]
            if session.writable and not session.link.answers_pings:
                continue
            if _was_not_read(session, ping) or self._is_slow(session, ping):
                self._await(session, now, awake, late=True)
            else:
                self._cut(session)

    def _is_slow(self, session: Session, ping: _Ping) -> bool:
        """Whether a peer without a pong is slow, not dead; a slow one gets as much time again.

        Slow is whose transport drained since the ping was due, or whose kernel acknowledged
        more of what it has no room for since the pong was late. Acknowledging the ping itself
        is no sign of life: a kernel with room does so for a program that hangs.
        """
        held_back = not session.writable or session.link.unsent_bytes() > 0
        return session.drained_at_seconds > ping.due_seconds or (
            held_back and session.link.acknowledged_bytes() > ping.acknowledged_bytes
        )

    def _cut(self, session: Session) -> None:
        stuck = not session.writable
        limit = self._pong_timeout_seconds
        session.close_error(HeartbeatTimeoutError(f"no sign of life for {limit:g} seconds"))
        if stuck:
            session.abort()


def _was_not_read(session: Session, ping: _Ping) -> bool:
    """Whether the pong may have come and not been looked at: the hub reads from nobody whose
    commands it cannot carry out as fast as they come.
    """
    return session.link.unread or session.read_again_at_seconds > ping.due_seconds
