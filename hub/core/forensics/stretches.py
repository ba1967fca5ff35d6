"""Explains a range of publications for one connection, as stretches.

All offsets of a stretch have the same answer. An edge is an offset where a note, the subscription
or the timeline begins or ends. Between two edges an answer seldom changes, so the explainer is
asked at both ends, and in the middle only where the ends differ. No I/O.

Example: a subscription from 11 to 30 of which 15 to 19 were dropped has the edges 11, 15, 20 and
31, and three stretches: written, dropped, written.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from hub.core.forensics.explaining import Explainer
from hub.core.forensics.noted import ClosedSession, Event, Notes, What, written_of
from hub.core.forensics.question import NOTHING_HELD, Explanation, OpenSession, Question, Remembers


@dataclass(frozen=True, slots=True)
class Stretch:
    """Offsets `first` to `last`, which have the same answer."""

    first: int
    last: int
    began: Explanation
    """The explanation of the first offset."""
    ended: Explanation
    """The explanation of the last offset. It differs from `began` in its times only."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A subscription of the connection, open or ended: the range it was owed, and its times."""

    first: int
    last: int | None
    """None while it is open."""
    since_seconds: float
    until_seconds: float | None
    how: str
    """`open` while it is, then how it ended: `closed`, `reset` or `left`."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A period of monotonic time."""

    from_seconds: float = float("-inf")
    to_seconds: float = float("inf")

    def has(self, since: float, until: float | None) -> bool:
        return since <= self.to_seconds and (until is None or until >= self.from_seconds)


ALWAYS = TimeRange()
_OF_CONTENT = frozenset({What.FILTERED, What.THINNED})


