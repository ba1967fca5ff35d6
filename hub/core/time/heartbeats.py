"""Signs of life in both directions, from one timer wheel.

The wheel turns once in `heartbeat_seconds`, and each session has one slot of it. In its slot the
peer gets a heartbeat push, because a browser cannot see pings, and a ping where the transport has
pings. A pong is due `pong_timeout_seconds` after the ping was *due*, whether or not the ping could
be written: a reader that takes nothing at all is dead, not slow. Time in which the node was held
up, or did not read from the peer, is not the peer's silence and does not count.
"""

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from hub.core.counters import Counters
from hub.core.ports import Defer, Dialect, Monotonic
from hub.core.pushes import Heartbeat
from hub.core.session.session import Session
from hub.core.time.deadlines import GRANULARITY_SECONDS
from hub.core.values import Struct
from hub.errors import HeartbeatTimeoutError

# Many sessions share a slot, so that most pongs come while the hub writes to others, and few wake
# the process alone, which was a tenth of the cost of an idle connection. With 15,000 sessions 120
# share a slot, and take 2 ms.
_SLOTS = 125
# Nearly all pongs come sooner. The kernel is asked about a connection only where one is late.
# Asking at each ping took an eighth of the cost of an idle connection.
_LATE_SECONDS = 0.5
# At most this share of the pong time-out.
_LATE_SHARE = 0.1
# Sessions that one turn of the loop looks at: 3 to 5 us each, with the write. Behind a stall all
# slots are due, and a node may have 100,000 sessions.
BEATS_AT_ONCE = 250
# Sessions that it cuts: 40 us each. Behind a broken network many are due together.
CUTS_AT_ONCE = 25


class _Ping(Struct, eq=False):
    """An unanswered ping."""

    session: Session
    due_seconds: float
    """Monotonic time."""
    awake_seconds: float
    """The same by `hub.core.time.deadlines.AwakeClock`."""
    acknowledged_bytes: int = 0
    """Bytes that the peer's kernel had acknowledged then, or when the pong began to be late."""


@dataclass(slots=True, eq=False)
class _Slot:
    """The sessions of a slot that are still to get the heartbeat of one turn of the wheel."""

    turn: int
    now_seconds: float
    awake_seconds: float
    """The time at which the heartbeat was due: pongs are due by it, also in a later turn."""
    sessions: Iterator[Session]
    frames: dict[tuple[Dialect, bool], bytes]
    """The heartbeat by dialect, with and without a ping."""


