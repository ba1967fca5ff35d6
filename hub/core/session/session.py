"""One subscriber over any transport: writes to its link, and queues what the link does not take.

While the transport takes writes there is no outbox, and frames go straight to the link. When the
link does not take a write whole, an outbox holds frames until it does again. No method waits.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hub.core.forensics.noted import Notes
from hub.core.identity import Identity
from hub.core.limits import Meter
from hub.core.ports import Dialect
from hub.core.publication import Position
from hub.core.pushes import Goodbye, Push
from hub.core.session.encoded import Encoded
from hub.core.session.link import SLICE_BYTES, Link, SessionContext, send_in_slices
from hub.core.session.outbox import Outbox
from hub.core.session.places import NO_PLACES, ByChannel, Places, SessionPatterns
from hub.core.session.ring import Entry, EntryKind
from hub.core.session.subscription import KeptPage, Subscription
from hub.errors import HubError, SlowError

if TYPE_CHECKING:
    from hub.core.session.inbox import Inbox


class Session:
    """Open until `close` or `lost`; owned by the event loop."""

    __slots__ = (
        "_context", "beat_slot", "closing", "dialect", "drained_at_seconds", "gone",
        "handed_bytes", "id", "identity", "inbox", "left_at", "link", "meter", "notes",
        "opened_at_seconds", "outbox", "patterns", "places", "read_again_at_seconds",
        "replay_running", "replaying", "round_trip_seconds", "sent_apart", "subscriptions",
        "writable",
    )  # fmt: skip

    def __init__(
        self,
        link: Link,
        dialect: Dialect,
        identity: Identity,
        *,
        id: str,  # noqa: A002 - the word of the wire contract
        context: SessionContext,
    ) -> None:
        self._context = context
        self.link = link
        link.session = self
        self.dialect = dialect
        self.identity = identity
        self.id = id
        self.subscriptions: ByChannel[Subscription] = ByChannel()
        tells = dialect.marks_positions or dialect.several is not None
        self.places = Places(most=dialect.max_channels) if tells else NO_PLACES
        """The position by channel from which a peer resumes that keeps no positions itself."""
        self.patterns: SessionPatterns | None = None
        """Its subscriptions by pattern; made with the first."""
        self.left_at: Mapping[str, Position] | None = None
        """The positions from which its peer resumes, once it has ended."""
        self.writable = True
        """Whether the next frame may go straight to the link; `block` ends that."""
        self.closing = False
        self.gone = False
        """Whether the connection has ended, so that no goodbye can be sent."""
        self.outbox: Outbox | None = None
        self.handed_bytes = 0
        """Bytes that the link has to finish and its peer has not taken yet."""
        self.replaying: Sequence[Subscription] = ()
        """Subscriptions that read history, in the order they began."""
        self.replay_running = False
        self.inbox: Inbox | None = None
        """Commands behind the one that is being carried out; None without any."""
        self.meter: Meter | None = None
        """The state of its limits; None before its first command, and without limits."""
        self.sent_apart = 0
        """Publications handed to the link, without those of subscriptions in step."""
        self.notes: Notes | None = None
        """The journal's notes about it."""
        self.opened_at_seconds = context.clock()
        self.drained_at_seconds = 0.0
        """Monotonic time at which the link last took writes again; 0 when it never stopped."""
        self.read_again_at_seconds = 0.0
        """Monotonic time at which the hub last resumed reading from the peer."""
        self.round_trip_seconds: float | None = None
        """Round trip of its newest ping; None before the first pong."""
        self.beat_slot = 0
        """Its slot in the wheel of `hub.core.time.heartbeats`."""

    @property
    def sent(self) -> int:
        """Publications handed to the link."""
        sent = self.sent_apart
        for subscription in self.subscriptions.values():
            sent += subscription.sent_in_step
        return sent

    @property
    def owed_bytes(self) -> int:
        return 0 if self.outbox is None else self.outbox.bytes

    @property
    def held_bytes(self) -> int:
        """All bytes that wait for the peer, in the outbox and in its transport."""
        return self.owed_bytes + self.handed_bytes

    @property
    def dropped(self) -> int:
        """Publications that its subscriptions did not get because its peer was slow."""
        return sum(subscription.dropped for subscription in self.subscriptions.values())

    # -- writing ---------------------------------------------------------------------------

    def push(self, push: Push) -> None:
        """Send a push that belongs to no channel; it overtakes data."""
        self.control(self.dialect.encode(push, ""))

    def control(self, frame: bytes) -> None:
        """Send an encoded frame in the control lane; b"" stands for no frame."""
        if self.closing or not frame:
            return
        if self.writable:
            self.write(frame)
        elif not self._outbox().control(frame):
            limit = self._context.limits.control_max_bytes
            self.close_slow(f"replies waiting are over {limit:,} bytes")
            return
        if not self.writable:
            self._context.outbox_budget.relieve()

    def push_in_order(
        self,
        subscription: Subscription,
        push: Push | bytes,
        offset: int = 0,
        *,
        resumes: Position | None = None,
    ) -> None:
        """Send a push that belongs to a channel, after all that the session has of that channel.

        Args:
            push: the push, or its encoded frame.
            offset: the offset to which it moves the position; 0 where it does not move it.
            resumes: for a `reset`, where a peer resumes that is cut before it.
        """
        epoch = subscription.epoch
        frame = push if isinstance(push, bytes) else self.dialect.encode(push, epoch)
        if self.closing or not (frame or offset):
            return
        if self.writable:
            self.write(frame)
            if not self.writable:
                self._context.outbox_budget.relieve()
        else:
            entry = Entry(EntryKind.KEEP, offset, frame, self._context.clock(), resumes=resumes)
            self.owe(subscription, [entry], subscription.position.offset)

    def write(self, data: bytes) -> None:
        """Write while `writable`; the link finishes the rest that it does not take at once."""
        link = self.link
        taken = link.send(data) if len(data) <= SLICE_BYTES else send_in_slices(link, data)
        # `count` inlined: it would be one call more for each frame.
        self._context.counters.bytes_sent += taken
        if taken != len(data):
            self._hand_over(data[taken:])

    def count(self, size: int) -> None:
        """Count bytes handed to the link. The fan-out counts those of whole broadcasts itself."""
        self._context.counters.bytes_sent += size

    def block(self) -> None:
        """Write nothing straight to the link until `on_writable`."""
        self.writable = False
        self.stand_apart()

    def stand_apart(self) -> None:
        """Take all subscriptions out of step: the link's descriptor must not be written to.

        A link calls this before its transport holds something back, or may close.
        """
        for subscription in self.subscriptions.values():
            subscription.stand_apart()

    def _hand_over(self, rest: bytes) -> None:
        """Have the link finish a frame, and count its rest until the peer has taken it."""
        self.block()
        self.handed_bytes += len(rest)
        self.count(len(rest))
        self._context.outbox_budget.handed(self, len(rest))
        self.link.finish(rest)

    def uncork(self) -> None:
        """Send everything written since `Link.cork` in one write."""
        if not self.link.uncork():
            self.block()

    def deliver(self, encoded: Encoded) -> int:
        """Write frames of one channel while `writable`; return how many are at the link."""
        return self.delivered(encoded, self.link.send(encoded.data) if encoded.size else 0)

    def delivered(self, encoded: Encoded, taken: int) -> int:
        """Have the link finish the frame in which it stopped after `taken` bytes.

        Count the frames that are at the link then, and return their number.
        """
        self.count(taken)
        whole, publications = len(encoded.entries), encoded.publications
        if taken != encoded.size:
            index, rest = encoded.split(taken)
            self._hand_over(rest)
            whole = index + 1
            publications = sum(entry.kind <= EntryKind.RAW for entry in encoded.entries[:whole])
        self.sent_apart += publications
        self._context.counters.deliveries += publications
        return whole

    def resume_from(self) -> Mapping[str, Position]:
        """Return where the peer resumes if its connection is cut now."""
        if self.left_at is not None:
            return self.left_at
        return self.places.resume_from(self.subscriptions, self.patterns)

    @property
    def starting(self) -> str:
        """A requested channel or pattern that has not started; empty where all have."""
        return self.places.starting(self.patterns)

    def write_positions(self) -> None:
        """Write the positions of all channels, in dialects whose peers resume from one mark."""
        self.places.progressed()
        if self.writable and not self.closing and (frame := self._positions()):
            self.write(frame)

    def tell_positions(self) -> None:
        """Send the positions ahead of owed frames: they cover only frames at the link."""
        if self.places or self.patterns:
            self.control(self._positions())

    def _positions(self) -> bytes:
        places = tuple(self.resume_from().items())
        return self.dialect.encode_positions(places) if places else b""

    def read_history(
        self, subscription: Subscription, cursor: int, kept: KeptPage | None = None
    ) -> None:
        """Send the subscription history after `cursor`, then let it go live.

        `kept` is the page after `cursor`, where it was read already.
        """
        subscription.go_back_to_history(cursor)
        subscription.keep(kept)
        self.replaying = [*self.replaying, subscription]
        if self.writable:
            self._context.on_replay(self)

    def read_state(self, subscription: Subscription, resumes: Position) -> None:
        """Send the subscription the rows of its channel, then history after them.

        A peer that is cut before it has all rows resumes from `resumes`.
        """
        subscription.go_back_to_state(resumes)
        if subscription not in self.replaying:
            self.replaying = [*self.replaying, subscription]
        if self.writable:
            self._context.on_replay(self)

    def read_on(self) -> None:
        """Resume reading from a peer that had sent more commands than may wait."""
        self.read_again_at_seconds = self._context.clock()
        self.link.resume_reading()

    # -- congestion ------------------------------------------------------------------------

    def owe(self, subscription: Subscription, entries: Sequence[Entry], cursor: int) -> None:
        """Owe frames of one channel. `cursor` is the last offset handed over."""
        if subscription.refills and any(entry.kind is EntryKind.PUBLICATION for entry in entries):
            self.read_history(subscription, cursor)
            self.hold(subscription, entries)
            entries = [entry for entry in entries if not entry.offset]
        reason = self._outbox().owe(subscription, entries, cursor, self._context.clock())
        if reason is not None:
            self.close_slow(reason)
        self._context.outbox_budget.relieve()

    def hold(self, subscription: Subscription, entries: Sequence[Entry]) -> None:
        """Hold the entries that history will lack, until the reading comes to them."""
        subscription.hold(entries, self._context.limits, self._context.outbox_budget)

    def _outbox(self) -> Outbox:
        if self.outbox is None:
            context = self._context
            self.outbox = Outbox(
                context.limits, context.outbox_budget, context.counters, context.journal
            )
            context.outbox_budget.sessions[self] = None
        return self.outbox

    def on_writable(self) -> None:
        """Send owed frames and read on in history, now that the link takes writes again."""
        self._taken()
        if self.closing:
            return
        if self.writable:
            self._may_come_into_step()
            return
        self.drained_at_seconds = self._context.clock()
        if self.outbox is not None:
            self.outbox.expire(self.drained_at_seconds)
        while self.outbox is not None:
            chunk, publications = self.outbox.chunk(self.dialect)
            if not chunk:
                self._release_outbox()
                break
            self.sent_apart += publications
            self._context.counters.deliveries += publications
            self.write(chunk)
            if self.handed_bytes:
                return
        self.writable = True
        self._may_come_into_step()
        if self.dialect.marks_positions:
            self._context.on_mark(self)
        if self.replaying:
            self._context.on_replay(self)

    def _may_come_into_step(self) -> None:
        for subscription in self.subscriptions.values():
            subscription.may_come_into_step()

    def _taken(self) -> None:
        """Count that the peer has taken all that the link was handed, or is gone."""
        if self.handed_bytes:
            size, self.handed_bytes = self.handed_bytes, 0
            self._context.outbox_budget.taken(self, size, leaving=self.closing)

    def _release_outbox(self) -> None:
        if self.outbox is not None:
            self.outbox.release()
            self.outbox = None
            self._context.outbox_budget.sessions.pop(self, None)

    # -- the end ---------------------------------------------------------------------------

    def close_slow(self, reason: str) -> None:
        """Close with 4508: the peer reads more slowly than its limits allow."""
        self.close_error(SlowError(reason))

    def close_error(self, error: HubError) -> None:
        """Close with the close code of `error`."""
        self.close(self._context.close_code(error.code, error.retryable), error.message)

    def close(self, code: int, reason: str, reconnect_within_ms: int | None = None) -> None:
        """Send a goodbye after all that was handed over, and end. Harmless when repeated."""
        if self.closing:
            return
        # The positions go with it, so that a peer which comes back repeats and misses nothing.
        goodbye = self._positions() if self.dialect.marks_positions else b""
        self.closing = True
        try:
            goodbye += self.dialect.encode(Goodbye(code, reason, reconnect_within_ms), "")
            self.count(len(goodbye))
            taken = self.link.send(goodbye) if self.writable else 0
            if taken != len(goodbye):
                self.link.finish(goodbye[taken:])
        finally:
            # Even where the goodbye fails, the session must end, and only once.
            self._end(code, reason)
        self.link.close(code, reason)

    def abort(self) -> None:
        """End the connection now, without a goodbye; its link reports the end."""
        self.link.abort()

    def left(self, code: int, reason: str) -> None:
        """End the session, as its peer asked. The connection follows, or is aborted in time.

        Harmless when repeated.
        """
        if not self.closing:
            self.closing = True
            self._end(code, reason)

    def lost(self, code: int, reason: str) -> None:
        """End the session, whose connection is gone. Harmless when repeated."""
        if self.gone:
            return
        self.gone = True
        self.left(code, reason)
        self._taken()
        self._context.on_gone(self)

    def _end(self, code: int, reason: str) -> None:
        self.block()
        self.left_at = self.resume_from()
        # Before the outbox is released: it has the position of each channel.
        self._context.on_closed(self, code, reason)
        self._release_outbox()
        self._context.outbox_budget.leaves(self)
        self.replaying = ()