class Case:
    """A connection and one epoch of a channel.

    Args:
        about: the channel, its epoch and its head; its offset is not used.
        notes: the notes of the connection.
    """

    def __init__(
        self,
        about: Question,
        journal: Remembers,
        *,
        notes: Notes,
        session: OpenSession | None = None,
        closed: ClosedSession | None = None,
    ) -> None:
        self.channel = about.channel
        self.epoch = about.epoch
        self._about = about
        self._journal = journal
        events = [
            event
            for event in notes.events
            if event.channel == self.channel and event.epoch in {self.epoch, ""}
        ]
        # There may be a thousand events of other channels.
        self._notes = Notes(events, notes.forgotten_at)
        self._session = session
        self._closed = closed
        self._timeline = journal.timeline(self.channel, self.epoch)
        found = None if session is None else session.subscriptions.get(self.channel)
        self._place = found if found is not None and found.epoch == self.epoch else None
        self.history = NOTHING_HELD
        """The part of the channel's history that is read, where `looks_at_history`."""

    @property
    def looks_at_history(self) -> bool:
        """Whether an answer depends on tags or keys: of a filter, or of conflation by key."""
        asked = () if self._place is None else [what for what, _ in self._place.terms]
        noted = [event.what for event in self._notes.events]
        return not _OF_CONTENT.isdisjoint([*asked, *noted])

    def explain(self, offset: int) -> Explanation:
        about = self._about
        # The head of an epoch that is over is unknown.
        head = about.head if about.current else offset
        return Explainer(
            replace(about, offset=offset, head=head),
            self._journal,
            session=self._session,
            closed=self._closed,
            notes=self._notes,
            history=self.history,
        ).explain()

    def holds(self) -> list[Hold]:
        """Return the connection's subscriptions, oldest first."""
        ended = [
            Hold(e.first, e.last, e.at_seconds, e.until_seconds, e.detail)
            for e in self._notes.events
            if e.what is What.HELD and e.epoch == self.epoch
        ]
        if (place := self._place) is None:
            return ended
        return [*ended, Hold(place.began_offset + 1, None, place.began_at_seconds, None, "open")]

    def stretches(self, window: TimeRange = ALWAYS) -> Iterator[Stretch]:
        """Yield in order the stretches that were sent or noted in that time."""
        if (reach := self.reach(window)) is not None:
            yield from self.among(*reach)

    def among(self, first: int, last: int) -> Iterator[Stretch]:
        """Yield the stretches from `first` to `last`, in order."""
        edges = sorted({first, *(e for e in self._edges() if first < e <= last), last + 1})
        for begin, end in pairwise(edges):
            yield from self._between(begin, end - 1)

    def _between(self, first: int, last: int) -> Iterator[Stretch]:
        """Halve the range until both ends of each part have the same answer."""
        began = self.explain(first)
        ended = began if first == last else self.explain(last)
        if (began.answer, began.detail) == (ended.answer, ended.detail):
            yield Stretch(first, last, began, ended)
            return
        middle = (first + last) // 2
        yield from self._between(first, middle)
        yield from self._between(middle + 1, last)

    def reach(self, window: TimeRange) -> tuple[int, int] | None:
        """Return the first and last offset of its subscriptions that were noted in that time."""
        holds = self.holds()
        if not holds:
            return None
        spans = [
            (event.first, event.last)
            for event in self._notes.events
            if event.first
            and event.what is not What.HELD
            and window.has(event.at_seconds, event.until_seconds)
        ]
        if self._timeline is not None:
            sent = self._timeline.between(window.from_seconds, window.to_seconds)
            spans += [] if sent is None else [sent]
        if not spans:
            return None
        owed = [self._owed_until() if hold.last is None else hold.last for hold in holds]
        first = max(min(first for first, _ in spans), min(hold.first for hold in holds))
        last = min(max(last for _, last in spans), max(owed))
        return (first, last) if first <= last else None

    def _owed_until(self) -> int:
        """Return the last offset that the open subscription is owed."""
        place = self._place
        reached = 0 if place is None else place.position.offset
        return max(reached, self._about.head) if self._about.current else reached

    def _edges(self) -> Iterator[int]:
        """Yield the offsets at which another answer may begin."""
        for event in self._notes.events:
            yield event.first
            yield event.last + 1
            if event.what is What.HELD:
                yield event.by + 1
            if event.what is What.THINNED:
                yield from self._edges_of_thinned(event)
        yield from self._edges_of_filters()
        if (place := self._place) is not None:
            yield place.began_offset + 1
            yield place.position.offset + 1
            yield place.replayed_until(0) + 1
        if (timeline := self._timeline) is not None:
            yield timeline.began_offset + 1
            yield timeline.last + 1
            for first, last, _ in timeline.losses:
                yield first
                yield last + 1
            if forgotten := timeline.between(float("-inf"), self._notes.forgotten_at):
                yield forgotten[1] + 1

    def _edges_of_thinned(self, event: Event) -> Iterator[int]:
        """Yield the edges of a thinned range.

        They are at the written offsets. With several keys they are at all offsets: each may have
        been replaced by another one.
        """
        written = written_of(event)[1]
        one_key = written is not None and len(written) == 1
        for offset in written or () if one_key else range(event.first, event.last + 1):
            yield offset
            yield offset + 1

    def _edges_of_filters(self) -> Iterator[int]:
        """Yield the offsets at which a filter begins to match, or not to, or becomes unknown."""
        terms = dict(() if self._place is None else self._place.terms)
        texts = {e.detail for e in self._notes.events if e.what is What.FILTERED}
        if What.FILTERED in terms:
            texts.add(terms[What.FILTERED])
        held = sorted(self.history.publications)
        for text in texts:
            before: tuple[int, object] = (-1, None)
            for offset in held:
                fate = self.history.lets_through(text, offset), self.history.has_key(offset)
                if offset != before[0] + 1 or fate != before[1]:
                    yield before[0] + 1
                    yield offset
                before = offset, fate
            yield before[0] + 1


def joined(stretches: Iterator[Stretch]) -> Iterator[Stretch]:
    """Join adjacent stretches with the same answer."""
    before: Stretch | None = None
    for each in stretches:
        if (
            before is not None
            and each.first == before.last + 1
            and (each.began.answer, each.began.detail) == (before.ended.answer, before.ended.detail)
        ):
            before = Stretch(before.first, each.last, before.began, each.ended)
            continue
        if before is not None:
            yield before
        before = each
    if before is not None:
        yield before
