"""Notes on what happened to each connection, kept for ten minutes so that operators can ask why.

A connection to which nothing special happens costs nothing here. A subscription and its channel's
timeline together already tell which publications went straight to a live subscriber. The journal
notes the exceptions: publications dropped, conflated, written late or withheld, subscriptions
refused or ended, connections closed.

Everything is bounded by age, by events per connection, and by bytes altogether; the oldest goes
first. Each keeper knows up to which time it has forgotten notes.

The journal passes every note on to an `Archive`, where there is one. Explanations read archived
notes through `Recall`. This module does not know where or how the archive keeps them.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from hub.core.forensics.noted import (
    MAX_EVENTS,
    ClosedSession,
    Event,
    Farewell,
    Notes,
    What,
    thinned_detail,
)
from hub.core.forensics.timeline import MARK_BYTES, TIMELINE_BYTES, Timeline
from hub.core.ports import MAX_AGENT_CHARACTERS, Monotonic
from hub.core.pushes import Gap, GapReason
from hub.core.records import SessionRecord

REACH_SECONDS = 600.0
# How many places `sweep` looks at, ten times a second or more: 50,000 connections take 5 s.
_SWEEP = 1000


class NotedSession(Protocol):
    """A session as the journal sees it."""

    notes: Notes | None

    @property
    def id(self) -> str: ...


class NotedChannel(Protocol):
    """A channel as the journal sees it."""

    @property
    def name(self) -> str: ...

    @property
    def epoch(self) -> str: ...

    @property
    def offset(self) -> int: ...

    def read_ahead(self, through: int, now_seconds: float) -> None: ...


class NotedSubscription(Protocol):
    """A subscription as the journal sees it."""

    @property
    def session(self) -> NotedSession: ...

    @property
    def channel(self) -> NotedChannel: ...

    @property
    def began_offset(self) -> int: ...

    @property
    def began_at_seconds(self) -> float: ...

    @property
    def epoch(self) -> str: ...

    @property
    def terms(self) -> Sequence[tuple[What, str]]: ...

    def begin(self, offset: int, now_seconds: float) -> None: ...

    def replayed_until(self, last: int) -> int: ...


class Keeps(Protocol):
    """A keeper of notes, which forgets them piece by piece, oldest first."""

    def __len__(self) -> int: ...

    @property
    def oldest_at(self) -> float: ...

    def forget_oldest(self) -> int:
        """Forget one piece; return how many bytes it freed."""
        ...


class Archive(Protocol):
    """Takes the journal's notes. No call waits, or costs more than an append."""

    def noted(self, connection: str, event: Event) -> None:
        """Take a new event, which may grow for a second."""
        ...

    def sent(self, timeline: Timeline) -> None:
        """Take note that the timeline has a new mark, or a loss."""
        ...

    def ended(self, gone: ClosedSession) -> None:
        """Take the last record of a connection."""
        ...


class Recall(Protocol):
    """Reads archived notes. Nothing here raises; unreadable notes count as absent."""

    async def visits(
        self, subject: str, *, from_seconds: float, to_seconds: float, limit: int
    ) -> Sequence[ClosedSession]:
        """Return the subject's ended connections that were open in that time, newest last."""
        ...

    async def visit(self, connection: str) -> ClosedSession | None:
        """Return a connection that has ended."""
        ...

    async def notes(self, connection: str, since_seconds: float) -> Notes | None:
        """Return all notes of a connection that opened at that time; None where unreadable."""
        ...

    async def sending(
        self, channel: str, epoch: str, *, from_seconds: float, to_seconds: float
    ) -> Timeline | None:
        """Return the channel's timeline of that time."""
        ...

    async def sending_of(self, channel: str, epoch: str, offset: int) -> Timeline | None:
        """Return the channel's timeline around one publication."""
        ...


