"""Why did a connection not get a publication? Answered from what is known, or `unknown`.

Pure: it reads the state of a session, the notes about it and its channel's timeline. What
was noted decides first; then how far the subscription has come; then the timeline.
"""

from dataclasses import dataclass
from enum import StrEnum

from hub.core.journal import ClosedSession, Journal
from hub.core.noted import Event, Notes, What
from hub.core.session import Session
from hub.core.subscription import Subscription
from hub.core.timeline import Timeline
from hub.errors import ForbiddenError


class Answer(StrEnum):
    """What became of one publication on its way to one connection."""

    WRITTEN = "written"
    QUEUED = "queued"
    DROPPED = "dropped"
    CONFLATED = "conflated"
    OWN = "own"
    LOST = "lost"
    EXPIRED = "expired"
    NOT_SUBSCRIBED = "not_subscribed"
    FORBIDDEN = "forbidden"
    CLOSED = "closed"
    NOT_PUBLISHED = "not_published"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Question:
    """Which publication, and how far its channel has come."""

    channel: str
    epoch: str
    offset: int
    head: int
    """The channel's newest offset in that epoch, as the broker says."""


@dataclass(frozen=True, slots=True)
class Explanation:
    answer: Answer
    detail: str
    """One sentence for a human."""
    at_seconds: float | None = None
    """Monotonic: when, at the earliest."""
    until_seconds: float | None = None
    """When, at the latest."""
    by: int | None = None
    """Of `conflated`: the offset that replaced it."""


_FROM_NOTES = {
    What.LATE: (Answer.WRITTEN, "written from the outbox: its peer took no more at first"),
    What.REPLAYED: (Answer.WRITTEN, "written from history"),
    What.UNSENT: (Answer.CLOSED, "the connection ended while it waited in the outbox"),
    What.OWN: (Answer.OWN, "its own publication, which it asked not to get back (echo: false)"),
    What.EXPIRED: (Answer.EXPIRED, "history no longer held it; announced as a gap `expired`"),
    What.INVALID: (Answer.LOST, "it was no valid publication; announced as a gap `invalid`"),
    What.DROPPED: (Answer.DROPPED, "dropped because the peer read too slowly (policy {policy})"),
    What.CONFLATED: (Answer.CONFLATED, "a newer one with the same key replaced it while it waited"),
}
_NO_CONNECTION = "no connection of that name is open, or among those that are remembered"
# What spans a stretch is asked after what was left out of it.
_SPANNING = {What.UNSENT: 1, What.REPLAYED: 2, What.LATE: 3}


