"""Sends publications to sessions: gathered in a batch per tick, encoded once, written once each.

All publications of one channel that come before its turn are one batch. A broadcast to many
sessions is cut in slices, so that it never stalls the loop for long. A slice is a turn of one group
of members, or of several small ones. Each group gets in its turn all that came since its last one
(`hub.core.fanout.channels`): the busier the hub, the more each write carries. A batch that grows
fast waits for more, up to a millisecond. For members in step (`hub.core.fanout.group`) a batch is
one write for each descriptor and nothing else. For members apart it goes through their sessions.

Offsets alone decide which part of a batch a member gets. A member ahead of a batch skips what it
has, so subscribing and going live in the middle of a broadcast neither repeats nor skips anything.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from hub.core.counters import Counters
from hub.core.fanout.batch import Act, Batch
from hub.core.fanout.channels import Channel
from hub.core.fanout.group import Group
from hub.core.fanout.in_step import InStep, Short
from hub.core.fanout.member_acts import MemberActs, end_all, move
from hub.core.fanout.open_changes import OpenChanges
from hub.core.fanout.slow_path import SlowPath
from hub.core.forensics.journal import Journal
from hub.core.options import KIB
from hub.core.ports import Defer, Monotonic, WriteEach
from hub.core.publication import ENDS, Position, Publication
from hub.core.pushes import Change, Gap, PresenceReset
from hub.core.session.encoded import Item
from hub.core.session.outbox_budget import OutboxBudget
from hub.core.session.session import Session
from hub.core.session.subscription import Subscription
from hub.core.time.deadlines import Deadlines

OnWritten = Callable[[Batch, Sequence[Publication], float], None]
"""Called with a batch that was written to every member, its publications, and its seconds here."""


FindSession = Callable[[str], Session | None]
"""Finds an open session of this node by its connection."""

# A batch that got so many items since the last tick waits for more. A busy publisher's piece of a
# turn (`hub/transports/turns.py`) has some eighteen, and a write costs as much as several items.
GROWTH_ITEMS = 8
# It waits until its first item is so old. Measured: to 10 subscribers, 1 ms gives 1.4 times the
# deliveries of no wait, and 2 ms no more.
GATHER_SECONDS = 0.001
# It does not wait where so much payload is not yet written: a write is large enough then.
GATHER_BYTES = 64 * KIB


@dataclass(frozen=True, slots=True)
class FanoutRuntime:
    """Clock, timers and the writing call that the process lends the fan-out."""

    defer: Defer
    clock: Monotonic
    write_each: WriteEach
    deadlines: Deadlines


class Fanout:
    """The fan-out of a node. `add` takes items; they go out from the loop's next iteration on."""

    def __init__(
        self,
        *,
        runtime: FanoutRuntime,
        counters: Counters,
        journal: Journal,
        outbox_budget: OutboxBudget,
        find_session: FindSession,
        slice_sessions: int,
        on_written: OnWritten | None = None,
    ) -> None:
        self._defer = runtime.defer
        self._clock = runtime.clock
        self._counters = counters
        self._journal = journal
        self._outbox_budget = outbox_budget
        self._slow_path = SlowPath(
            clock=runtime.clock, deadlines=runtime.deadlines, counters=counters, journal=journal
        )
        self._acts = MemberActs(journal, self._slow_path, self.mark)
        self._write_each = runtime.write_each
        self._in_step = InStep(runtime.write_each, counters, self._slow_path)
        self._find_session = find_session
        self._slice_sessions = slice_sessions
        self._on_written = on_written
        self.on_ended: Callable[[Channel], None] | None = None
        """Called with a channel whose last publication was written to all members."""
        self._ticking = False
        self._sending: deque[Channel] = deque()
        """Channels with items to be written, in the order of their next slices."""
        self._unmarked: dict[Session, None] = {}
        """Sessions whose positions are to be written at the end of the tick."""
        self.backlog_bytes = 0
        """Payload taken in and not yet written to every member."""

    def add(self, channel: Channel, item: Item) -> None:
        """Put an item at the end of the channel."""
        if not channel.open:
            channel.open_at_seconds = self._clock()
            if not channel.under_way:
                channel.open_seen = 0
                self._sending.append(channel)
                self._schedule()
        channel.open.append(item)
        if isinstance(item, Publication):
            channel.offset = item.offset or channel.offset
            if item.marks & ENDS:
                channel.ended_offset = channel.offset
            if item.keep_ms is not None:
                self._journal.not_kept(channel.name, channel.epoch, item.offset, item.keep_ms)
            # `size_bytes` is a call, which few publications need.
            self.backlog_bytes += len(item.data) if item.tags is None else item.size_bytes
        elif isinstance(item, Gap):
            channel.offset = item.last or channel.offset

    def announce(self, channel: Channel, change: Change | PresenceReset) -> None:
        """Put a presence change at the end of the channel, in place of those that it replaces."""
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

    def begin_answer(self, channel: Channel) -> None:
        """Mark that an answer with the members begins: changes must not cancel out meanwhile."""
        channel.asking += 1
        channel.changes = None

    def end_answer(self, channel: Channel, *, lag_seconds: float) -> None:
        """Mark that the answer is made. Changes that it has already may come for `lag_seconds`."""
        channel.asking -= 1
        channel.changes = None
        channel.cancels_from_seconds = self._clock() + lag_seconds

    def reset(self, channel: Channel, head: Position) -> None:
        """Move the channel to another epoch. Each member moves after all of the old one."""
        self._each_member(channel, self._acts.reset(channel.name, head), head)

    def mend_by_state(self, channel: Channel, last: int) -> None:
        """Send members with state the channel's rows, in place of the gap that is added next.

        The gap ends with the offset `last`.
        """
        self._each_member(channel, self._acts.mend(last))

    def _each_member(self, channel: Channel, act: Act, head: Position | None = None) -> None:
        """Have `act` act on the members of each group in its turn."""
        if not channel.has_more:
            self._sending.append(channel)
            self._schedule()
        channel.each_member(act, head)

    def settle(self, subscription: Subscription) -> None:
        """Write to one member at once all that its channel has for it, before it leaves.

        The batch stays open: joins and leaves in it still cancel out. `bring_up` is for others.
        """
        self.catch_up(subscription)
        if (channel := subscription.channel).open:
            self._slow_path.write(subscription, channel.open_batch())
        self._slow_path.release(subscription)

    def bring_up(self, subscription: Subscription) -> None:
        """Write to one member at once all that its channel has for it, and seal that."""
        subscription.channel.seal()
        self.catch_up(subscription)
        self._slow_path.release(subscription)

    def catch_up(self, subscription: Subscription) -> None:
        """Write to one member at once all batches that are sealed."""
        channel = subscription.channel
        subscription.stand_apart()
        while (group := subscription.group) is not None and not subscription.closed:
            has = group.has(subscription)
            if (batch := channel.since(has)) is None:
                group.apart[subscription] = channel.sealed
                return
            # Before it is written: an act may begin to read rows, which catches up the rest.
            has = group.apart[subscription] = has + len(batch.parts)
            try:
                if batch.act is None:
                    self._slow_path.write(subscription, batch)
                else:
                    batch.act([subscription], partial(move, subscription, has, batch.epoch))
            except Exception:
                end_all([subscription])
                raise

    def later(self, work: Callable[[], None]) -> None:
        """Have `work` called in the loop's next iteration."""
        self._defer(work)

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
        try:
            self._send_slices()
            while self._unmarked:
                self._unmarked.popitem()[0].write_positions()
        finally:
            # A fault may have ended this tick. The others continue in the next one.
            if self._sending or self._unmarked:
                self._schedule()

    def _send_slices(self) -> None:
        spent, sending, gathering = 0, self._sending, []
        try:
            while sending and spent < self._slice_sessions:
                channel = sending.popleft()
                if len(channel.open) >= GROWTH_ITEMS and self._gathers(channel):
                    gathering.append(channel)
                    continue
                try:
                    spent += self._write_lone(channel) or self._write_round(channel)
                finally:
                    # A fault may have ended this. Items that came must not wait for ever.
                    # `has_more` inlined: it would be one call more for each publication.
                    if channel.open or channel.under_way:
                        sending.append(channel)
        finally:
            sending.extend(gathering)

    def _gathers(self, channel: Channel) -> bool:
        """Return whether the open batch grows so fast that it waits for more."""
        items = len(channel.open)
        if (before := channel.open_seen) is None or items - before < GROWTH_ITEMS:
            return False
        channel.open_seen = items
        age_seconds = self._clock() - channel.open_at_seconds
        return self.backlog_bytes < GATHER_BYTES and age_seconds < GATHER_SECONDS

    def _write_lone(self, channel: Channel) -> int:
        """Write what `Channel.lone` finds; return the number of members, 0 where a batch is needed.

        Nearly all batches are such. To make a batch costs more than its first ten writes.
        """
        if self._on_written is not None or (lone := channel.lone()) is None:
            return 0
        publication, group = lone
        try:
            frame = group.dialect.encode(publication, channel.epoch)
        except Exception:  # noqa: BLE001 - raised again where the batch is encoded, which it ends
            return 0
        members = len(group.descriptors)
        if (short := self._write_each(group.descriptors, 0, frame)) is not None:
            # Nothing is counted yet: it is a batch from here on.
            if (batch := channel.take(group)) is not None:
                self._write_turn(channel, group, batch, short)
            return members
        counters, now, came = self._counters, self._clock(), channel.open_at_seconds
        counters.deliveries += members
        counters.bytes_sent += members * len(frame)
        counters.publish_to_write.observe(now - came)
        untagged = publication.tags is None
        self.backlog_bytes -= len(publication.data) if untagged else publication.size_bytes
        base, last = channel.sealed_offset, channel.offset
        channel.sent_lone(group)
        self._journal.sent(channel.name, channel.epoch, base, last, came, now)
        return members

    def _write_round(self, channel: Channel) -> int:
        """Let groups have their turns until a slice or a round is full; return the cost."""
        spent = 0
        if (group := channel.next_turn()) is None:
            channel.begin_round()
            group = channel.next_turn()
        while group is not None:
            if (batch := channel.take(group)) is not None:
                spent += self._write_turn(channel, group, batch)
            if spent >= self._slice_sessions:
                return spent
            group = channel.next_turn()
        self._end_sent(channel)
        return spent

    def _write_turn(
        self, channel: Channel, group: Group, batch: Batch, short: Short | None = None
    ) -> int:
        """Write a batch to all members of a group; return the cost in sessions.

        With `short` it was written to members in step already, up to the first that took less.
        """
        if batch.act is not None:
            return self._carry_out(channel, group, batch, batch.act)
        try:
            if batch.skips:
                self._part_from(channel, group, batch.skips)
            cost = len(group.descriptors) + len(group.owed)
            if group.descriptors:
                self._in_step.write(batch, group, short)
            if group.owed:
                self._write_apart(channel, batch, group)
            if (wanted := group.filter) is not None:
                # Filtering one publication takes as long as writing to one session.
                cost += len(batch.items)
                self._count_left_out(batch, group)
                batch.forget(group.dialect, wanted)
        except Exception:
            # Those that read history get the publications from there.
            end_all([member for member in group.unreached() if member.live])
            self._end_turn(channel, group, batch)
            raise
        self._end_turn(channel, group, batch)
        return cost

    def _carry_out(self, channel: Channel, group: Group, batch: Batch, act: Act) -> int:
        """Act on the members of a group that had it not yet; return the cost in sessions."""
        members = [member for member, has in group.apart.items() if has <= group.had]
        try:
            with self._outbox_budget.put_off():
                act(members, partial(group.enter_epoch, batch.epoch))
        except Exception:
            group.enter_epoch(batch.epoch)
            end_all(members)
            raise
        finally:
            self._end_turn(channel, group, batch)
        return len(members)

    def _end_turn(self, channel: Channel, group: Group, batch: Batch) -> None:
        channel.end_turn(group, batch)
        self._end_sent(channel)

    def _part_from(self, channel: Channel, group: Group, connections: Iterable[str]) -> None:
        """Let the members of a group stand apart that must not get all of the batch under way."""
        for connection in connections:
            session = self._find_session(connection)
            place = None if session is None else session.subscriptions.get(channel.name)
            if place is not None and place.group is group:
                place.stand_apart()
                place.may_come_into_step()

    def _count_left_out(self, batch: Batch, group: Group) -> None:
        """Count the publications that a group's filter left out of the batch."""
        if members := len(group):
            whole, left = batch.encoded(group.dialect), batch.encoded(group.dialect, group.filter)
            self._counters.filtered += members * (whole.publications - left.publications)

    def _write_apart(self, channel: Channel, batch: Batch, group: Group) -> None:
        """Write a batch to the members of a group that are apart."""
        dialect, wanted = group.dialect, group.filter
        members = list(group.owed.items())
        for subscription, has in members:
            # A member that came since the group's last turn is not owed what was sealed before.
            own = batch if has <= group.had else channel.since(has, group.taken)
            if own is not None:
                self._slow_path.write(subscription, own, own.encoded(dialect, wanted))
            group.owed.pop(subscription, None)
        # By the present dialect: a session may have got a second channel meanwhile.
        if dialect.marks_positions or dialect.several is not None:
            sessions = [subscription.session for subscription, _ in members]
            self._unmarked.update((s, None) for s in sessions if s.dialect.marks_positions)

    def _end_sent(self, channel: Channel) -> None:
        """Finish the batches that all members have."""
        while (batch := channel.pop_sent()) is not None:
            self._sent(channel, batch)

    def _sent(self, channel: Channel, batch: Batch) -> None:
        """Finish a batch that was written to all its members, or that a fault has ended."""
        if batch.act is not None:
            return
        base, last, since_seconds = batch.base, batch.last, batch.at_seconds
        if batch.epoch == channel.epoch:
            since_seconds = channel.sent_since(last, since_seconds)
        now = self._clock()
        self._journal.sent(channel.name, batch.epoch, base, last, since_seconds, now)
        publications = [item for item in batch.items if isinstance(item, Publication)]
        elapsed = now - batch.at_seconds
        self.backlog_bytes -= sum(
            [len(each.data) if each.tags is None else each.size_bytes for each in publications]
        )
        self._counters.publish_to_write.observe(elapsed, len(publications))
        if self._on_written is not None:
            self._on_written(batch, publications, elapsed)
        ended = batch.epoch == channel.epoch and batch.base < channel.ended_offset <= batch.last
        if ended and self.on_ended is not None:
            self.on_ended(channel)