class Journal:
    """Keeps the notes about connections; one per node, owned by the event loop.

    Args:
        max_bytes: bound on all notes together; 0 keeps none.
    """

    def __init__(
        self, *, clock: Monotonic, wall_clock: Callable[[], float], max_bytes: int
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._max_bytes = max_bytes
        self._order: deque[Keeps] = deque()
        """The keeper of each piece, oldest piece first."""
        self._timelines: dict[tuple[str, str], Timeline] = {}
        self.closed: dict[str, ClosedSession] = {}
        """By connection, in the order they ended."""
        self.bytes = 0
        self.archive: Archive | None = None
        """Keeps notes for longer."""

    # -- noting ------------------------------------------------------------------------------

    def dropped(
        self, subscription: NotedSubscription, offset: int, epoch: str, policy: str
    ) -> None:
        """Note that the outbox dropped one publication."""
        self._note(subscription, What.DROPPED, offset, offset, epoch=epoch, detail=policy)

    def conflated(self, subscription: NotedSubscription, offset: int, by: int, epoch: str) -> None:
        """Note that the newer publication `by` replaced a waiting one."""
        self._note(subscription, What.CONFLATED, offset, offset, epoch=epoch, by=by)

    def late(self, subscription: NotedSubscription, first: int, last: int, epoch: str) -> None:
        """Note that a range was written from the outbox."""
        self._note(subscription, What.LATE, first, last, epoch=epoch)

    def replayed(self, subscription: NotedSubscription, first: int, last: int) -> None:
        """Note that a range was written from history."""
        if first <= last:
            self._note(subscription, What.REPLAYED, first, last)
            if last > subscription.channel.offset:
                subscription.channel.read_ahead(last, self._clock())

    def unsent(self, subscription: NotedSubscription, first: int, last: int, epoch: str) -> None:
        """Note that a range was still owed when the connection ended."""
        self._note(subscription, What.UNSENT, first, last, epoch=epoch)

    def own(self, subscription: NotedSubscription, offset: int) -> None:
        """Note that one of the session's own publications was withheld, as it had asked."""
        self._note(subscription, What.OWN, offset, offset)

    def missing(self, subscription: NotedSubscription, gap: Gap) -> None:
        """Note that history did not have a range."""
        expired = gap.reason is GapReason.EXPIRED
        what = What.EXPIRED if expired else What.INVALID
        self._note(subscription, what, gap.first, gap.last)

    def began(self, subscription: NotedSubscription, offset: int) -> None:
        """Note that the subscription is owed everything after `offset` from now on."""
        subscription.begin(offset, self._clock())

    def thinned(
        self,
        subscription: NotedSubscription,
        first: int,
        last: int,
        every_ms: int,
        written: Sequence[int],
    ) -> None:
        """Note that of a range only the offsets `written`, the newest of each key, were written."""
        detail = thinned_detail(every_ms, written)
        self._note(subscription, What.THINNED, first, last, detail=detail, by=last)

    def rows_sent(
        self, subscription: NotedSubscription, first: int, last: int, position: int
    ) -> None:
        """Note that rows as of `position` stand for a range."""
        if first <= last:
            self._note(subscription, What.ROWS, first, last, by=position)

    def not_kept(self, channel: str, epoch: str, offset: int, keep_ms: int) -> None:
        """Note how long history keeps a publication. The batch that contains it follows."""
        if self._max_bytes:
            self.bytes += self._timeline(channel, epoch, offset - 1).brief_one(offset, keep_ms)

    def left(self, subscription: NotedSubscription, last: int, how: str, epoch: str = "") -> None:
        """Note that a subscription, or one epoch of it, ended after `last`.

        `epoch` is that of `last`, where the channel may be in another one by now.
        """
        channel, first = subscription.channel, subscription.began_offset + 1
        epoch = epoch or subscription.epoch
        since, now = subscription.began_at_seconds, self._clock()
        live = subscription.replayed_until(last)
        for what, detail in subscription.terms:
            self._note(subscription, what, 0, 0, epoch=epoch, detail=detail)
        held = Event(What.HELD, channel.name, epoch, first, last, since, now, how, live)
        self._add(subscription.session, held)

    def passed_over(self, subscription: NotedSubscription, last: int) -> None:
        """Note that a subscription goes on in a new epoch that had already come up to `last`.

        A subscription with state is left out: rows stand for the range, and it begins after them.
        """
        if last and all(what is not What.KEYED for what, _ in subscription.terms):
            self._note(subscription, What.RESET, 1, last)

    def refused(self, session: NotedSession, channel: str, code: str) -> None:
        """Note that the session may not subscribe to the channel."""
        now = self._clock()
        self._add(session, Event(What.REFUSED, channel, "", 0, 0, now, now, code))

    def _note(
        self,
        subscription: NotedSubscription,
        what: What,
        first: int,
        last: int,
        *,
        epoch: str = "",
        detail: str = "",
        by: int = 0,
    ) -> None:
        channel, now = subscription.channel, self._clock()
        epoch = epoch or subscription.epoch
        event = Event(what, channel.name, epoch, first, last, now, now, detail, by)
        self._add(subscription.session, event)

    def _add(self, session: NotedSession, event: Event) -> None:
        if not self._max_bytes:
            return
        if (notes := session.notes) is None:
            notes = session.notes = Notes()
        if notes.events and event.continues(notes.events[-1]):
            notes.events[-1].last = event.last
            notes.events[-1].until_seconds = event.until_seconds
            return
        if self.archive is not None:
            self.archive.noted(session.id, event)
        if len(notes) < MAX_EVENTS:
            notes.events.append(event)
            self._keep(notes, event.size)
        else:
            # It takes over the place of the oldest event, which goes.
            self.bytes += event.size - notes.forget_oldest()
            notes.events.append(event)

    def sent(
        self,
        channel: str,
        epoch: str,
        base: int,
        last: int,
        since_seconds: float,
        now_seconds: float,
    ) -> None:
        """Note that the offsets after `base` up to `last` were written to the live members by now.

        No part of them was written to any member before `since_seconds`.
        """
        if last == base:
            return
        timeline = self._timelines.get((channel, epoch))
        if timeline is not None and timeline.goes_on(base, last, since_seconds, now_seconds):
            # Nearly always: a busy channel has a new mark four times a second.
            return
        if not self._max_bytes:
            return
        if timeline is None:
            timeline = self._begin_timeline(channel, epoch, base)
        if base != (known := timeline.last):
            if not timeline:
                # A loss may have been noted before the publications ahead of it were sent.
                timeline.began_offset = min(timeline.began_offset, base)
            elif base > known:
                # Publications that came while nobody subscribed here must not count as sent.
                self.bytes += timeline.lost(known + 1, base)
        if timeline.passed(last, since_seconds=since_seconds, now_seconds=now_seconds):
            if self.archive is not None:
                self.archive.sent(timeline)
            self._keep(timeline, MARK_BYTES)

    def lost(self, gap: Gap) -> None:
        """Note that a range never came to this node. The batch that announces it follows."""
        if gap.first and self._max_bytes:
            timeline = self._timeline(gap.channel, gap.epoch, gap.first - 1)
            self.bytes += timeline.lost(gap.first, gap.last, gap.reason)

    def _timeline(self, channel: str, epoch: str, base: int) -> Timeline:
        timeline = self._timelines.get((channel, epoch))
        return self._begin_timeline(channel, epoch, base) if timeline is None else timeline

    def _begin_timeline(self, channel: str, epoch: str, base: int) -> Timeline:
        key = (channel, epoch)
        timeline = self._timelines[key] = Timeline(key, base)
        self.bytes += TIMELINE_BYTES + len(channel)
        return timeline

    def ended(self, session: NotedSession, record: SessionRecord, code: int, why: str) -> None:
        """Note that a session has ended. `record` is its last state."""
        if not self._max_bytes:
            return
        now = self._clock()
        notes = session.notes = session.notes or Notes()
        # A record must not be as long as a peer likes. The notes name the channels.
        if record.subscriptions or record.patterns or len(record.user_agent) > MAX_AGENT_CHARACTERS:
            agent = record.user_agent[:MAX_AGENT_CHARACTERS]
            record = replace(record, subscriptions=(), patterns=(), user_agent=agent)
        gone = ClosedSession(record, int(self._wall_clock() * 1000), now, code, why, notes)
        self.closed[session.id] = gone
        if self.archive is not None:
            self.archive.ended(gone)
        farewell = Farewell(self.closed, gone)
        self._keep(farewell, farewell.size)

    # -- forgetting --------------------------------------------------------------------------

    def _keep(self, keeper: Keeps, size: int) -> None:
        self._order.append(keeper)
        self.bytes += size
        while self.bytes > self._max_bytes and self._order:
            self._forget(self._order.popleft())

    def _forget(self, keeper: Keeps) -> None:
        self.bytes -= keeper.forget_oldest()
        if isinstance(keeper, Timeline) and not keeper and not keeper.awaits_batch:
            del self._timelines[keeper.name]
            self.bytes -= TIMELINE_BYTES + len(keeper.name[0])

    def sweep(self) -> None:
        """Forget notes over the age limit, a part of them in each call; call it regularly."""
        limit = self._clock() - REACH_SECONDS
        for _ in range(min(_SWEEP, len(self._order))):
            keeper = self._order[0]
            if keeper.oldest_at < limit:
                self._forget(self._order.popleft())
            elif isinstance(keeper, Notes) and len(keeper) == MAX_EVENTS:
                # Its newer events took over older places, so the keepers behind it come first.
                self._order.rotate(-1)
            else:
                return

    # -- reading -----------------------------------------------------------------------------

    @property
    def keeps(self) -> bool:
        """Whether anything is noted at all."""
        return self._max_bytes > 0

    def timeline(self, channel: str, epoch: str) -> Timeline | None:
        return self._timelines.get((channel, epoch))