class Explainer:
    """One connection's case: `session` while it is open, `closed` when it has ended."""

    def __init__(
        self,
        question: Question,
        journal: Journal,
        *,
        session: Session | None = None,
        closed: ClosedSession | None = None,
    ) -> None:
        self._question = question
        self._session = session
        self._closed = closed
        held = session.notes if session is not None else closed and closed.notes
        self._notes = held or Notes()
        self._timeline: Timeline | None = journal.timeline(question.channel, question.epoch)

    def explain(self) -> Explanation:
        """The answer; `unknown` for what is out of reach."""
        asked = self._question
        if asked.offset > asked.head:
            return Explanation(
                Answer.NOT_PUBLISHED, f"the newest of {asked.channel} is {asked.head}"
            )
        if self._session is None and self._closed is None:
            return Explanation(Answer.UNKNOWN, _NO_CONNECTION)
        if (noted := self._noted()) is not None:
            return noted
        if (subscription := self._subscription()) is not None:
            if asked.offset > subscription.began_offset:
                return self._owed(subscription)
            before = f"its subscription began after {subscription.began_offset}"
            return self._ended() or self._outside(before)
        return self._ended() or self._outside("it did not subscribe to the channel")

    # -- what was noted ----------------------------------------------------------------------

    def _events(self) -> list[Event]:
        """Of this channel and epoch, newest first."""
        asked = self._question
        return [
            event
            for event in reversed(self._notes.events)
            if event.channel == asked.channel and event.epoch in {asked.epoch, ""}
        ]

    def _noted(self) -> Explanation | None:
        offset = self._question.offset
        found = [event for event in self._events() if event.first <= offset <= event.last]
        for event in sorted(found, key=lambda event: _SPANNING.get(event.what, 0)):
            if event.what is What.LATE and (lost := self._lost()) is not None:
                return lost
            if event.what in _SPANNING and self._forgot(event):
                return self._unknown()
            if (known := _FROM_NOTES.get(event.what)) is not None:
                answer, detail = known
                detail = detail.format(policy=event.detail)
                return Explanation(
                    answer, detail, event.at_seconds, event.until_seconds, event.by or None
                )
        return None

    def _forgot(self, event: Event) -> bool:
        """Whether what was left out of a stretch may be forgotten already."""
        if self._notes.complete:
            return False
        when = self._timeline.when(self._question.offset) if self._timeline else None
        since = event.at_seconds if event.what is What.REPLAYED else when and when[0]
        return since is None or since <= self._notes.forgotten_at

    def _lost(self) -> Explanation | None:
        why = None if self._timeline is None else self._timeline.why_lost(self._question.offset)
        if why is None:
            return None
        return Explanation(Answer.LOST, f"it never came to this node; announced as `{why}`")

    def _ended(self) -> Explanation | None:
        """From subscriptions that have ended; None where no one says anything."""
        offset = self._question.offset
        held = [event for event in self._events() if event.what is What.HELD]
        if any(event.first <= offset <= event.last for event in held):
            return self._handed()
        before = next((event for event in held if event.last < offset), None)
        return None if before is None else self._after(before)

    def _after(self, event: Event) -> Explanation:
        """It came after the connection had left the channel."""
        if event.detail == "closed" and (closed := self._closed) is not None:
            detail = f"the connection ended before: {closed.code} {closed.reason}"
            return Explanation(Answer.CLOSED, detail, event.until_seconds, event.until_seconds)
        if event.detail == "reset":
            detail = "a new epoch began before its turn; announced as `reset`"
            return Explanation(Answer.DROPPED, detail, event.until_seconds, event.until_seconds)
        detail = f"it had left the channel after {event.last}"
        return Explanation(Answer.NOT_SUBSCRIBED, detail, event.until_seconds, event.until_seconds)

    # -- how far it has come -----------------------------------------------------------------

    def _subscription(self) -> Subscription | None:
        if self._session is None:
            return None
        found = self._session.subscriptions.get(self._question.channel)
        return found if found and found.channel.epoch == self._question.epoch else None

    def _owed(self, subscription: Subscription) -> Explanation:
        if self._question.offset <= subscription.position.offset:
            return self._handed()
        if not subscription.live:
            return Explanation(Answer.QUEUED, "history is being read to it as fast as it takes it")
        if subscription.ring is not None:
            return Explanation(Answer.QUEUED, "it waits in the outbox: the peer takes no more now")
        return Explanation(Answer.QUEUED, "it has not come to this node yet")

    def _handed(self) -> Explanation:
        """The subscription has passed it, and nothing special was noted."""
        offset, timeline = self._question.offset, self._timeline
        if (lost := self._lost()) is not None:
            return lost
        when = None if timeline is None else timeline.when(offset)
        if when is None or when[0] <= self._notes.forgotten_at:
            return self._unknown()
        return Explanation(Answer.WRITTEN, "written to its connection when it came", *when)

    def _outside(self, detail: str) -> Explanation:
        """No subscription that is known of covers it."""
        when = self._timeline.when(self._question.offset) if self._timeline else None
        for event in self._events():
            if event.what is What.REFUSED and (when is None or event.at_seconds <= when[1]):
                answer = Answer.NOT_SUBSCRIBED
                if event.detail == ForbiddenError.code:
                    answer = Answer.FORBIDDEN
                detail = f"its subscription was refused: {event.detail}"
                return Explanation(answer, detail, event.at_seconds, event.until_seconds)
        if self._notes.complete or (when is not None and when[0] > self._notes.forgotten_at):
            return Explanation(Answer.NOT_SUBSCRIBED, detail)
        return self._unknown()

    def _unknown(self) -> Explanation:
        return Explanation(Answer.UNKNOWN, "out of reach: what was noted then is forgotten")
