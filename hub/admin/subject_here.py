"""What a subject got and missed, as one node remembers it: `hub.admin.explain_subject` asks.

The node finds the subject's connections (`hub.admin.subject_connections`), and tells of each when
it came and went, what it was subscribed to, and what became of publications on the way to it.
"""

import asyncio

from msgspec import UNSET, UnsetType

from hub.admin.explain import MAX_RANGE, Evidence, Explained
from hub.admin.explain_subject import ExplainSubject, Held, Moment, SubjectPart, Visit
from hub.admin.requests import Handlers
from hub.admin.subject_connections import Known, SubjectConnections, ms_of, seconds_of
from hub.core.forensics.answers import Answer
from hub.core.forensics.noted import What
from hub.core.forensics.question import Explanation, Question, Recalled
from hub.core.forensics.stretches import Case, Hold, Stretch, Window, joined
from hub.core.forensics.timeline import Timeline
from hub.core.publication import Position
from hub.core.records import Origin
from hub.errors import HubError

MAX_VISITS = 100
"""Those that were owed what is asked for, and the newest: somebody who reconnects once a second
must not make a book of it."""
# Asked about before other work gets its turn: each takes some 50 us, more with many notes.
_AT_ONCE = 20
# What waited in an outbox was sent to others so long before, at most (HUB_OUTBOX_MAX_AGE_SECONDS).
_AROUND_SECONDS = 60.0


