"""Why did a connection not get a publication? Answered from what is known, or `unknown`.

Pure: it reads the state of a session, the notes about it and its channel's timeline. What
was noted decides first; then how far the subscription has come; then the timeline.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from hub.core.forensics.journal import Journal, Noted, Place
from hub.core.forensics.noted import ClosedSession, Event, Notes, What
from hub.core.forensics.timeline import Timeline
from hub.core.publication import Position
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
    current: bool = True
    """Whether the channel is in that epoch now; of one that is over, `head` is not known."""


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
    What.RESET: (Answer.LOST, "a new epoch began, and its `reset` went on behind it"),
    What.EXPIRED: (Answer.EXPIRED, "history no longer held it; announced as a gap `expired`"),
    What.INVALID: (Answer.LOST, "it was no valid publication; announced as a gap `invalid`"),
    What.DROPPED: (Answer.DROPPED, "dropped because the peer read too slowly (policy {policy})"),
    What.CONFLATED: (Answer.CONFLATED, "a newer one with the same key replaced it while it waited"),
}
_NO_CONNECTION = "no connection of that name is open, or among those that are remembered"
_NO_EPOCH = "that epoch is over, and this node does not remember that it came so far"
_NOTHING_NOTED = Notes(forgotten_at=float("inf"))
# What spans a stretch is asked after what was left out of it.
_SPANNING = {What.UNSENT: 1, What.REPLAYED: 2, What.LATE: 3}
# What was noted of a subscription before history was read to it, and not of one before it.
_BESIDE_REPLAYED = frozenset({What.OWN, What.EXPIRED, What.INVALID})


class OpenPlace(Place, Protocol):
    """A subscription as it stands now."""

    @property
    def position(self) -> Position: ...

    @property
    def state(self) -> str: ...


class OpenSession(Noted, Protocol):
    """A session as it stands now."""

    @property
    def subscriptions(self) -> Mapping[str, OpenPlace]: ...


class Explainer:
    """One connection's case: `session` while it is open, `closed` when it has ended."""

    def __init__(
        self,
        question: Question,
        journal: Journal,
        *,
        session: OpenSession | None = None,
        closed: ClosedSession | None = None,
    ) -> None:
        self._question = question
        self._session = session
        self._closed = closed
        self._notes = self._held_notes() if journal.keeps else _NOTHING_NOTED
        self._timeline: Timeline | None = journal.timeline(question.channel, question.epoch)

    def _held_notes(self) -> Notes:
        held = self._session or self._closed
        # Notes of which all is forgotten are no new ones.
        return Notes() if held is None or held.notes is None else held.notes

    def explain(self) -> Explanation:
        """The answer; `unknown` for what is out of reach."""
        asked = self._question
        if asked.offset > asked.head:
            return Explanation(
                Answer.NOT_PUBLISHED,
                f"the newest of {asked.channel} is {asked.head} in epoch {asked.epoch}",
            )
        if self._session is None and self._closed is None:
            return Explanation(Answer.UNKNOWN, _NO_CONNECTION)
        if (noted := self._noted()) is not None:
            return noted
        if not asked.current and not self._reaches():
            return Explanation(Answer.UNKNOWN, _NO_EPOCH)
        if (subscription := self._subscription()) is not None:
            if asked.offset > subscription.began_offset:
                return self._owed(subscription)
            before = f"its subscription began after {subscription.began_offset}"
            return self._ended() or self._outside(before)
        return (
            self._ended()
            or self._ahead()
            or self._outside("it was not subscribed to the channel then")
        )

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
        found = self._standing([e for e in self._events() if e.first <= offset <= e.last])
        if found and self._doubtful(found[0]):
            return self._unknown()
        for event in sorted(found, key=lambda event: _SPANNING.get(event.what, 0)):
            if event.what in _SPANNING and self._forgot(event):
                return self._unknown()
            if event.what is What.LATE and not self._reaches():
                # It may have been lost: that is forgotten with the timeline.
                return self._unknown()
            if event.what is What.LATE and (lost := self._lost()) is not None:
                return lost
            if (known := _FROM_NOTES.get(event.what)) is not None:
                answer, detail = known
                detail = detail.format(policy=event.detail)
                return Explanation(
                    answer, detail, event.at_seconds, event.until_seconds, event.by or None
                )
        return None

    def _standing(self, found: list[Event]) -> list[Event]:
        """Without what another subscription of the same connection made good."""
        whats = [event.what for event in found]
        unsent = What.UNSENT in whats
        if not unsent and What.EXPIRED in whats and What.HELD in whats[whats.index(What.EXPIRED) :]:
            # It was owed to one before: what became of it then is the answer.
            return self._standing(found[whats.index(What.EXPIRED) + 1 :])
        if What.REPLAYED in whats:
            again = whats.index(What.REPLAYED) + 1
            return found[:again] + [e for e in found[again:] if e.what in _BESIDE_REPLAYED]
        return found

    def _doubtful(self, newest: Event) -> bool:
        """Whether two subscriptions were still owed it, and which of them is not noted."""
        events = self._events()
        before = events[events.index(newest) :]
        ended = any(event.what is What.HELD for event in before)
        expired = any(event.what is What.EXPIRED for event in before)
        return newest.what is What.UNSENT and ended and expired

    def _reaches(self) -> bool:
        return self._timeline is not None and self._timeline.reaches(self._question.offset)

    def _when(self) -> tuple[float, float] | None:
        """Between which moments it was sent to whoever was live; None where that is not known."""
        return None if self._timeline is None else self._timeline.when(self._question.offset)

    def _remembers(self) -> bool:
        """Whether nothing is forgotten of what was noted when it was sent, or since."""
        when = self._when()
        return self._notes.complete or (when is not None and when[0] > self._notes.forgotten_at)

    def _forgot(self, event: Event) -> bool:
        """Whether what was left out of a stretch may be forgotten already."""
        if self._notes.complete:
            return False
        when = self._when()
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
            return self._handed() if self._was_live() else self._unknown()
        before = next((event for event in held if event.last < offset), None)
        if before is None:
            return None
        # One that reached further may be forgotten: of a channel left and joined again.
        return self._after(before) if self._remembers() else self._unknown()

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

    def _subscription(self) -> OpenPlace | None:
        if self._session is None:
            return None
        found = self._session.subscriptions.get(self._question.channel)
        return found if found and found.channel.epoch == self._question.epoch else None

    def _owed(self, subscription: OpenPlace) -> Explanation:
        if self._question.offset <= subscription.position.offset:
            offset = self._question.offset
            live = offset > subscription.replayed_until(offset)
            return self._handed() if live or self._was_live() else self._unknown()
        if subscription.state == "replaying":
            return Explanation(Answer.QUEUED, "history is being read to it as fast as it takes it")
        if subscription.state == "congested":
            return Explanation(Answer.QUEUED, "it waits in the outbox: the peer takes no more now")
        return Explanation(Answer.QUEUED, "it has not come to this node yet")

    def _ahead(self) -> Explanation | None:
        """The broker is in an epoch that this node has not heard of yet."""
        asked = self._question
        subscribed = self._session is not None and asked.channel in self._session.subscriptions
        if not subscribed or not asked.current or self._timeline is not None:
            return None
        return Explanation(Answer.QUEUED, "its new epoch has not come to this node yet")

    def _was_live(self) -> bool:
        """Whether one that has ended was to be sent it as it came, not from history.

        What came from history was noted so: where no note says so, that is forgotten.
        """
        offset = self._question.offset
        held = [event for event in self._events() if event.what is What.HELD]
        return any(max(event.first, event.by + 1) <= offset <= event.last for event in held)

    def _handed(self) -> Explanation:
        """The subscription has passed it, and nothing special was noted."""
        when = self._when()
        if when is None or when[0] <= self._notes.forgotten_at:
            return self._unknown()
        if (lost := self._lost()) is not None:
            return lost
        return Explanation(Answer.WRITTEN, "written to its connection when it came", *when)

    def _outside(self, detail: str) -> Explanation:
        """No subscription that is known of covers it."""
        when = self._when()
        for event in self._events():
            if event.what is What.REFUSED and (when is None or event.at_seconds <= when[1]):
                answer = Answer.NOT_SUBSCRIBED
                if event.detail == ForbiddenError.code:
                    answer = Answer.FORBIDDEN
                detail = f"its subscription was refused: {event.detail}"
                return Explanation(answer, detail, event.at_seconds, event.until_seconds)
        if self._remembers():
            if (gone := self._closed) is not None:
                # A handshake without a grant ends so.
                detail += f"; it has ended: {gone.code} {gone.reason}"
            return Explanation(Answer.NOT_SUBSCRIBED, detail)
        return self._unknown()

    def _unknown(self) -> Explanation:
        return Explanation(Answer.UNKNOWN, "out of reach: what was noted then is forgotten")
