"""Why a connection did not get a publication.

The answer is found by `hub.core.forensics.explaining`.
"""

import time
from dataclasses import dataclass, replace
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hub.admin.requests import AdminRequest, Handlers
from hub.core.fanout.channels import OpenChannels
from hub.core.forensics.answers import Answer
from hub.core.forensics.archive import Recall
from hub.core.forensics.explaining import Explainer, Explanation, Question
from hub.core.forensics.journal import Journal
from hub.core.forensics.noted import ClosedSession, Notes, What
from hub.core.forensics.recalled import Recalled
from hub.core.forensics.stretches import Case, joined
from hub.core.ports import Broker
from hub.core.publication import Position
from hub.core.registry import SessionRegistry
from hub.core.session.session import Session
from hub.errors import HubError
from hub.wire.filters import TagFilter

MAX_RANGE = 1000
"""Offsets in one question."""


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """What became of all publications from `first` to `last`."""

    first: int
    last: int
    answer: str
    detail: str


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it. What is not set is left out."""

    answer: str
    detail: str
    """One sentence for a human."""
    epoch: str | UnsetType = UNSET
    head: int | UnsetType = UNSET
    """The channel's newest offset; of an epoch that is over it is not known."""
    from_ms: int | UnsetType | None = UNSET
    """When, at the earliest, in milliseconds since 1970 UTC ..."""
    to_ms: int | UnsetType | None = UNSET
    """... and at the latest."""
    by: int | UnsetType | None = UNSET
    """Of `conflated`: the offset that replaced it."""
    stretches: tuple[Fate, ...] | UnsetType = UNSET
    """Where several were asked about: what became of each."""


class Explain(AdminRequest[Explained], frozen=True, tag="explain"):
    """What became of one publication on its way to one connection."""

    connection: str
    channel: str
    offset: Annotated[int, Meta(ge=1)]
    epoch: str | None = None
    """Of the offset; None for the channel's own of now."""
    last: int | None = None
    """Tell as well what became of all from the offset to this one, `MAX_RANGE` at most."""


UNKNOWN = Explained(
    answer="unknown",
    detail="the node that held the connection lives no more, or there was none",
)


# What was noted is forgotten here, or of an epoch before the present one.
_PERHAPS_KEPT = frozenset({Answer.UNKNOWN, Answer.NOT_PUBLISHED})


