"""Explains why a connection did or did not get a publication.

It collects the facts of the case from the state of a session, the notes about it and its channel's
timeline. The table in `hub.core.forensics.answers` maps the facts to an answer. Nothing here has
effects.
"""

from collections.abc import Mapping

from hub.core.forensics.answers import (
    OWED,
    RESERVATIONS,
    TABLE,
    AnswerRow,
    Fact,
    Fate,
    Times,
)
from hub.core.forensics.noted import TERMS, ClosedSession, Event, Notes, What, written_of
from hub.core.forensics.question import (
    NOTHING_HELD,
    Explanation,
    HistoryHeld,
    OpenSession,
    OpenSubscription,
    Question,
    Remembers,
)
from hub.core.forensics.timeline import Timeline
from hub.errors import ForbiddenError

_STATES = {
    "replaying": Fact.REPLAYING,
    "congested": Fact.CONGESTED,
    "live": Fact.WAITING,
}
_ENDINGS = {
    "closed": Fact.CLOSED_BEFORE,
    "reset": Fact.RESET_BEFORE,
    "unsubscribed": Fact.LEFT_BEFORE,
    "ended": Fact.ENDED_BEFORE,
}
_NOTHING_NOTED = Notes(forgotten_at=float("inf"))
# Notes that span a range come after notes on offsets that were left out of it.
_SPANNING = {What.THINNED: 1, What.UNSENT: 2, What.REPLAYED: 3, What.LATE: 4}
# Older notes that still count beside a replay: they belong to the same subscription.
_BESIDE_REPLAYED = frozenset({What.OWN, What.EXPIRED, What.INVALID})


