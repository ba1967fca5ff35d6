"""One subscriber, whatever its transport: what is written to it now, and what it is owed.

While the transport takes writes there is no outbox: frames go straight to the link. The
first write that is not taken whole ends that; the link says when to go on. Nothing here
waits: each method changes state and writes what the link takes at once.
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
from hub.core.session.ring import Entry, Kind
from hub.core.session.subscription import Kept, Subscription
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
        """Where its peer resumes that keeps no positions of its own, by channel."""
        self.patterns: SessionPatterns | None = None
        """What it subscribes to by patterns; made with the first."""
        self.left_at: Mapping[str, Position] | None = None
        """Where its peer resumes, once it has ended."""
        self.writable = True
        """Whether the next frame may go straight to the link; `block` ends that."""
        self.closing = False
        self.gone = False
        """The connection has ended by itself: there is nobody to say goodbye to."""
        self.outbox: Outbox | None = None
        self.handed_bytes = 0
        """What the link was given to finish and its peer has not taken yet."""
        self.replaying: Sequence[Subscription] = ()
        """Subscriptions that read history, in the order they began."""
        self.replay_running = False
        self.inbox: Inbox | None = None
        """Commands waiting for the one being carried out; None when none is."""
        self.meter: Meter | None = None
        """What it may still ask for; None until it asks, and where nothing is limited."""
        self.sent_apart = 0
        """Publications handed to the link, but for what its subscriptions in step were sent."""
        self.notes: Notes | None = None
        """What the journal keeps about it."""
        self.opened_at_seconds = context.clock()
        self.drained_at_seconds = 0.0
        """When the link last took writes again, monotonic; 0 when it never stopped."""
        self.read_again_at_seconds = 0.0
        """When the hub last read again from a peer from which it had not, monotonic."""
        self.round_trip_seconds: float | None = None
        """What its newest ping took; None before the first pong."""
        self.beat_slot = 0
        """Its place in the wheel of `hub.core.time.heartbeats`."""

    @property
    def sent(self) -> int:
        """Publications handed to the link."""
        in_step = sum(subscription.sent_in_step for subscription in self.subscriptions.values())
        return self.sent_apart + in_step

    @property
    def owed_bytes(self) -> int:
        return 0 if self.outbox is None else self.outbox.bytes

    @property
    def held_bytes(self) -> int:
        """All that waits for the peer: what it is owed, and what its transport was handed."""
        return self.owed_bytes + self.handed_bytes

    @property
    def dropped(self) -> int:
        """Publications its current subscriptions did not get because it was slow."""
        return sum(subscription.dropped for subscription in self.subscriptions.values())

    # -- writing ---------------------------------------------------------------------------

    def push(self, push: Push) -> None:
        """Send what belongs to no channel; it overtakes data."""
        self.control(self.dialect.encode(push, ""))

    def control(self, frame: bytes) -> None:
        """Send an encoded frame of the control lane; b"" is what a dialect does not say."""
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
        """Send what belongs to a channel, behind all that channel already has for this session.

        Args:
            push: or its frame, where it is encoded already.
            offset: where it moves the position, 0 where it does not.
            resumes: of a `reset`, where a peer resumes that is cut before it.
        """
        epoch = subscription.channel.epoch
        frame = push if isinstance(push, bytes) else self.dialect.encode(push, epoch)
        if self.closing or not (frame or offset):
            return
        if self.writable:
            self.write(frame)
            if not self.writable:
                self._context.outbox_budget.relieve()
        else:
            entry = Entry(Kind.KEEP, offset, frame, self._context.clock(), resumes=resumes)
            self.owe(subscription, [entry], subscription.position.offset)

    def write(self, data: bytes) -> None:
        """Write while `writable`; what the link does not take it finishes."""
        link = self.link
        taken = link.send(data) if len(data) <= SLICE_BYTES else send_in_slices(link, data)
        # As `count`, which is one call more for each frame.
        self._context.counters.bytes_sent += taken
        if taken != len(data):
            self._hand_over(data[taken:])

    def count(self, size: int) -> None:
        """So many bytes were handed to the link; whole broadcasts the fanout counts at once."""
        self._context.counters.bytes_sent += size

    def block(self) -> None:
        """Write nothing straight to the link until `on_writable`."""
        self.writable = False
        self.stand_apart()

    def stand_apart(self) -> None:
        """The descriptor of the link must not be written to any more.

        A link calls it before its transport holds something back, or may close.
        """
        for subscription in self.subscriptions.values():
            subscription.stand_apart()

    def _hand_over(self, rest: bytes) -> None:
        """Have the link finish a frame, and count it until the peer has taken it."""
        self.block()
        self.handed_bytes += len(rest)
        self.count(len(rest))
        self._context.outbox_budget.handed(self, len(rest))
        self.link.finish(rest)

    def uncork(self) -> None:
        """Let out in one write what was written since `Link.cork`."""
        if not self.link.uncork():
            self.block()

    def deliver(self, encoded: Encoded) -> int:
        """Write frames of one channel while `writable`; return how many are at the link."""
        return self.delivered(encoded, self.link.send(encoded.data) if encoded.size else 0)

    def delivered(self, encoded: Encoded, taken: int) -> int:
        """The link took `taken` bytes of it: have it finish the frame that it is in.

        Returns how many frames are at the link then, and counts them.
        """
        self.count(taken)
        whole, publications = len(encoded.entries), encoded.publications
        if taken != encoded.size:
            index, rest = encoded.split(taken)
            self._hand_over(rest)
            whole = index + 1
            publications = sum(entry.kind <= Kind.RAW for entry in encoded.entries[:whole])
        self.sent_apart += publications
        self._context.counters.deliveries += publications
        return whole

    def resume_from(self) -> Mapping[str, Position]:
        """Where a peer resumes that is cut behind what its link has been handed."""
        if self.left_at is not None:
            return self.left_at
        return self.places.resume_from(self.subscriptions, self.patterns)

    @property
    def starting(self) -> str:
        """A channel or pattern that was asked for and has not started; empty where all have."""
        return self.places.starting(self.patterns)

    def write_positions(self) -> None:
        """Tell how far every channel is, for dialects that resume from one mark."""
        self.places.progressed()
        if self.writable and not self.closing and (frame := self._positions()):
            self.write(frame)

    def tell_positions(self) -> None:
        """The same ahead of whatever is owed: it names nothing that was not handed over."""
        if self.places or self.patterns:
            self.control(self._positions())

    def _positions(self) -> bytes:
        places = tuple(self.resume_from().items())
        return self.dialect.encode_positions(places) if places else b""

    def read_history(
        self, subscription: Subscription, cursor: int, kept: Kept | None = None
    ) -> None:
        """Send the subscription what follows `cursor` from history, then let it go live.

        `kept` is what follows it, where that was read already.
        """
        subscription.go_back_to_history(cursor)
        subscription.keep(kept)
        self.replaying = [*self.replaying, subscription]
        if self.writable:
            self._context.on_replay(self)

    def read_state(self, subscription: Subscription, resumes: Position) -> None:
        """Send the subscription the rows of its channel, then what follows them.

        `resumes` is where the peer resumes that is cut before it has them all.
        """
        subscription.go_back_to_state(resumes)
        if subscription not in self.replaying:
            self.replaying = [*self.replaying, subscription]
        if self.writable:
            self._context.on_replay(self)

    def read_on(self) -> None:
        """Read again from a peer that had sent more commands than could wait."""
        self.read_again_at_seconds = self._context.clock()
        self.link.resume_reading()

    # -- congestion ------------------------------------------------------------------------

    def owe(self, subscription: Subscription, entries: Sequence[Entry], cursor: int) -> None:
        """Owe frames of one channel, of which the last offset handed over is `cursor`."""
        if subscription.refills and any(entry.kind is Kind.PUBLICATION for entry in entries):
            self.read_history(subscription, cursor)
            self.hold(subscription, entries)
            entries = [entry for entry in entries if not entry.offset]
        reason = self._outbox().owe(subscription, entries, cursor, self._context.clock())
        if reason is not None:
            self.close_slow(reason)
        self._context.outbox_budget.relieve()

    def hold(self, subscription: Subscription, entries: Sequence[Entry]) -> None:
        """Hold what history will lack of these, until the reading comes to it."""
        subscription.hold(entries, self._context.limits, self._context.outbox_budget)

    def _outbox(self) -> Outbox:
        if self.outbox is None:
            its = self._context
            self.outbox = Outbox(its.limits, its.outbox_budget, its.counters, its.journal)
            its.outbox_budget.sessions[self] = None
        return self.outbox

    def on_writable(self) -> None:
        """The link takes writes again: send what is owed, then read on in history."""
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
        """The peer has taken all that the link was handed, or is gone."""
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
        """Say goodbye behind what is already handed over, and end. Harmless when repeated."""
        if self.closing:
            return
        # The positions go with it: who comes back from there repeats and misses nothing.
        goodbye = self._positions() if self.dialect.marks_positions else b""
        self.closing = True
        try:
            goodbye += self.dialect.encode(Goodbye(code, reason, reconnect_within_ms), "")
            self.count(len(goodbye))
            taken = self.link.send(goodbye) if self.writable else 0
            if taken != len(goodbye):
                self.link.finish(goodbye[taken:])
        finally:
            # Also where the farewell fails: it ends once, and is forgotten then.
            self._end(code, reason)
        self.link.close(code, reason)

    def abort(self) -> None:
        """End the connection now, without a goodbye; its link reports the end."""
        self.link.abort()

    def left(self, code: int, reason: str) -> None:
        """The peer ended the session; its connection follows, or is aborted when it takes long.

        Harmless when repeated.
        """
        if not self.closing:
            self.closing = True
            self._end(code, reason)

    def lost(self, code: int, reason: str) -> None:
        """The connection is gone. Harmless when repeated."""
        if self.gone:
            return
        self.gone = True
        self.left(code, reason)
        self._taken()
        self._context.on_gone(self)

    def _end(self, code: int, reason: str) -> None:
        self.block()
        self.left_at = self.resume_from()
        # The outbox tells how far each channel has come.
        self._context.on_closed(self, code, reason)
        self._release_outbox()
        self._context.outbox_budget.leaves(self)
        self.replaying = ()
