"""Connections of a subject, and the fate of its publications, from the notes of one node.

The node finds the subject's open connections, those in the journal, and, where notes are kept
longer than that, those in the archive (`hub.core.forensics.journal.Recall`). Of each connection it
returns when it came and went, its subscriptions, and the fate of publications on the way to it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import UNSET, UnsetType

from hub.admin.explain import MAX_RANGE, Evidence, Explained, all_noted
from hub.admin.explain_subject import ExplainSubject, HeldSubscription, Moment, SubjectPart, Visit
from hub.admin.listing import slices
from hub.admin.requests import Handlers
from hub.core.forensics.answers import Fate
from hub.core.forensics.noted import ClosedSession, Notes, What
from hub.core.forensics.question import Explanation, Question, Recalled
from hub.core.forensics.stretches import Case, Hold, Stretch, TimeRange, joined
from hub.core.forensics.timeline import Timeline
from hub.core.publication import Position
from hub.core.records import RowSource, SessionRecord, session_record
from hub.core.session.session import Session
from hub.errors import HubError

MAX_VISITS = 100
"""Visits in one answer: those that were owed the offset in question, and the newest. A subject that
reconnects once a second must not make a book of it."""
_MAX_RECALLED = 1000
# Connections looked at before other work gets its turn.
_SLICE = 1000
# Offsets explained before other work gets its turn: each takes some 50 us, more with many notes.
_AT_ONCE = 20
# The longest time that a publication waits in an outbox (HUB_OUTBOX_MAX_AGE_SECONDS).
_AROUND_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class SubjectConnection:
    """A connection of the subject: open, or ended."""

    record: SessionRecord
    notes: Notes
    session: Session | None = None
    closed: ClosedSession | None = None

    def was_owed(self, asked: ExplainSubject) -> bool:
        """Return whether one of its subscriptions covers the offset in question."""
        offset = asked.offset or 0
        place = (
            None if self.session is None else self.session.subscriptions.get(asked.channel or "")
        )
        return (place is not None and place.began_offset < offset) or any(
            event.what is What.HELD
            and event.channel == asked.channel
            and asked.epoch in {None, event.epoch}
            and event.first <= offset <= event.last
            for event in self.notes.events
        )

    def channels(self) -> list[str]:
        """Return the channels that it is or was subscribed to."""
        held = [] if self.session is None else list(self.session.subscriptions)
        return list(dict.fromkeys([*(e.channel for e in self.notes.events), *held]))

    def epochs(self, channel: str) -> list[str]:
        """Return the epochs of the channel that it was in, oldest first."""
        found = [e.epoch for e in self.notes.events if e.channel == channel and e.epoch]
        place = None if self.session is None else self.session.subscriptions.get(channel)
        now = [] if place is None else [place.epoch]
        return list(dict.fromkeys([*found, *now]))


class SubjectConnections:
    """Finds the connections of a subject; one per node."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    async def of(self, subject: str, window: TimeRange) -> list[SubjectConnection]:
        """Return the subject's connections within `window`, in the order in which they opened."""
        registry = self._evidence.registry
        found: dict[str, SubjectConnection] = {}
        for some in slices(list(registry.sessions.values()), _SLICE):
            for session in some:
                mine = session.identity.subject == subject
                if mine and window.has(session.opened_at_seconds, None):
                    record = session_record(session, registry.origin, subscriptions=False)
                    notes = await self._notes(session.id, session.notes, session.opened_at_seconds)
                    found[session.id] = SubjectConnection(record, notes, session=session)
            await asyncio.sleep(0)
        for gone in await self._ended(subject, window):
            opened = seconds_of(gone.record.opened_ms, registry.origin)
            if gone.record.connection not in found and window.has(opened, gone.closed_at_seconds):
                known = SubjectConnection(gone.record, gone.notes, closed=gone)
                found[gone.record.connection] = known
        return sorted(found.values(), key=lambda each: each.record.opened_ms)

    async def _ended(self, subject: str, window: TimeRange) -> Sequence[ClosedSession]:
        recalled: Sequence[ClosedSession] = ()
        if (recall := self._evidence.recall) is not None:
            recalled = await recall.visits(
                subject,
                from_seconds=window.from_seconds,
                to_seconds=window.to_seconds,
                limit=_MAX_RECALLED,
            )
        ended = {gone.record.connection: gone for gone in recalled}
        for some in slices(list(self._evidence.journal.closed.values()), _SLICE):
            for gone in some:
                mine = gone.record.subject == subject
                # A connection that was read has all notes; memory has those of one just ended.
                if mine and (gone.notes.complete or gone.record.connection not in ended):
                    ended[gone.record.connection] = gone
            await asyncio.sleep(0)
        return list(ended.values())

    async def _notes(self, connection: str, own: Notes | None, since_seconds: float) -> Notes:
        notes, recall = Notes() if own is None else own, self._evidence.recall
        if recall is None or notes.complete:
            return notes
        read = await recall.notes(connection, since_seconds)
        return notes if read is None else read


