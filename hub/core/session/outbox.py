"""The bounded queue of everything a session is still owed.

It exists only while the peer's transport takes no writes: a control lane, which overtakes,
and a ring per subscription, which keeps that channel's order. The limits of a session
and the limit of the process act here. Sessions and subscriptions are known by what an outbox
needs of them (`Owed`, `Debtor`). No I/O, no clock of its own.
"""

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from hub.core.counters import Counters
from hub.core.forensics.journal import Journal, Place, PlaceChannel
from hub.core.options import ChannelOptions, Overflow, SessionLimits
from hub.core.ports import Dialect
from hub.core.pushes import Gap, PresenceReset
from hub.core.session.ring import Entry, Hole, Kind, Ring, Taken

# One chunk goes to the transport at a time; what the kernel does not take of it can no longer
# be dropped. As large as what the kernel keeps unsent (TCP_NOTSENT_LOWAT).
CHUNK_BYTES = 16 * 1024
# A peer whose transport still holds more than this when it has to go for want of memory is
# aborted: to wait until it takes that, and the goodbye behind it, would hold the memory. Smaller
# is what any slow reader may have in flight, and most of those still hear why they are closed.
ABORT_FROM_BYTES = 128 * 1024


class OwedChannel(PlaceChannel, Protocol):
    """A channel as an outbox sees it."""

    @property
    def options(self) -> ChannelOptions: ...


class Owed(Place, Protocol):
    """A subscription as an outbox sees it."""

    ring: Ring | None
    dropped: int

    @property
    def channel(self) -> OwedChannel: ...

    @property
    def closed(self) -> bool: ...


class Debtor(Protocol):
    """A session as the budget of all outboxes sees it."""

    @property
    def outbox(self) -> "Outbox | None": ...

    @property
    def handed_bytes(self) -> int: ...

    @property
    def held_bytes(self) -> int: ...

    def close_slow(self, reason: str) -> None: ...

    def abort(self) -> None: ...


class OutboxBudget:
    """What all sessions of the process are owed together, and the bound on it."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        """Of all outboxes."""
        self.handed_bytes = 0
        """What transports hold because their peers do not take it: the rest of a frame that was
        begun, which may be a reply of a MiB."""
        self.leaving_bytes = 0
        """The same of sessions that are closed, until their connections are gone."""
        self.polled_bytes = 0
        """What polls hold that are not answered yet. It has the same bound once more
        (`polled_room`), at which they are answered with what they have: nobody is closed."""
        self.unkept: dict[Debtor, int] = {}
        """What is held for sessions that read history, which does not hold it."""
        self.unkept_bytes = 0
        """The same of all. It has the same bound once more (`unkept_room`), at which the oldest
        of a subscription gives way."""
        self.sessions: dict[Debtor, None] = {}
        """Those that are owed anything, in the order that began."""

    @property
    def total_bytes(self) -> int:
        """All that is held for peers."""
        held = self.polled_bytes + self.unkept_bytes
        return self.bytes + self.handed_bytes + self.leaving_bytes + held

    @property
    def polled_room(self) -> int:
        """How many bytes more all polls together may hold."""
        return max(0, self.max_bytes - self.polled_bytes)

    @property
    def unkept_room(self) -> int:
        """How many bytes more may be held of what history does not hold."""
        return max(0, self.max_bytes - self.unkept_bytes)

    def hold(self, session: Debtor, size: int) -> None:
        """Count so much more, or less, that is held for a session that reads history."""
        self.unkept_bytes += size
        its = self.unkept.pop(session, 0) + size
        if its:
            self.unkept[session] = its

    @property
    def bounded_bytes(self) -> int:
        """What the bound holds for: of sessions that are closed nothing more can be taken away."""
        return self.bytes + self.handed_bytes

    def handed(self, session: Debtor, size: int) -> None:
        """The session's transport holds so much more."""
        self.handed_bytes += size
        self.sessions[session] = None

    def taken(self, session: Debtor, size: int, *, leaving: bool) -> None:
        """The peer has taken what its transport held; `leaving` where its session is closed."""
        if leaving:
            self.leaving_bytes -= size
            return
        self.handed_bytes -= size
        if session.outbox is None:
            self.sessions.pop(session, None)

    def leaves(self, session: Debtor) -> None:
        """The session is closed: what its transport still holds counts as leaving."""
        self.sessions.pop(session, None)
        self.handed_bytes -= session.handed_bytes
        self.leaving_bytes += session.handed_bytes

    def relieve(self) -> None:
        """At the bound, close the sessions that are owed most until there is room again."""
        while self.bytes + self.handed_bytes > self.max_bytes and self.sessions:
            most = max(self.sessions, key=lambda session: session.held_bytes)
            handed = most.handed_bytes
            most.close_slow(f"all outboxes together are over {self.max_bytes:,} bytes")
            if handed > ABORT_FROM_BYTES:
                most.abort()

    def forgive(self, seconds: float) -> None:
        """The node was held up for so long: what is owed is not too old by that."""
        for session in self.sessions:
            if session.outbox is not None:
                session.outbox.forgiven_seconds += seconds

    def oldest_at(self) -> float | None:
        """When what is owed longest was put in, monotonic seconds; None where nothing is."""
        outboxes = (session.outbox for session in self.sessions)
        found = (outbox.oldest_at() for outbox in outboxes if outbox is not None)
        return min((at for at in found if at is not None), default=None)


