"""The reason why a connection did not get a publication, found by one node.

The answer is found by `hub.core.forensics.explaining`.
"""

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hub.admin.requests import AdminRequest, Handlers
from hub.core.fanout.open_channels import OpenChannels
from hub.core.forensics.answers import Fate
from hub.core.forensics.journal import Journal, Recall
from hub.core.forensics.noted import Notes, What
from hub.core.forensics.question import NOTHING_HELD, Explanation, HistoryHeld, Question, Recalled
from hub.core.forensics.stretches import Case, Stretch, joined
from hub.core.options import MIB
from hub.core.ports import Broker
from hub.core.publication import Position
from hub.core.registry import SessionRegistry
from hub.errors import HubError
from hub.wire.filters import read_filter

MAX_RANGE = 1000
"""Offsets in one question."""
_HISTORY_BYTES = MIB


class FateRange(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for all publications from `first` to `last`."""

    first: int
    last: int
    answer: str
    detail: str


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for one publication. Fields that are not set are left out."""

    answer: str
    detail: str
    """One sentence for a human."""
    epoch: str | UnsetType = UNSET
    head: int | UnsetType = UNSET
    """The channel's newest offset; not known for an epoch that is over."""
    from_ms: int | UnsetType | None = UNSET
    """The earliest time, in milliseconds since 1970 UTC."""
    to_ms: int | UnsetType | None = UNSET
    """The latest time, in milliseconds since 1970 UTC."""
    by: int | UnsetType | None = UNSET
    """The offset that replaced it, where the answer is `conflated`."""
    stretches: tuple[FateRange, ...] | UnsetType = UNSET
    """Answers for all of a range, where the request names one."""


class Explain(AdminRequest[Explained], frozen=True, tag="explain"):
    """Asks what became of one publication on its way to one connection."""

    connection: str
    channel: str
    offset: Annotated[int, Meta(ge=1)]
    epoch: str | None = None
    """The epoch of the offset; None for the channel's present one."""
    last: int | None = None
    """The last offset of a range to explain as well, of `MAX_RANGE` at most."""


UNKNOWN = Explained(
    answer="unknown",
    detail="the node that held the connection lives no more, or there was none",
)


# Answers that notes on disk may improve: notes are forgotten here, or of an earlier epoch.
_PERHAPS_KEPT = frozenset({Fate.UNKNOWN, Fate.NOT_PUBLISHED})


# Offsets explained before other work gets its turn: each takes some 50 us, more with many notes.
_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Evidence:
    """The sources of a node for the fate of publications."""

    registry: SessionRegistry
    journal: Journal
    channels: OpenChannels
    broker: Broker
    recall: Recall | None = None
    """Notes that are kept longer than the journal keeps them; None without any."""

    async def held(self, channel: str, epoch: str, first: int, last: int) -> HistoryHeld:
        """Return what history holds of that stretch, the first `MAX_RANGE` of it; nothing where the
        channel is in another epoch, or the broker is away."""
        limit = min(last - first + 1, MAX_RANGE)
        try:
            page = await self.broker.history(channel, first - 1, limit, max_bytes=_HISTORY_BYTES)
        except HubError:
            return NOTHING_HELD
        if page.head.epoch != epoch:
            return NOTHING_HELD
        return HistoryHeld({each.offset: each for each in page.publications}, read_filter)

    def seen(self, channel: str) -> Position | None:
        """Return the head of a channel as it came here; None where no session here is in it."""
        here = self.channels.get(channel)
        return None if here is None else here.head


class Explaining:
    """Carries `Explain` out; one per node."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._registry = evidence.registry
        self._journal = evidence.journal

    def handlers(self) -> Handlers:
        return {Explain: self.explain}

    async def explain(self, asked: Explain) -> Explained:
        channel, offset = asked.channel, asked.offset
        await all_noted(self._registry, asked.connection)
        newest = await self._newest(channel, offset)
        epoch = asked.epoch or newest.epoch
        current = epoch == newest.epoch
        head = newest.offset if current else offset
        question = Question(channel, epoch, offset, head, current)
        case = self._case(asked.connection, question)
        await self.look_at_history(case, offset, max(offset, asked.last or 0))
        found = case.explain(offset)
        if found.answer in _PERHAPS_KEPT and self._evidence.recall is not None:
            kept = await self._recalled(self._evidence.recall, asked, question)
            if kept is not None and kept[0].answer is not Fate.UNKNOWN:
                found, epoch = kept
                current = epoch == newest.epoch
        told = self._explained(found, epoch, head if current else UNSET)
        if asked.last is None:
            return told
        if epoch != question.epoch:
            case = self._case(asked.connection, replace(question, epoch=epoch, current=current))
        end = min(asked.last, offset + MAX_RANGE - 1)
        return msgspec.structs.replace(told, stretches=await self._fates(case, offset, end))

    def _case(self, connection: str, question: Question) -> Case:
        """Return the case with the notes in memory."""
        session = self._registry.sessions.get(connection)
        closed = None if session is not None else self._journal.closed.get(connection)
        held = session or closed
        notes = None if held is None else held.notes
        return Case(
            question,
            self._journal,
            notes=Notes() if notes is None else notes,
            session=session,
            closed=closed,
        )

    async def look_at_history(self, case: Case, first: int, last: int) -> None:
        """Give the case what history holds, where its answers depend on that."""
        if case.looks_at_history:
            # The publication that replaced the last one may be behind it.
            case.history = await self._evidence.held(
                case.channel, case.epoch, first, last + MAX_RANGE
            )

    async def _fates(self, case: Case, first: int, last: int) -> tuple[FateRange, ...]:
        stretches: list[Stretch] = []
        for place, each in enumerate(case.among(first, last)):
            stretches.append(each)
            if place % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
        return tuple(
            FateRange(
                first=each.first,
                last=each.last,
                answer=each.began.answer.value,
                detail=each.began.detail,
            )
            for each in joined(iter(stretches))
        )

    async def _recalled(
        self, recall: Recall, asked: Explain, question: Question
    ) -> tuple[Explanation, str] | None:
        """Return the answer from notes on disk, and its epoch; None without such notes."""
        session, closed = self._registry.sessions.get(asked.connection), None
        if session is not None:
            notes = await recall.notes(session.id, session.opened_at_seconds)
        else:
            remembered = self._journal.closed.get(asked.connection)
            closed = await recall.visit(asked.connection) or remembered
            notes = None if closed is None else closed.notes
        if notes is None:
            return None
        if asked.epoch is None and (owed := _epoch_of(notes, question)) is not None:
            current = owed == question.epoch
            head = question.head if current else question.offset
            question = replace(question, epoch=owed, current=current, head=head)
        timeline = self._journal.timeline(question.channel, question.epoch)
        if timeline is None or not timeline.reaches(question.offset):
            read = await recall.sending_of(question.channel, question.epoch, question.offset)
            timeline = timeline if read is None else read.before(timeline)
        case = Case(question, Recalled(timeline), notes=notes, session=session, closed=closed)
        await self.look_at_history(case, question.offset, question.offset)
        return case.explain(question.offset), question.epoch

    async def _newest(self, channel: str, offset: int) -> Position:
        """Return the channel's head; while the broker is away the one seen here, if it came so
        far."""
        try:
            return (await self._evidence.broker.history(channel, offset - 1, 1)).head
        except HubError:
            here = self._evidence.seen(channel)
            if here is None or offset > here.offset:
                raise
            return here

    def _explained(self, found: Explanation, epoch: str, head: int | UnsetType) -> Explained:
        at, until = found.at_seconds, found.until_seconds
        return Explained(
            epoch=epoch,
            head=head,
            answer=found.answer.value,
            detail=found.detail,
            from_ms=None if at is None else self._wall_ms(at),
            to_ms=None if until is None else self._wall_ms(until),
            by=found.by,
        )

    def _wall_ms(self, at_seconds: float) -> int:
        return int((time.time() - self._registry.clock() + at_seconds) * 1000)


async def all_noted(registry: SessionRegistry, connection: str) -> None:
    """Return once the journal has all notes of a connection that may just have ended."""
    while connection in registry.parting:  # noqa: ASYNC110 - some turns of the loop
        await asyncio.sleep(0)


def _epoch_of(notes: Notes, question: Question) -> str | None:
    """Return the newest epoch in which a subscription that has ended was owed the offset."""
    held = (
        event.epoch
        for event in reversed(notes.events)
        if event.what is What.HELD
        and event.channel == question.channel
        and event.first <= question.offset <= event.last
    )
    return next(held, None)