# What is said of all that a subscription was owed, without a look at its filter.
_PASSES_FILTERS = frozenset({Answer.WRITTEN, Answer.QUEUED})


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a node knows of what became of publications."""

    registry: SessionRegistry
    journal: Journal
    channels: OpenChannels
    broker: Broker
    recall: Recall | None = None
    """What was kept longer than the journal keeps it; None where nothing is."""

    def seen(self, channel: str) -> Position | None:
        """The head of a channel as it came here; None where no session here is in it."""
        here = self.channels.get(channel)
        return None if here is None else here.head


class Explaining:
    """Carries these out at this node; one per node."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._registry = evidence.registry
        self._journal = evidence.journal

    def handlers(self) -> Handlers:
        return {Explain: self.explain}

    async def explain(self, asked: Explain) -> Explained:
        channel, offset = asked.channel, asked.offset
        newest = await self._newest(channel, offset)
        epoch = asked.epoch or newest.epoch
        current = epoch == newest.epoch
        head = newest.offset if current else offset
        session = self._registry.sessions.get(asked.connection)
        closed = None if session is not None else self._journal.closed.get(asked.connection)
        question = Question(channel, epoch, offset, head, current)
        found = Explainer(question, self._journal, session=session, closed=closed).explain()
        if found.answer in _PERHAPS_KEPT and self._evidence.recall is not None:
            kept = await self._recalled(self._evidence.recall, asked, question)
            if kept is not None and kept[0].answer is not Answer.UNKNOWN:
                found, epoch = kept
                current = epoch == newest.epoch
        told = self._told(found, epoch, head if current else UNSET)
        held = session or closed
        text = _newest_note(held, channel, What.FILTERED)
        wanted = TagFilter(text.encode()) if text else None
        if wanted is not None and found.answer in _PASSES_FILTERS:
            told = await self._filtered(told, wanted, channel, offset)
        every_ms = _newest_note(held, channel, What.THROTTLED)
        if every_ms and told.answer in _PASSES_FILTERS:
            unless = f"unless a newer one took its place: it wants one each {every_ms} ms"
            told = msgspec.structs.replace(
                told, detail=f"{told.detail}; {unless}" if told.detail else unless
            )
        if asked.last is None:
            return told
        question = replace(question, epoch=epoch, current=current)
        fates = self._fates(asked, question, asked.last)
        if wanted is not None:
            fates = tuple(_as_filtered(fate, wanted) for fate in fates)
        return msgspec.structs.replace(told, stretches=fates)

    async def _filtered(
        self, told: Explained, wanted: TagFilter, channel: str, offset: int
    ) -> Explained:
        """The answer where the subscription has a filter, which history may tell about."""
        text = wanted.text.decode()
        try:
            page = await self._evidence.broker.history(channel, offset - 1, 1)
        except HubError:
            page = None
        found = next((p for p in page.publications if p.offset == offset), None) if page else None
        if found is None or page is None or page.head.epoch != told.epoch:
            unless = f"unless its filter left it out: {text}"
            detail = f"{told.detail}; {unless}" if told.detail else unless
            return msgspec.structs.replace(told, detail=detail)
        if wanted.matches(found.tags):
            return told
        return msgspec.structs.replace(
            told, answer=Answer.FILTERED.value, detail=f"its filter leaves it out: {text}"
        )

    def _fates(self, asked: Explain, question: Question, last: int) -> tuple[Fate, ...]:
        """As far as memory knows."""
        session = self._registry.sessions.get(asked.connection)
        closed = None if session is not None else self._journal.closed.get(asked.connection)
        held = session or closed
        notes = None if held is None else held.notes
        case = Case(
            question,
            self._journal,
            notes=Notes() if notes is None else notes,
            session=session,
            closed=closed,
        )
        end = min(last, asked.offset + MAX_RANGE - 1)
        return tuple(
            Fate(
                first=each.first,
                last=each.last,
                answer=each.began.answer.value,
                detail=each.began.detail,
            )
            for each in joined(case.among(asked.offset, end))
        )

    async def _recalled(
        self, recall: Recall, asked: Explain, question: Question
    ) -> tuple[Explanation, str] | None:
        """What can be said with what was kept, and of which epoch; None where nothing was."""
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
        explainer = Explainer(
            question, Recalled(timeline), session=session, closed=closed, notes=notes
        )
        return explainer.explain(), question.epoch

    async def _newest(self, channel: str, offset: int) -> Position:
        """The channel's head; where the broker is away, the one seen here, if it came so far."""
        try:
            return (await self._evidence.broker.history(channel, offset - 1, 1)).head
        except HubError:
            here = self._evidence.seen(channel)
            if here is None or offset > here.offset:
                raise
            return here

    def _told(self, found: Explanation, epoch: str, head: int | UnsetType) -> Explained:
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


def _as_filtered(fate: Fate, wanted: TagFilter) -> Fate:
    if fate.answer not in _PASSES_FILTERS:
        return fate
    unless = f"but for what its filter left out: {wanted.text.decode()}"
    detail = f"{fate.detail}; {unless}" if fate.detail else unless
    return msgspec.structs.replace(fate, detail=detail)


def _epoch_of(notes: Notes, question: Question) -> str | None:
    """The newest epoch in which a subscription that has ended was owed the offset."""
    held = (
        event.epoch
        for event in reversed(notes.events)
        if event.what is What.HELD
        and event.channel == question.channel
        and event.first <= question.offset <= event.last
    )
    return next(held, None)


def _newest_note(held: Session | ClosedSession | None, channel: str, what: What) -> str:
    """What was noted so of its newest subscription to the channel; empty where nothing was."""
    notes = None if held is None else held.notes
    for event in reversed(() if notes is None else notes.events):
        if event.channel == channel and event.what is what:
            return event.detail
    return ""