def ms_of(at_seconds: float, origin: RowSource) -> int:
    return round((at_seconds + origin.wall_offset_seconds) * 1000)


def seconds_of(at_ms: int, origin: RowSource) -> float:
    return at_ms / 1000 - origin.wall_offset_seconds


class SubjectExplaining:
    """Carries `ExplainSubject` out; one per node."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._origin = evidence.registry.origin
        self._connections = SubjectConnections(evidence)
        self._asking = asyncio.Lock()
        """Held while a question is answered, so that callers do not multiply the loop's work."""

    def handlers(self) -> Handlers:
        return {ExplainSubject: self.explain}

    async def explain(self, asked: ExplainSubject) -> SubjectPart:
        async with self._asking:
            return await self._explained(asked)

    async def _explained(self, asked: ExplainSubject) -> SubjectPart:
        window = _window(asked, self._origin)
        known = await self._connections.of(asked.subject, window)
        more = len(known) > MAX_VISITS
        if more and asked.offset is not None:
            # A stable sort: of those that were owed it, and of the others, the newest stay last.
            known.sort(key=lambda each: each.was_owed(asked))
        telling = _Telling(asked, window, self._evidence)
        for each in known[-MAX_VISITS:]:
            await all_noted(self._evidence.registry, each.record.connection)
            channels = each.channels() if asked.channel is None else [asked.channel]
            heads = {channel: await self._head(channel) for channel in channels}
            await telling.look_at(each, heads)
        return telling.part(more=more)

    async def _head(self, channel: str) -> Position | None:
        """Return the present head; while the broker is away the one seen here."""
        try:
            return (await self._evidence.broker.history(channel, 0, 1)).head
        except HubError:
            return self._evidence.seen(channel)