class SubjectExplaining:
    """Carries it out at this node; one per node."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._origin = evidence.registry.origin
        self._connections = SubjectConnections(evidence)
        self._asking = asyncio.Lock()
        """Questions come one after another: many who ask must not multiply what the loop does."""

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
            # Stable: among those that were owed it, and among the others, the newest stay last.
            known.sort(key=lambda each: each.was_owed(asked))
        telling = _Telling(asked, window, self._evidence)
        for each in known[-MAX_VISITS:]:
            channels = each.channels() if asked.channel is None else [asked.channel]
            heads = {channel: await self._head(channel) for channel in channels}
            await telling.look_at(each, heads)
        return telling.part(more=more)

    async def _head(self, channel: str) -> Position | None:
        """Of now; where the broker is away, the one seen here."""
        try:
            return (await self._evidence.broker.history(channel, 0, 1)).head
        except HubError:
            return self._evidence.seen(channel)


class _Telling:
    """The answer of one node, while it grows connection by connection."""

    def __init__(self, asked: ExplainSubject, window: Window, evidence: Evidence) -> None:
        self._asked = asked
        self._window = window
        self._origin = evidence.registry.origin
        self._evidence = evidence
        self._journal = evidence.journal
        self._recall = evidence.recall
        self._visits: list[Visit] = []
        self._moments: list[Moment] = []
        self._held: list[Held] = []
        self._heads: dict[str, Position] = {}

    def part(self, *, more: bool) -> SubjectPart:
        return SubjectPart(
            visits=tuple(self._visits),
            moments=tuple(self._moments),
            held=tuple(self._held),
            heads=self._heads,
            more=more,
        )

    async def look_at(self, known: Known, heads: dict[str, Position | None]) -> None:
        self._heads |= {channel: head for channel, head in heads.items() if head is not None}
        explained: Explained | UnsetType = UNSET
        for channel, head in heads.items():
            if self._asked.offset is not None:
                explained = await self._explained(known, channel, head, self._asked.offset)
            for epoch in known.epochs(channel):
                if self._asked.epoch in {None, epoch}:
                    await self._tell_channel(known, await self._case(known, channel, epoch, head))
        self._tell_visit(known, explained)

    def _tell_visit(self, known: Known, explained: Explained | UnsetType) -> None:
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
            complete=known.notes.complete and self._journal.keeps,
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

    async def _tell_channel(self, known: Known, case: Case) -> None:
        connection = known.record.connection
        for hold in case.holds():
            self._tell_hold(connection, case, hold)
        if case.looks_at_history and (reach := case.reach(self._window)) is not None:
            # The newest of it, where it is longer than what is read.
            first = max(reach[0], reach[1] - MAX_RANGE + 1)
            case.history = await self._evidence.held(case.channel, case.epoch, first, reach[1])
        for place, stretch in enumerate(joined(case.stretches(self._window))):
            # What no subscription was there for is told once, for all connections together.
            if stretch.began.answer is not Answer.NOT_SUBSCRIBED:
                self._moments.append(self._stretch(connection, case, stretch))
            if place % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
        await asyncio.sleep(0)

    def _tell_hold(self, connection: str, case: Case, hold: Hold) -> None:
        until = hold.until_seconds
        self._held.append(
            Held(
                connection=connection,
                channel=case.channel,
                epoch=case.epoch,
                first=hold.first,
                last=hold.last,
                from_ms=ms_of(hold.since_seconds, self._origin),
                to_ms=None
                if hold.until_seconds is None
                else ms_of(hold.until_seconds, self._origin),
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
        self, known: Known, channel: str, head: Position | None, offset: int
    ) -> Explained:
        """In the epoch that is asked for, else in the newest in which it was owed that offset."""
        epoch = self._asked.epoch
        if epoch is None:
            epoch = next(
                (
                    each
                    for each in reversed(known.epochs(channel))
                    if self._was_owed(known, channel, each, offset)
                ),
                None if head is None else head.epoch,
            )
        if epoch is None:
            return Explained(answer=Answer.UNKNOWN.value, detail="the broker is away")
        case = await self._case(known, channel, epoch, head, offset=offset)
        if case.looks_at_history:
            case.history = await self._evidence.held(channel, epoch, offset, offset + MAX_RANGE)
        told = case.explain(offset)
        forgot = self._asked.epoch is None and not known.notes.complete
        if forgot and told.answer is Answer.NOT_PUBLISHED:
            before = "not in the channel's present epoch; what was noted before it is forgotten"
            told = Explanation(Answer.UNKNOWN, before)
        return self._plain(told, epoch, head)

    def _was_owed(self, known: Known, channel: str, epoch: str, offset: int) -> bool:
        about = Question(channel, epoch, offset, head=0, current=False)
        case = Case(about, self._journal, notes=known.notes, session=known.session)
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
        known: Known,
        channel: str,
        epoch: str,
        head: Position | None,
        *,
        offset: int | None = None,
    ) -> Case:
        current = head is not None and head.epoch == epoch
        timeline = self._journal.timeline(channel, epoch)
        if self._recall is not None and not (
            timeline is not None and offset is not None and timeline.reaches(offset)
        ):
            read = await self._sending(known, channel, epoch, offset)
            timeline = timeline if read is None else read.before(timeline)
        about = Question(
            channel, epoch, 0, head=head.offset if head is not None else 0, current=current
        )
        return Case(
            about,
            Recalled(timeline, keeps=self._journal.keeps),
            notes=known.notes,
            session=known.session,
            closed=known.closed,
        )

    async def _sending(
        self, known: Known, channel: str, epoch: str, offset: int | None
    ) -> Timeline | None:
        """What was kept of the channel's timeline, for an offset or for the connection's life."""
        if self._recall is None:
            return None
        if offset is not None:
            return await self._recall.sending_of(channel, epoch, offset)
        opened = seconds_of(known.record.opened_ms, self._origin)
        ended = self._window.to_seconds
        if known.closed is not None:
            ended = min(ended, known.closed.closed_at_seconds)
        begin = max(opened, self._window.from_seconds)
        return await self._recall.sending(
            channel, epoch, from_seconds=begin - _AROUND_SECONDS, to_seconds=ended + _AROUND_SECONDS
        )

    def _is_asked(self, at_ms: int) -> bool:
        at = seconds_of(at_ms, self._origin)
        return self._window.has(at, at)


def _window(asked: ExplainSubject, origin: Origin) -> Window:
    always = Window()
    return Window(
        always.from_seconds if asked.from_ms is None else seconds_of(asked.from_ms, origin),
        always.to_seconds if asked.to_ms is None else seconds_of(asked.to_ms, origin),
    )