class Heartbeats:
    """The heartbeats of a node's sessions. Call `tick` every `GRANULARITY_SECONDS`.

    Args:
        defer: runs a callback in the loop's next turn, where more is due than one turn takes.
        awake: a clock that leaves out stalls of the node; `clock` where None.
    """

    def __init__(
        self,
        *,
        heartbeat_seconds: float,
        pong_timeout_seconds: float,
        clock: Monotonic,
        counters: Counters,
        defer: Defer,
        awake: Monotonic | None = None,
    ) -> None:
        self._defer = defer
        self._deferred = False
        self._due: deque[_Slot] = deque()
        self._awake = awake or clock
        self._pong_timeout_seconds = pong_timeout_seconds
        self._clock = clock
        self._counters = counters
        # Rounded down, so that the interval is never longer than the welcome tells.
        count = min(_SLOTS, max(1, int(heartbeat_seconds / GRANULARITY_SECONDS)))
        self._slots: list[set[Session]] = [set() for _ in range(count)]
        self._slot_seconds = heartbeat_seconds / count
        self._turned = int(clock() / self._slot_seconds)
        self._late_seconds = min(_LATE_SECONDS, pong_timeout_seconds * _LATE_SHARE)
        self._awaited: dict[Session, _Ping] = {}
        """The unanswered pings, longest due first."""
        self._young: deque[_Ping] = deque()
        """Pings that are not late yet, and some that were answered meanwhile."""

    def add(self, session: Session) -> None:
        """Give the session a random slot, so that sessions are spread evenly."""
        session.beat_slot = int(random.random() * len(self._slots))
        self._slots[session.beat_slot].add(session)

    def remove(self, session: Session) -> None:
        self._slots[session.beat_slot].discard(session)
        self._awaited.pop(session, None)

    def tick(self) -> None:
        """Send heartbeats in the slots that are due; close sessions whose pong is overdue."""
        now, awake = self._clock(), self._awake()
        turned = int(now / self._slot_seconds)
        # After a stall each slot gets one heartbeat, not one for every missed turn.
        for turn in range(max(self._turned, turned - len(self._slots)) + 1, turned + 1):
            sessions = iter(tuple(self._slots[turn % len(self._slots)]))
            self._due.append(_Slot(turn, now, awake, sessions, {}))
        self._turned = turned
        self._work(now, awake)

    def _work(self, now: float, awake: float) -> None:
        """Do a part of what is due, and the rest in the next turn of the loop."""
        done = self._beat_some() and self._ask_of_late(awake) and self._check(now, awake)
        if not done and not self._deferred:
            self._deferred = True
            self._defer(self._go_on)

    def _go_on(self) -> None:
        self._deferred = False
        self._work(self._clock(), self._awake())

    def _beat_some(self) -> bool:
        """Send some of the heartbeats that are due; return whether none is left."""
        left, beat = BEATS_AT_ONCE, self._beat
        while self._due:
            slot = self._due[0]
            for session in slot.sessions:
                # It may have ended since its slot was due.
                if not session.closing:
                    beat(session, slot)
                left -= 1
                if not left:
                    return False
            self._due.popleft()
        return True

    def _beat(self, session: Session, slot: _Slot) -> None:
        """Send one heartbeat."""
        pings = False
        if session not in self._awaited:
            pings = session.link.answers_pings
            if pings and session.writable:
                ping = self._awaited[session] = _Ping(session, slot.now_seconds, slot.awake_seconds)
                self._young.append(ping)
            elif pings or not session.writable:
                self._await_late(session, slot.now_seconds, slot.awake_seconds)
        kind = (session.dialect, pings)
        if (frame := slot.frames.get(kind)) is None:
            frame = session.dialect.encode(Heartbeat(), "")
            if pings:
                frame += session.link.ping(slot.turn.to_bytes(8))
            slot.frames[kind] = frame
        session.control(frame)

    def _await_late(self, session: Session, now: float, awake: float) -> None:
        """Await a sign of life of a peer that is held back, or whose pong is late already."""
        acknowledged = session.link.acknowledged_bytes()
        self._awaited[session] = _Ping(session, now, awake, acknowledged)

    def _ask_of_late(self, awake: float) -> bool:
        """Note the acknowledged bytes of some peers whose pongs are late; return whether all are
        noted.

        Bytes acknowledged after that are a sign of life.
        """
        young, since = self._young, awake - self._late_seconds
        if not self._awaited:
            # Nearly always: each pong has come.
            young.clear()
            return True
        for _ in range(BEATS_AT_ONCE):
            if not young or young[0].awake_seconds > since:
                return True
            ping = young.popleft()
            if self._awaited.get(ping.session) is ping:
                ping.acknowledged_bytes = ping.session.link.acknowledged_bytes()
        return False

    def pong(self, session: Session) -> None:
        """Take the peer's answer to a ping."""
        if (ping := self._awaited.pop(session, None)) is not None:
            elapsed = self._clock() - ping.due_seconds
            session.round_trip_seconds = elapsed
            self._counters.heartbeat_round_trip.observe(elapsed)

    def _check(self, now: float, awake: float) -> bool:
        """Judge some peers whose pongs are overdue; return whether none is left."""
        for _ in range(CUTS_AT_ONCE):
            if not self._awaited:
                return True
            session, ping = next(iter(self._awaited.items()))
            if awake < ping.awake_seconds + self._pong_timeout_seconds:
                return True
            del self._awaited[session]
            if session.writable and not session.link.answers_pings:
                continue
            if _was_not_read(session, ping) or self._is_slow(session, ping):
                self._await_late(session, now, awake)
            else:
                self._cut(session)
        return False

    def _is_slow(self, session: Session, ping: _Ping) -> bool:
        """Return whether a peer without a pong is slow, not dead. A slow one gets the time again.

        A peer is slow if its transport drained since the ping was due, or if its full kernel
        acknowledged more bytes since the pong was late. An acknowledged ping alone is no sign of
        life: a kernel with room acknowledges for a program that hangs.
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
    """Return whether the pong may have come unread.

    The hub stops reading from a peer whose commands come faster than it carries them out.
    """
    return session.link.unread or session.read_again_at_seconds > ping.due_seconds