class _Telling:
    """The answer of one node, while it grows connection by connection."""

    def __init__(self, asked: ExplainSubject, window: TimeRange, evidence: Evidence) -> None:
        self._asked = asked
        self._window = window
        self._origin = evidence.registry.origin
        self._evidence = evidence
        self._visits: list[Visit] = []
        self._moments: list[Moment] = []
        self._held: list[HeldSubscription] = []
        self._heads: dict[str, Position] = {}

    def part(self, *, more: bool) -> SubjectPart:
        return SubjectPart(
            visits=tuple(self._visits),
            moments=tuple(self._moments),
            held=tuple(self._held),
            heads=self._heads,
            more=more,
        )

    async def look_at(self, known: SubjectConnection, heads: dict[str, Position | None]) -> None:
        self._heads |= {channel: head for channel, head in heads.items() if head is not None}
        explained: Explained | UnsetType = UNSET
        for channel, head in heads.items():
            if self._asked.offset is not None:
                explained = await self._explained(known, channel, head, self._asked.offset)
            for epoch in known.epochs(channel):
                if self._asked.epoch in {None, epoch}:
                    await self._tell_channel(known, await self._case(known, channel, epoch, head))
        self._tell_visit(known, explained)

    def _tell_visit(self, known: SubjectConnection, explained: Explained | UnsetType) -> None:
        record, gone = known.record, known.closed
        visit = Visit(
            connection=record.connection,
            node=record.node,
            transport=record.transport,
            address=record.address,
            user_agent=record.user_agent,
            opened_ms=record.opened_ms,
            closed_ms=None if gone is None else gone.closed_ms,
            code=None if gone is None else int(gone.code),
            reason="" if gone is None else gone.reason,
            complete=known.notes.complete and self._evidence.journal.keeps,
            explained=explained,
        )
        self._visits.append(visit)
        name = record.connection
        if self._is_asked(record.opened_ms):
            where = f"{record.transport} from {record.address} at {record.node}"
            opened = Moment(what="opened", connection=name, at_ms=record.opened_ms, detail=where)
            self._moments.append(opened)
        if gone is not None and self._is_asked(gone.closed_ms):
            why = f"{int(gone.code)} {gone.reason}".strip()
            closed = Moment(what="closed", connection=name, at_ms=gone.closed_ms, detail=why)
            self._moments.append(closed)
        for event in known.notes.events:
            if event.what is What.REFUSED and self._asked.channel in {None, event.channel}:
                self._tell(
                    "refused", name, event.at_seconds, channel=event.channel, detail=event.detail
                )

    async def _tell_channel(self, known: SubjectConnection, case: Case) -> None:
        connection = known.record.connection
        for hold in case.holds():
            self._tell_hold(connection, case, hold)
        if case.looks_at_history and (reach := case.reach(self._window)) is not None:
            # The newest part, where the stretch is longer than one read.
            first = max(reach[0], reach[1] - MAX_RANGE + 1)
            case.history = await self._evidence.held(case.channel, case.epoch, first, reach[1])
        for place, stretch in enumerate(joined(case.stretches(self._window))):
            # A stretch without a subscription is told once, for all connections together.
            if stretch.began.answer is not Fate.NOT_SUBSCRIBED:
                self._moments.append(self._stretch(connection, case, stretch))
            if place % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
        await asyncio.sleep(0)

    def _tell_hold(self, connection: str, case: Case, hold: Hold) -> None:
        until = hold.until_seconds
        self._held.append(
            HeldSubscription(
                connection=connection,
                channel=case.channel,
                epoch=case.epoch,
                first=hold.first,
                last=hold.last,
                from_ms=ms_of(hold.since_seconds, self._origin),
                to_ms=None if until is None else ms_of(until, self._origin),
                how=hold.how,
            )
        )
        place = {"channel": case.channel, "epoch": case.epoch}
        after = f"after {hold.first - 1}"
        self._tell("subscribed", connection, hold.since_seconds, detail=after, **place)
        if until is not None and hold.how != "closed":
            after = f"{hold.how} after {hold.last}"
            self._tell("left", connection, until, detail=after, **place)

    def _tell(self, what: str, connection: str, at_seconds: float, **more: str) -> None:
        if self._window.has(at_seconds, at_seconds):
            at = ms_of(at_seconds, self._origin)
            self._moments.append(
                Moment(
                    what=what,
                    connection=connection,
                    at_ms=at,
                    channel=more.get("channel"),
                    epoch=more.get("epoch"),
                    detail=more.get("detail", ""),
                )
            )

    def _stretch(self, connection: str, case: Case, stretch: Stretch) -> Moment:
        at, until = stretch.began.at_seconds, stretch.ended.until_seconds
        return Moment(
            what=stretch.began.answer.value,
            connection=connection,
            at_ms=None if at is None else ms_of(at, self._origin),
            to_ms=None if until is None else ms_of(until, self._origin),
            channel=case.channel,
            epoch=case.epoch,
            first=stretch.first,
            last=stretch.last,
            detail=stretch.began.detail,
        )

    # -- one publication ---------------------------------------------------------------------

    async def _explained(
        self, known: SubjectConnection, channel: str, head: Position | None, offset: int
    ) -> Explained:
        """Explain in the asked epoch, else in the newest in which it was owed the offset."""
        newest = None if head is None else head.epoch
        epochs = reversed(known.epochs(channel))
        owed = (each for each in epochs if self._was_owed(known, channel, each, offset))
        epoch = next(owed, newest) if self._asked.epoch is None else self._asked.epoch
        if epoch is None:
            return Explained(answer=Fate.UNKNOWN.value, detail="the broker is away")
        case = await self._case(known, channel, epoch, head, offset=offset)
        if case.looks_at_history:
            case.history = await self._evidence.held(channel, epoch, offset, offset + MAX_RANGE)
        told = case.explain(offset)
        forgot = self._asked.epoch is None and not known.notes.complete
        if forgot and told.answer is Fate.NOT_PUBLISHED:
            before = "not in the channel's present epoch; what was noted before it is forgotten"
            told = Explanation(Fate.UNKNOWN, before)
        return self._plain(told, epoch, head)

    def _was_owed(self, known: SubjectConnection, channel: str, epoch: str, offset: int) -> bool:
        about = Question(channel, epoch, offset, head=0, current=False)
        case = Case(about, self._evidence.journal, notes=known.notes, session=known.session)
        return any(
            each.first <= offset and (each.last is None or offset <= each.last)
            for each in case.holds()
        )

    def _plain(self, told: Explanation, epoch: str, head: Position | None) -> Explained:
        at, until = told.at_seconds, told.until_seconds
        return Explained(
            answer=told.answer.value,
            detail=told.detail,
            epoch=epoch,
            head=head.offset if head is not None and head.epoch == epoch else UNSET,
            from_ms=None if at is None else ms_of(at, self._origin),
            to_ms=None if until is None else ms_of(until, self._origin),
            by=told.by,
        )

    async def _case(
        self,
        known: SubjectConnection,
        channel: str,
        epoch: str,
        head: Position | None,
        *,
        offset: int | None = None,
    ) -> Case:
        current = head is not None and head.epoch == epoch
        journal = self._evidence.journal
        timeline = journal.timeline(channel, epoch)
        if offset is None or timeline is None or not timeline.reaches(offset):
            read = await self._sending(known, channel, epoch, offset)
            timeline = timeline if read is None else read.before(timeline)
        about = Question(
            channel, epoch, 0, head=head.offset if head is not None else 0, current=current
        )
        return Case(
            about,
            Recalled(timeline, keeps=journal.keeps),
            notes=known.notes,
            session=known.session,
            closed=known.closed,
        )

    async def _sending(
        self, known: SubjectConnection, channel: str, epoch: str, offset: int | None
    ) -> Timeline | None:
        """Return the kept timeline of the channel, for an offset or for the connection's life."""
        if (recall := self._evidence.recall) is None:
            return None
        if offset is not None:
            return await recall.sending_of(channel, epoch, offset)
        opened = seconds_of(known.record.opened_ms, self._origin)
        ended = self._window.to_seconds
        if known.closed is not None:
            ended = min(ended, known.closed.closed_at_seconds)
        begin = max(opened, self._window.from_seconds)
        return await recall.sending(
            channel, epoch, from_seconds=begin - _AROUND_SECONDS, to_seconds=ended + _AROUND_SECONDS
        )

    def _is_asked(self, at_ms: int) -> bool:
        at = seconds_of(at_ms, self._origin)
        return self._window.has(at, at)


def _window(asked: ExplainSubject, origin: RowSource) -> TimeRange:
    always = TimeRange()
    return TimeRange(
        always.from_seconds if asked.from_ms is None else seconds_of(asked.from_ms, origin),
        always.to_seconds if asked.to_ms is None else seconds_of(asked.to_ms, origin),
    )
