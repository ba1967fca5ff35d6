"""Gives a batch to a member apart, by its session.

One comparison finds a member that gets the whole batch. It fails for a member that is ahead of the
batch, reads history, takes no writes, published a part of the batch itself, or wants updates in an
interval. Offsets decide for such a member too, so that nothing comes twice and nothing is skipped.
Nothing here waits.
"""

from collections.abc import Iterable, Sequence

from hub.core.counters import Counters
from hub.core.fanout.batch import Batch
from hub.core.forensics.journal import Journal
from hub.core.ports import Monotonic
from hub.core.publication import Position
from hub.core.pushes import PresenceReset
from hub.core.session.encoded import Encoded
from hub.core.session.ring import Entry, EntryKind
from hub.core.session.subscription import Subscription
from hub.core.session.withheld import Throttle
from hub.core.time.deadlines import Deadlines

_NO_SKIPS: frozenset[int] = frozenset()


class SlowPath:
    """The slow path of a node's fan-out; without state of its own."""

    def __init__(
        self, *, clock: Monotonic, deadlines: Deadlines, counters: Counters, journal: Journal
    ) -> None:
        self._clock = clock
        self._deadlines = deadlines
        self._counters = counters
        self._journal = journal

    def write(
        self, subscription: Subscription, batch: Batch, encoded: Encoded | None = None
    ) -> None:
        """Give a batch to a member; `encoded` is the whole batch."""
        session = subscription.session
        encoded = encoded or batch.encoded(session.dialect, subscription.filter)
        if (
            subscription.own_offset != batch.base
            or not session.writable
            or session.id in batch.skips
            or subscription.throttle is not None
        ):
            self._catch_up(subscription, batch, encoded)
            return
        subscription.own_offset = batch.last
        # Nothing is to be sent of a batch that its filter leaves out.
        if encoded.size and (taken := session.link.send(encoded.data)) != encoded.size:
            self.owe_rest(subscription, encoded, taken)
            return
        session.sent_apart += encoded.publications
        self._counters.deliveries += encoded.publications
        self._counters.bytes_sent += encoded.size

    def _catch_up(self, subscription: Subscription, batch: Batch, encoded: Encoded) -> None:
        """Give a member the part of the batch that it lacks; `encoded` is the whole batch."""
        session, cursor = subscription.session, subscription.offset
        if subscription.closed or session.closing:
            return
        if subscription.live:
            encoded = self._following(subscription, batch, encoded)
        else:
            subscription.presence_lost |= batch.has_presence
            self._leave_to_history(subscription, encoded)
            return
        if subscription.throttle is not None:
            self._hold(subscription, subscription.throttle, encoded.entries, cursor)
            return
        self._send(subscription, encoded, cursor)

    def _leave_to_history(self, subscription: Subscription, encoded: Encoded) -> None:
        """Send a member that reads history what no history will bring, and hold what it lacks."""
        session = subscription.session
        if not subscription.closed and not session.closing:
            session.hold(subscription, encoded.entries)
            self._send(subscription, encoded.unsequenced(), subscription.position.offset)

    def _send(self, subscription: Subscription, encoded: Encoded, cursor: int) -> None:
        session = subscription.session
        if not encoded.entries:
            return
        if not session.writable:
            session.owe(subscription, encoded.entries, cursor)
            return
        self._owe(subscription, encoded, session.deliver(encoded))

    def _hold(
        self,
        subscription: Subscription,
        throttle: Throttle,
        entries: Sequence[Entry],
        cursor: int,
    ) -> None:
        """Withhold publications until the subscription's interval is over.

        An entry that is no publication, such as a gap or a join, is sent at once after all held
        frames.
        """
        held: list[Entry] = []
        for place, entry in enumerate(entries):
            if entry.kind <= EntryKind.RAW or not entry.frame:
                held.append(entry)
                continue
            cursor = self._take(throttle, held, cursor)
            held = []
            self.release(subscription)
            if not subscription.live:
                # Its peer is slow, so it reads what was held from history, and what follows it too.
                subscription.presence_lost |= subscription.channel.options.presence
                self._leave_to_history(subscription, Encoded(entries[place:]))
                return
            self._send(subscription, Encoded([entry]), cursor)
            cursor = max(cursor, entry.offset)
        self._take(throttle, held, cursor)
        if not throttle.holds:
            return
        now = self._clock()
        if now >= throttle.next_seconds:
            self.release(subscription)
            return
        if throttle.cancel is None:
            due = throttle.next_seconds
            throttle.cancel = self._deadlines.at(due, lambda: self.release(subscription)).cancel
        if (most := _too_much(subscription, throttle)) is not None:
            self.release(most)

    def _take(self, throttle: Throttle, entries: Sequence[Entry], cursor: int) -> int:
        if entries:
            self._counters.throttled += throttle.take(entries, cursor)
        return max([cursor, *(entry.offset for entry in entries)])

    def release(self, subscription: Subscription) -> None:
        """Send the frames that the subscription's throttle holds."""
        throttle = subscription.throttle
        if throttle is None or not throttle.holds or subscription.closed:
            return
        conflated = throttle.conflated
        entries, before = throttle.release()
        if any(entry.frame for entry in entries):
            throttle.next_seconds = self._clock() + throttle.every_seconds
        session = subscription.session
        if session.closing:
            return
        if conflated:
            written = [entry.offset for entry in entries if entry.frame and entry.offset]
            every_ms = round(throttle.every_seconds * 1000)
            self._journal.thinned(subscription, before + 1, throttle.cursor, every_ms, written)
        self._send(subscription, Encoded(entries), before)
        if session.dialect.marks_positions:
            session.write_positions()

    def _following(self, subscription: Subscription, batch: Batch, encoded: Encoded) -> Encoded:
        """Return the part of the batch after a live member, and move the member to its end."""
        session, cursor = subscription.session, subscription.offset
        skip = batch.skips.get(session.id, _NO_SKIPS)
        if cursor != batch.base or skip:
            encoded = batch.after(cursor, session.dialect, subscription.filter, skip=skip)
        for offset in sorted(skip):
            self._journal.own(subscription, offset)
        subscription.own_offset = max(cursor, batch.last)
        return encoded

    def owe_rest(self, subscription: Subscription, encoded: Encoded, taken: int) -> None:
        """Count the `taken` bytes that the link took, and owe the rest."""
        self._owe(subscription, encoded, subscription.session.delivered(encoded, taken))

    def _owe(self, subscription: Subscription, encoded: Encoded, whole: int) -> None:
        """Owe the frames after the first `whole` ones."""
        handed, owed = encoded.entries[:whole], encoded.entries[whole:]
        if owed:
            before = _before(encoded.entries, subscription.position.offset)
            cursor = max((entry.offset for entry in handed), default=0) or before
            subscription.session.owe(subscription, owed, cursor)

    def reset(
        self, subscription: Subscription, frame: bytes, before: Position, offset: int
    ) -> None:
        """Send a `reset` after all of the old epoch, because the channel goes on in a new one.

        `frame` is the encoded reset, and the new epoch goes on behind `offset`. `before` is where
        the peer resumes until it was handed the frame. No peer can resume within the old epoch, so
        its owed publications are dropped; the reset announces that.
        """
        session, channel = subscription.session, subscription.channel
        replies: list[Entry] = []
        presence_lost = False
        subscription.forget_unkept()
        if subscription.ring is not None and session.outbox is not None:
            dropped, replies = session.outbox.forget(subscription)
            subscription.dropped += dropped
            presence_lost = channel.options.presence
        if subscription.state_need is not None:
            # Its rows tell the new epoch, and replace everything of the old one.
            subscription.go_back_to_history(offset)
            if not session.closing:
                if replies:
                    session.owe(subscription, replies, subscription.position.offset)
                session.read_state(subscription, before)
                if presence_lost:
                    session.push_in_order(subscription, PresenceReset(channel.name))
            return
        if subscription.live:
            subscription.go_live(offset)
        else:
            subscription.go_back_to_history(offset)
        if session.closing:
            return
        if session.writable:
            session.write(frame)
        else:
            reset = Entry(EntryKind.KEEP, 0, frame, self._clock(), resumes=before)
            session.owe(subscription, [*replies, reset], offset)
        if presence_lost:
            session.push_in_order(subscription, PresenceReset(channel.name))


def _too_much(subscription: Subscription, throttle: Throttle) -> Subscription | None:
    """Return the subscription whose held frames must leave early: the session's are too many."""
    limits = throttle.limits
    if throttle.messages > limits.outbox_max_messages:
        return subscription
    if throttle.bytes * limits.max_subscriptions <= limits.outbox_max_bytes:
        # It is within its own share, whatever the others hold.
        return None
    held = {
        each: each.throttle.bytes
        for each in subscription.session.subscriptions.values()
        if each.throttle is not None
    }
    most = max(held, key=held.__getitem__, default=subscription)
    return most if sum(held.values()) > limits.outbox_max_bytes else None


def _before(entries: Iterable[Entry], otherwise: int) -> int:
    """Return the offset before the first of these entries that has one."""
    return next((entry.first - 1 for entry in entries if entry.first), otherwise)
