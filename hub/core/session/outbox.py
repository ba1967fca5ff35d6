"""The bounded queue of everything that one session is owed.

It exists only while the peer's transport takes no writes. It has a control lane, which overtakes
data, and a ring for each subscription, which keeps the order of that channel. The limits of a
session and of the process are enforced here. An outbox knows sessions and subscriptions only
through a protocol (`Owed`). No I/O, no clock of its own.
"""

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from hub.core.counters import Counters
from hub.core.forensics.journal import Journal, NotedChannel, NotedSubscription
from hub.core.options import ChannelOptions, Overflow, SessionLimits
from hub.core.ports import Dialect
from hub.core.pushes import Gap, PresenceReset
from hub.core.session.outbox_budget import OutboxBudget
from hub.core.session.ring import Entry, EntryKind, Hole, Ring, Taken

# One chunk goes to the transport at a time. The rest that the kernel does not take of it can no
# longer be dropped. As large as what the kernel keeps unsent (TCP_NOTSENT_LOWAT).
CHUNK_BYTES = 16 * 1024
Unsent = tuple[int, int, str]
"""The first and last offset that were still owed, and their epoch."""


class OwedChannel(NotedChannel, Protocol):
    """A channel as an outbox sees it."""

    @property
    def options(self) -> ChannelOptions: ...


class Owed(NotedSubscription, Protocol):
    """A subscription as an outbox sees it."""

    ring: Ring | None
    dropped: int

    @property
    def channel(self) -> OwedChannel: ...

    @property
    def closed(self) -> bool: ...


class Outbox:
    """The frames one session is owed; made with the first, dropped when nothing is owed."""

    __slots__ = (
        "_control", "_control_bytes", "_counters", "_journal", "_limits", "_outbox_budget", "bytes",
        "forgiven_seconds", "rings",
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
        """Seconds for which the node was held up. They do not count as age."""
        self.bytes = 0
        """Bytes of all rings and the control lane."""
        self.rings: dict[Owed, Ring] = {}

    @property
    def messages(self) -> int:
        return sum(len(ring) for ring in self.rings.values())

    def oldest_at(self) -> float | None:
        """Return the monotonic time of the oldest frame in any ring."""
        times = [ring.oldest_at for ring in self.rings.values()]
        return min((time for time in times if time is not None), default=None)

    def _grow(self, size: int) -> None:
        self.bytes += size
        self._outbox_budget.bytes += size

    def control(self, frame: bytes) -> bool:
        """Owe a frame that overtakes data; return False when the lane is over its limit."""
        self._control.append(frame)
        self._control_bytes += len(frame)
        self._grow(len(frame))
        return self._within_control_limit()

    def _within_control_limit(self) -> bool:
        kept = sum(ring.kept_bytes for ring in self.rings.values())
        return self._control_bytes + kept <= self._limits.control_max_bytes

    def ring(self, subscription: Owed, cursor: int) -> Ring:
        """Return the subscription's ring; a new one begins after `cursor`."""
        if (ring := subscription.ring) is None:
            channel = subscription.channel
            ring = Ring(cursor, channel.options.overflow, subscription.epoch)
            subscription.ring = self.rings[subscription] = ring
        return ring

    def owe(
        self,
        subscription: Owed,
        entries: Iterable[Entry],
        cursor: int,
        now_seconds: float,
    ) -> str | None:
        """Owe frames of one channel, and drop others by the overflow policy.

        Return the reason for which the session must be closed instead, or None.

        Args:
            cursor: the last offset already handed over, where the ring is new.
            now_seconds: monotonic, for the age limit.
        """
        ring = self.ring(subscription, cursor)
        for entry in entries:
            before = ring.bytes
            if (replaced := ring.append(entry)) is not None:
                subscription.dropped += 1
                self._counters.dropped[Overflow.LATEST_PER_KEY] += 1
                self._journal.conflated(subscription, replaced.offset, entry.offset, ring.epoch)
            self._grow(ring.bytes - before)
            if entry.kind is EntryKind.KEEP and not self._within_control_limit():
                return f"replies waiting are over {self._limits.control_max_bytes:,} bytes"
            while (owner := self._over_limit(subscription, now_seconds)) is not None:
                if (reason := self._give_way(owner)) is not None:
                    return reason
        return None

    def _over_limit(self, subscription: Owed, now_seconds: float) -> Owed | None:
        """Return the subscription whose ring has to give way; None while all rings fit.

        It is this subscription where its ring has too many messages, or one too old. It is the one
        with the largest ring where the session has too many bytes.
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
        """Return the monotonic time before which frames are too old."""
        return now_seconds - self._limits.outbox_max_age_seconds - self.forgiven_seconds

    def _give_way(self, owner: Owed) -> str | None:
        """Drop one entry of a ring; return why the session must be closed instead, or None."""
        ring = self.rings[owner]
        if ring.overflow is Overflow.DISCONNECT:
            self._counters.dropped[Overflow.DISCONNECT] += ring.droppable
            return f"channel {owner.channel.name} does not drop and its outbox is full"
        before = ring.bytes
        entry = ring.drop_oldest()
        self._grow(ring.bytes - before)
        if entry is None:
            return f"outbox is over {self._limits.outbox_max_bytes:,} bytes with nothing to drop"
        if entry.kind is EntryKind.PRESENCE:
            self._counters.presence_dropped += 1
        else:
            owner.dropped += 1
            self._counters.dropped[Overflow.DROP_OLDEST] += 1
            self._journal.dropped(owner, entry.offset, ring.epoch, ring.overflow)
        return None

    def forget(self, subscription: Owed) -> tuple[int, list[Entry]]:
        """Drop the subscription's ring.

        Return the number of dropped messages, and the replies that are still owed.
        """
        ring = self.rings.pop(subscription)
        subscription.ring = None
        self._grow(-ring.bytes)
        return ring.droppable, ring.replies()

    def part(self, subscription: Owed) -> Unsent | None:
        """Drop the subscription's ring; return the range that was not sent, and its epoch."""
        if (ring := self.rings.pop(subscription, None)) is None:
            return None
        subscription.ring = None
        self._grow(-ring.bytes)
        return (ring.cursor + 1, ring.last, ring.epoch) if ring.last > ring.cursor else None

    def expire(self, now_seconds: float) -> None:
        """Drop frames over the age limit, where the overflow policy drops any."""
        before_seconds = self._since(now_seconds)
        for subscription, ring in self.rings.items():
            if ring.overflow is Overflow.DISCONNECT:
                continue
            while (oldest := ring.oldest_at) is not None and oldest < before_seconds:
                if self._give_way(subscription) is not None:
                    break

    def chunk(self, dialect: Dialect) -> tuple[bytes, int]:
        """Take the next owed frames, about `CHUNK_BYTES`; b"" when nothing is owed.

        The control lane goes first, then the rings in turn. Return the bytes, and the number of
        publications in them.
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
                # A later subscription to the same channel must come behind it.
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
            return encode(PresenceReset(channel.name), subscription.epoch)

        return ring.take(announce, presence_reset)

    def release(self) -> None:
        """Drop everything, and note the ranges that were not sent."""
        self._grow(-self.bytes)
        for subscription, ring in self.rings.items():
            if ring.last > ring.cursor:
                self._journal.unsent(subscription, ring.cursor + 1, ring.last, ring.epoch)
            subscription.ring = None
        self.rings.clear()
        self._control.clear()
        self._control_bytes = 0