class Explainer:
    """Explains one connection: `session` while it is open, `closed` when it has ended.

    Args:
        notes: the notes of the connection, where they are more than the session itself has.
        history: a part of the channel's history, where tags or keys are needed.
    """

    def __init__(
        self,
        question: Question,
        journal: Remembers,
        *,
        session: OpenSession | None = None,
        closed: ClosedSession | None = None,
        notes: Notes | None = None,
        history: HistoryHeld = NOTHING_HELD,
    ) -> None:
        held = session or closed
        self._history = history
        self._question = question
        self._session = session
        self._closed = closed
        self._timeline: Timeline | None = journal.timeline(question.channel, question.epoch)
        self._notes = _NOTHING_NOTED
        if journal.keeps:
            # Notes that are forgotten altogether are not the same as new ones.
            own = None if held is None else held.notes
            known = own if notes is None else notes
            self._notes = Notes() if known is None else known
        self._events = [
            event
            for event in reversed(self._notes.events)
            if event.channel == question.channel and event.epoch in {question.epoch, ""}
        ]
        """The events of this channel and epoch, newest first."""
        self._held = [event for event in self._events if event.what is What.HELD]
        """Subscriptions that have ended."""
        self._sending = None if self._timeline is None else self._timeline.when(question.offset)
        """The period in which it was sent to live subscribers; None where that is unknown."""
        found = [e for e in self._events if e.first <= question.offset <= e.last]
        self._found = self._standing(found)
        spanning_last = sorted(self._found, key=lambda event: _SPANNING.get(event.what, 0))
        deciding = (e for e in spanning_last if e.what is not What.HELD)
        self._turn = next((e for e in self._found if e.what is What.THINNED), None)
        """The note of the thinned range that contains it."""
        self._thinned = self._fate_in_turn()
        left_alone = {Fact.REPLACED, Fact.UNTOLD, None}
        self._note = next(
            (e for e in deciding if e is not self._turn or self._thinned in left_alone), None
        )
        """The deciding note on it."""
        self._refusal = self._refused()
        self._place = self._subscription()
        self._terms = self._agreed()

    def explain(self) -> Explanation:
        """Return the answer; `unknown` for a publication that the notes do not reach."""
        facts = self._facts()
        row = next(row for row in TABLE if row.facts <= facts)
        at, until = self._times(row.times)
        words = self._words()
        details = [row.detail.format_map(words)]
        if row.answer in OWED:
            details += [text.format_map(words) for fact, text in RESERVATIONS if fact in facts]
        return Explanation(row.answer, "; ".join(filter(None, details)), at, until, self._by(row))

    def _by(self, row: AnswerRow) -> int | None:
        """Return the offset that replaced a conflated publication; None where unknown."""
        if row.answer is not Fate.CONFLATED or self._note is None:
            return None
        return (self._successor if self._note is self._turn else self._note.by) or None

    def _facts(self) -> set[Fact | What]:
        facts: set[Fact | What] = {self._known(), self._stands()}
        asked = self._question
        if asked.offset > asked.head:
            facts.add(Fact.BEYOND_HEAD)
        if not asked.current:
            facts.add(Fact.EPOCH_OVER)
        if self._closed is not None:
            facts.add(Fact.GONE)
        elif self._session is None:
            facts.add(Fact.NO_CONNECTION)
        if self._forgot():
            facts.add(Fact.FORGOTTEN)
        if self._note is not None:
            facts.add(self._note.what)
        if self._doubtful():
            facts.add(Fact.DOUBTFUL)
        facts |= self._facts_of_terms() | self._facts_of_history()
        if self._refusal is not None:
            granted = self._refusal.detail != ForbiddenError.code
            facts.add(Fact.NOT_ADMITTED if granted else Fact.NOT_GRANTED)
        return facts

    def _times(self, times: Times) -> tuple[float | None, float | None]:
        if times is Times.SENDING and self._sending is not None:
            return self._sending
        if times is Times.TURN and self._turn is not None:
            return self._turn.at_seconds, self._turn.until_seconds
        if times is Times.NOTE and self._note is not None:
            return self._note.at_seconds, self._note.until_seconds
        if times is Times.REFUSAL and self._refusal is not None:
            return self._refusal.at_seconds, self._refusal.until_seconds
        if times is Times.END and (ended := self._ended_before()) is not None:
            return ended.until_seconds, ended.until_seconds
        return None, None

    def _words(self) -> dict[str, object]:
        """Return the values that the details of rows name."""
        asked, closed, ended = self._question, self._closed, self._ended_before()
        kept_ms = self._timeline and self._timeline.kept_ms(asked.offset)
        patterns = self._session and self._session.patterns
        by = self._successor if self._note is self._turn else self._note and self._note.by
        return {
            "by": by,
            "until": self._turn and self._turn.by,
            "filter": self._terms.get(What.FILTERED),
            "every_ms": self._every_ms(),
            "pattern": self._terms.get(What.MATCHED),
            "patterns": ", ".join(patterns.by_text) if patterns else "",
            "kept_seconds": (kept_ms or 0) / 1000,
            "how": ended and ended.detail,
            "channel": asked.channel,
            "epoch": asked.epoch,
            "head": asked.head,
            "policy": self._note and self._note.detail,
            "lost": self._timeline and self._timeline.why_lost(asked.offset),
            "code": closed and closed.code,
            "reason": closed and closed.reason,
            "left_after": ended and ended.last,
            "refusal": self._refusal and self._refusal.detail,
            "began_after": self._place and self._place.began_offset,
        }

    # -- notes -------------------------------------------------------------------------------

    def _standing(self, found: list[Event]) -> list[Event]:
        """Return the notes that still count after later subscriptions of the same connection."""
        whats = [event.what for event in found]
        unsent = What.UNSENT in whats
        if not unsent and What.EXPIRED in whats and What.HELD in whats[whats.index(What.EXPIRED) :]:
            # An earlier subscription was owed it, and its notes answer.
            return self._standing(found[whats.index(What.EXPIRED) + 1 :])
        if What.REPLAYED in whats:
            again = whats.index(What.REPLAYED) + 1
            return found[:again] + [e for e in found[again:] if e.what in _BESIDE_REPLAYED]
        return found

    def _doubtful(self) -> bool:
        if not self._found or self._found[0].what is not What.UNSENT:
            return False
        before = {event.what for event in self._events[self._events.index(self._found[0]) :]}
        return What.HELD in before and What.EXPIRED in before

    def _forgot(self) -> bool:
        """Return whether notes since it was sent may be forgotten."""
        if self._notes.complete:
            return False
        since = self._sending and self._sending[0]
        if self._note is not None and self._note.what is What.REPLAYED:
            since = self._note.at_seconds
        return since is None or since <= self._notes.forgotten_at

    def _refused(self) -> Event | None:
        """Return the newest refusal before it was sent."""
        until = float("inf") if self._sending is None else self._sending[1]
        refusals = (event for event in self._events if event.what is What.REFUSED)
        return next((event for event in refusals if event.at_seconds <= until), None)

    # -- options of the subscription -------------------------------------------------------------

    def _agreed(self) -> Mapping[What, str]:
        """Return the options of the subscription that covers it, else of the deciding one."""
        place, offset = self._place, self._question.offset
        if place is not None and offset > place.began_offset:
            return dict(place.terms)
        covering = next((e for e in self._held if e.first <= offset <= e.last), None)
        if (ended := covering or self._ended_before()) is None:
            return {} if place is None else dict(place.terms)
        terms: dict[What, str] = {}
        older = iter(self._events[self._events.index(ended) + 1 :])
        while (event := next(older, None)) is not None and event.what in TERMS:
            terms[event.what] = event.detail
        return terms

    def _every_ms(self) -> str | None:
        return written_of(self._turn)[0] if self._turn else self._terms.get(What.THROTTLED)

    def _facts_of_terms(self) -> set[Fact]:
        facts: set[Fact] = set()
        stands = {
            What.THROTTLED: Fact.EVERY_SO_OFTEN,
            What.MATCHED: Fact.MATCHED,
            What.KEYED: Fact.AFTER_ROWS,
        }
        facts |= {fact for what, fact in stands.items() if what in self._terms}
        patterns = None if self._session is None else self._session.patterns
        if patterns and not patterns.covers(self._question.channel):
            facts.add(Fact.NO_MATCH)
        return facts

    def _facts_of_history(self) -> set[Fact]:
        facts: set[Fact] = set()
        offset = self._question.offset
        facts |= self._facts_of_filter(offset)
        if self._turn is not None and self._thinned is not None:
            facts.add(self._thinned)
        if self._timeline is not None and (kept := self._timeline.kept_ms(offset)) is not None:
            facts.add(Fact.BRIEF if kept else Fact.NEVER_KEPT)
        return facts

    def _facts_of_filter(self, offset: int) -> set[Fact]:
        text, keeps_rows = self._terms.get(What.FILTERED), What.KEYED in self._terms
        is_owed = self._covers(offset)
        if text is None or not (is_owed or keeps_rows):
            return set()
        passes = self._history.lets_through(text, offset)
        if passes is None:
            return {Fact.PERHAPS_LEFT_OUT}
        if passes:
            return set()
        as_removal = is_owed and keeps_rows and self._history.has_key(offset)
        return {Fact.AS_REMOVAL if as_removal else Fact.LEFT_OUT}

    def _covers(self, offset: int) -> bool:
        """Return whether a subscription, open or ended, was owed it."""
        place = self._place
        open_one = place is not None and offset > place.began_offset
        return open_one or any(e.first <= offset <= e.last for e in self._held)

    def _fate_in_turn(self) -> Fact | None:
        """Return what became of it in a thinned range.

        Return None where it was replaced and the replacement is unknown.
        """
        self._successor = 0
        if self._turn is None:
            return None
        offset = self._question.offset
        written = written_of(self._turn)[1]
        if written is not None and offset in written:
            return Fact.IN_TURN
        if written and offset > max(written):
            # It was neither written nor replaced, so the filter left it out.
            return Fact.LEFT_OUT
        if written and len(written) == 1:
            # With one key or none the newest replaced all before it.
            [self._successor] = written
            return Fact.REPLACED
        found = self._history.successor(offset, self._turn.last)
        if found:
            self._successor = found
            return Fact.REPLACED
        if written is not None:
            return None
        return Fact.UNTOLD if found is None else Fact.IN_TURN

    # -- timeline and position -----------------------------------------------------------------

    def _known(self) -> Fact:
        offset = self._question.offset
        if self._timeline is None or not self._timeline.reaches(offset):
            return Fact.OUT_OF_REACH
        if self._timeline.why_lost(offset) is not None:
            return Fact.NEVER_CAME
        return Fact.NOBODY_HERE if self._sending is None else Fact.SENT

    def _subscription(self) -> OpenSubscription | None:
        if self._session is None:
            return None
        found = self._session.subscriptions.get(self._question.channel)
        return found if found and found.epoch == self._question.epoch else None

    def _stands(self) -> Fact:
        offset, place = self._question.offset, self._place
        # An ended subscription read history up to `by`.
        live = any(max(e.first, e.by + 1) <= offset <= e.last for e in self._held)
        if place is not None and offset > place.began_offset:
            if offset > place.position.offset:
                return Fact.HELD_BACK if place.holds_back(offset) else _STATES[place.state]
            return Fact.HANDED if live or offset > place.replayed_until(offset) else Fact.READ
        if any(event.first <= offset <= event.last for event in self._held):
            return Fact.HANDED if live else Fact.READ
        if (ended := self._ended_before()) is not None:
            if ended.detail == "closed" and self._closed is None:
                return Fact.LEFT_BEFORE
            return _ENDINGS.get(ended.detail, Fact.EXPELLED_BEFORE)
        if place is not None:
            return Fact.BEGAN_AFTER
        return Fact.NEXT_EPOCH if self._is_ahead() else Fact.NEVER_THERE

    def _ended_before(self) -> Event | None:
        """Return the newest subscription that ended before its offset."""
        return next((event for event in self._held if event.last < self._question.offset), None)

    def _is_ahead(self) -> bool:
        """Return whether the broker is in an epoch that has not come to this node yet."""
        asked = self._question
        subscribed = self._session is not None and asked.channel in self._session.subscriptions
        return subscribed and asked.current and self._timeline is None