class Outbox:
    """Made at the first frame that cannot be written, dropped when nothing is owed."""

    __slots__ = (
        "_control",
        "_control_bytes",
        "_counters",
        "_journal",
        "_limits",
        "_outbox_budget",
        "bytes",
        "forgiven_seconds",
        "rings",
    )  # fmt: skip

    def __init__(
        self,
        limits: SessionLimits,
        outbox_budget: OutboxBudget,
        counters: Counters,
        journal: Journal,
    ) -> None:
        self._limits = limits
        self._outbox_budget = outbox_budget
        self._counters = counters
        self._journal = journal
        self._control: deque[bytes] = deque()
        self._control_bytes = 0
        self.forgiven_seconds = 0.0
        """Of the age of what it holds, for which the node was held up."""
        self.bytes = 0
        """Of all rings and the control lane."""
        self.rings: dict[Owed, Ring] = {}

    @property
    def messages(self) -> int:
        return sum(len(ring) for ring in self.rings.values())

    def oldest_at(self) -> float | None:
        """Monotonic time of the oldest frame in any ring."""
        times = [ring.oldest_at for ring in self.rings.values()]
        return min((time for time in times if time is not None), default=None)

    def _grow(self, size: int) -> None:
        self.bytes += size
        self._outbox_budget.bytes += size

    def control(self, frame: bytes) -> bool:
        """Owe a frame that overtakes data; False when the lane is over its limit."""
        self._control.append(frame)
        self._control_bytes += len(frame)
        self._grow(len(frame))
        return self._within_control_limit()

    def _within_control_limit(self) -> bool:
        kept = sum(ring.kept_bytes for ring in self.rings.values())
        return self._control_bytes + kept <= self._limits.control_max_bytes

    def ring(self, subscription: Owed, cursor: int) -> Ring:
        """The subscription's ring; a new one begins behind `cursor`."""
        if (ring := subscription.ring) is None:
            channel = subscription.channel
            ring = Ring(cursor, channel.options.overflow, channel.epoch)
            subscription.ring = self.rings[subscription] = ring
        return ring

    def owe(
        self,
        subscription: Owed,
        entries: Iterable[Entry],
        cursor: int,
        now_seconds: float,
    ) -> str | None:
        """Owe frames of one channel, dropping what the overflow policy says.

        Args:
            cursor: the last offset already handed over, where the ring is new.
            now_seconds: monotonic, for the age limit.

        Returns why the session must be closed instead, or None.
        """
        ring = self.ring(subscription, cursor)
        for entry in entries:
            before = ring.bytes
            if (replaced := ring.append(entry)) is not None:
                subscription.dropped += 1
                self._counters.dropped[Overflow.LATEST_PER_KEY] += 1
                self._journal.conflated(subscription, replaced.offset, entry.offset, ring.epoch)
            self._grow(ring.bytes - before)
            if entry.kind is Kind.KEEP and not self._within_control_limit():
                return f"replies waiting are over {self._limits.control_max_bytes:,} bytes"
            while (owner := self._over_limit(subscription, now_seconds)) is not None:
                if (reason := self._give_way(owner)) is not None:
                    return reason
        return None

    def _over_limit(self, subscription: Owed, now_seconds: float) -> Owed | None:
        """The ring that has to give way now that this one is owed more; None while all fits.

        Its own ring where that has too many messages or one too old; the largest where the
        session's bytes are short.
        """
        ring, limits = self.rings[subscription], self._limits
        oldest = ring.oldest_at
        too_old = oldest is not None and oldest < self._since(now_seconds)
        if too_old or ring.droppable > limits.outbox_max_messages:
            return subscription
        if self.bytes <= limits.outbox_max_bytes:
            return None
        if ring.bytes * len(self.rings) >= self.bytes:
            return subscription
        return max(self.rings, key=lambda other: self.rings[other].bytes)

    def _since(self, now_seconds: float) -> float:
        """What was put in before that is too old."""
        return now_seconds - self._limits.outbox_max_age_seconds - self.forgiven_seconds

    def _give_way(self, owner: Owed) -> str | None:
        """Drop one entry of this ring; return why the session must be closed instead, or None."""
        ring = self.rings[owner]
        if ring.overflow is Overflow.DISCONNECT:
            self._counters.dropped[Overflow.DISCONNECT] += ring.droppable
            return f"channel {owner.channel.name} does not drop and its outbox is full"
        before = ring.bytes
        entry = ring.drop_oldest()
        self._grow(ring.bytes - before)
        if entry is None:
            return f"outbox is over {self._limits.outbox_max_bytes:,} bytes with nothing to drop"
        if entry.kind is Kind.PRESENCE:
            self._counters.presence_dropped += 1
        else:
            owner.dropped += 1
            self._counters.dropped[Overflow.DROP_OLDEST] += 1
            self._journal.dropped(owner, entry.offset, ring.epoch, ring.overflow)
        return None

    def forget(self, subscription: Owed) -> tuple[int, list[Entry]]:
        """Owe the subscription nothing any more.

        Returns how many publications that drops, and the replies it has to get all the same.
        """
        ring = self.rings.pop(subscription)
        subscription.ring = None
        self._grow(-ring.bytes)
        replies = ring.replies()
        return len(ring) - len(replies), replies

    def expire(self, now_seconds: float) -> None:
        """Drop what is over the age limit, where the policy drops at all."""
        before_seconds = self._since(now_seconds)
        for subscription, ring in self.rings.items():
            if ring.overflow is Overflow.DISCONNECT:
                continue
            while (oldest := ring.oldest_at) is not None and oldest < before_seconds:
                if self._give_way(subscription) is not None:
                    break

    def chunk(self, dialect: Dialect) -> tuple[bytes, int]:
        """Take what is owed next, about `CHUNK_BYTES`; b"" when nothing is owed any more.

        The control lane goes first, then the rings in turn. Returns the bytes, and how many
        publications they carry.
        """
        frames: list[bytes] = []
        size = publications = 0
        while self._control and size < CHUNK_BYTES:
            frames.append(self._control.popleft())
            size += len(frames[-1])
            self._control_bytes -= len(frames[-1])
            self._grow(-len(frames[-1]))
        while self.rings and size < CHUNK_BYTES:
            subscription = next(iter(self.rings))
            ring = self.rings.pop(subscription)
            before, cursor = ring.bytes, ring.cursor
            for frame, is_publication in self._take(dialect, subscription, ring):
                frames.append(frame)
                size += len(frame)
                publications += is_publication
                if size >= CHUNK_BYTES:
                    break
            self._grow(ring.bytes - before)
            if ring.cursor > cursor:
                self._journal.late(subscription, cursor + 1, ring.cursor, ring.epoch)
            if ring.empty:
                subscription.ring = None
            elif subscription.closed:
                # Its successor in the same channel, if there is one, stands behind it.
                self.rings = {subscription: ring, **self.rings}
            else:
                self.rings[subscription] = ring
        return b"".join(frames), publications

    def _take(self, dialect: Dialect, subscription: Owed, ring: Ring) -> Iterable[Taken]:
        channel, encode = subscription.channel, dialect.encode

        def announce(hole: Hole) -> bytes:
            self._counters.gaps[hole.reason] += 1
            gap = Gap(
                channel.name, ring.epoch, hole.first, hole.last, hole.reason, hole.unsequenced
            )
            return encode(gap, ring.epoch)

        def presence_reset() -> bytes:
            return encode(PresenceReset(channel.name), channel.epoch)

        return ring.take(announce, presence_reset)

    def release(self) -> None:
        """Owe nothing any more."""
        self._grow(-self.bytes)
        for subscription, ring in self.rings.items():
            if ring.last > ring.cursor:
                self._journal.unsent(subscription, ring.cursor + 1, ring.last, ring.epoch)
            subscription.ring = None
        self.rings.clear()
        self._control.clear()
        self._control_bytes = 0
