"""From publications to sessions: joined per tick, encoded once, written once per session.

Everything of one channel that comes before its turn is one batch; a channel's batches go out
strictly one after another. A broadcast to many sessions is cut in slices so that the loop
never stalls long, and what comes meanwhile is the next batch: the busier the hub, the more
each write carries. Nothing here is per session but that write.

Who is owed what is decided by offsets alone: a member ahead of a batch skips what it has, so
subscribing and going live in the middle of a broadcast neither repeats nor skips anything.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence

from hub.core.counters import Counters
from hub.core.fanout.channels import Batch, Channel, Group
from hub.core.fanout.open_changes import OpenChanges
from hub.core.fanout.slow_path import SlowPath
from hub.core.forensics.journal import Journal
from hub.core.ports import Defer, Monotonic
from hub.core.publication import Position, Publication
from hub.core.pushes import Gap, GapReason, Join, Leave, PresenceReset
from hub.core.session.encoded import Encoded, Item
from hub.core.session.session import Session
from hub.core.session.subscription import Subscription
from hub.errors import HubError

OnWritten = Callable[[Batch, Sequence[Publication], float], None]
"""Takes a batch that every member has been written, its publications, and for how many
seconds it was here."""


class Fanout:
    """One per node. `add` takes items in; they go out from the loop's next iteration on."""

    def __init__(
        self,
        *,
        defer: Defer,
        clock: Monotonic,
        counters: Counters,
        journal: Journal,
        slice_sessions: int,
        on_written: OnWritten | None = None,
    ) -> None:
        self._defer = defer
        self._clock = clock
        self._counters = counters
        self._journal = journal
        self._slow_path = SlowPath(clock=clock, journal=journal)
        self._slice_sessions = slice_sessions
        self._on_written = on_written
        self._ticking = False
        self._waiting: dict[Channel, None] = {}
        """Channels with an open batch and none under way, oldest first."""
        self._sending: deque[tuple[Channel, Generator[int, None, None]]] = deque()
        self._unmarked: dict[Session, None] = {}
        """Sessions whose positions are to be written at the end of the tick."""
        self.backlog_bytes = 0
        """Payload taken in and not yet written to every member."""

    def add(self, channel: Channel, item: Item) -> None:
        """Put an item at the end of the channel."""
        if not channel.open:
            channel.open_at_seconds = self._clock()
            if channel.under_way is None:
                self._waiting[channel] = None
                self._schedule()
        channel.open.append(item)
        if isinstance(item, Publication):
            channel.offset = item.offset or channel.offset
            self.backlog_bytes += len(item.data)
        elif isinstance(item, Gap):
            channel.offset = item.last or channel.offset

    def announce(self, channel: Channel, change: Join | Leave | PresenceReset) -> None:
        """Put a join or leave at the end of the channel, in place of what it makes superfluous."""
        if isinstance(change, PresenceReset):
            self.add(channel, change)
            return
        if (changes := channel.changes) is None:
            changes = channel.changes = OpenChanges()
        cancels = not channel.asking and self._clock() >= channel.cancels_from_seconds
        before = changes.dropped
        added = changes.take(change, channel.open, cancels=cancels)
        self._counters.presence_dropped += changes.dropped - before
        for item in added:
            self.add(channel, item)

    def asks_members(self, channel: Channel) -> None:
        """Somebody is being told who is there: what is told now must not undo what was."""
        channel.asking += 1
        channel.changes = None

    def told_members(self, channel: Channel, *, lag_seconds: float) -> None:
        """They were told; what they know of may come as late as `lag_seconds` from now."""
        channel.asking -= 1
        channel.changes = None
        channel.cancels_from_seconds = self._clock() + lag_seconds

    def reset(self, channel: Channel, head: Position) -> None:
        """Let the channel go on in another epoch: all of the old one goes out first."""
        self._finish(channel)
        before = {subscription: subscription.position for subscription in channel}
        for subscription in channel:
            self._journal.left(subscription, subscription.position.offset, "reset")
        channel.begin_epoch(head)
        for subscription in channel:
            self._journal.began(subscription, head.offset)
            self._journal.passed_over(subscription, head.offset)
        gap = Gap(channel.name, head.epoch, 0, head.offset, GapReason.RESET)
        for group in channel.groups():
            frame = group.dialect.encode(gap, head.epoch)
            for subscription in group.members:
                self._slow_path.reset(subscription, frame, before[subscription])
                if group.dialect.marks_positions:
                    self.mark(subscription.session)

    def _finish(self, channel: Channel) -> None:
        """Send all that is open or under way now, without slices."""
        if self._waiting.pop(channel, 0) is None:
            self._sending.append((channel, self._send(channel)))
        for sending in [work for other, work in self._sending if other is channel]:
            deque(sending, maxlen=0)

    def settle(self, subscription: Subscription) -> None:
        """Write to one member at once what its channel still has for it, before it leaves."""
        channel = subscription.channel
        for batch in (channel.under_way, channel.open_batch() if channel.open else None):
            if batch is not None and batch.owes(subscription):
                dialect = subscription.session.dialect
                self._write(batch, batch.encoded(dialect), (subscription,))

    def mark(self, session: Session) -> None:
        """Have the session's positions written at the end of this tick."""
        self._unmarked[session] = None
        self._schedule()

    def _schedule(self) -> None:
        if not self._ticking:
            self._ticking = True
            self._defer(self._tick)

    def _tick(self) -> None:
        self._ticking = False
        for channel in self._waiting:
            self._sending.append((channel, self._send(channel)))
        self._waiting.clear()
        try:
            self._send_slices()
        finally:
            # Also when a fault ends this tick: the other channels go on with the next.
            if self._sending or self._waiting:
                self._schedule()
        self._write_marks()

    def _send_slices(self) -> None:
        spent = 0
        while self._sending and spent < self._slice_sessions:
            channel, sending = self._sending.popleft()
            if written := next(sending, 0):
                spent += written
                self._sending.append((channel, sending))

    def _send(self, channel: Channel) -> Generator[int, None, None]:
        """Send batch after batch until nothing is open; yield how many sessions each step took."""
        while channel.open:
            batch = channel.seal()
            try:
                for group in batch.groups:
                    yield from self._send_group(channel, batch, group)
            except Exception:
                _end_those_without(batch)
                if channel.open:
                    self._waiting[channel] = None
                raise
            finally:
                # Also when a fault ends this: the channel must not wait for it for ever.
                channel.under_way = None
                self._sent(channel, batch)

    def _send_group(
        self, channel: Channel, batch: Batch, group: Group
    ) -> Generator[int, None, None]:
        encoded = batch.encoded(group.dialect)
        for start in range(0, len(group.members), self._slice_sessions):
            members = group.members[start : start + self._slice_sessions]
            self._write(batch, encoded, members)
            batch.sent += len(members)
            # As it is spoken by now: a second channel may have come since the batch was sealed.
            may_differ = group.dialect.several is not None and not channel.unchanged_since(batch)
            if group.dialect.marks_positions or may_differ:
                sessions = [member.session for member in members]
                self._unmarked.update((s, None) for s in sessions if s.dialect.marks_positions)
            yield len(members)

    def _sent(self, channel: Channel, batch: Batch) -> None:
        self._journal.sent(channel.name, batch, since_seconds=channel.sent_since(batch))
        publications = [item for item in batch.items if isinstance(item, Publication)]
        self.backlog_bytes -= sum(len(item.data) for item in publications)
        elapsed = self._clock() - batch.at_seconds
        self._counters.publish_to_write.observe(elapsed, len(publications))
        if self._on_written is not None:
            self._on_written(batch, publications, elapsed)

    def _write(self, batch: Batch, encoded: Encoded, members: Sequence[Subscription]) -> None:
        """The hot loop: everything that is not one comparison and one write stands elsewhere."""
        base, last = batch.base, batch.last
        data, size, publications = encoded.data, encoded.size, encoded.publications
        skips = batch.skips or None
        apart = 0
        for subscription in members:
            session = subscription.session
            if (
                subscription.offset != base
                or not session.writable
                or (skips is not None and session.id in skips)
            ):
                apart += 1
                self._slow_path.catch_up(subscription, batch, encoded)
                continue
            subscription.offset = last
            if (taken := session.link.send(data)) != size:
                apart += 1
                self._slow_path.owe_rest(subscription, encoded, taken)
                continue
            session.sent += publications
        delivered = len(members) - apart
        self._counters.deliveries += delivered * publications
        self._counters.bytes_sent += delivered * size

    def _write_marks(self) -> None:
        unmarked, self._unmarked = self._unmarked, {}
        for session in unmarked:
            session.write_positions()


def _end_those_without(batch: Batch) -> None:
    """A fault ended the broadcast: whom it did not reach must not go on as if it had.

    They come back and resume where they were.
    """
    members = [member for group in batch.groups for member in group.members]
    for member in members[batch.sent :]:
        # Where offsets do not tell, also who was reached by the slice that failed.
        if member.live and (member.offset < batch.last or batch.base == batch.last):
            member.session.close_error(HubError("internal error"))
