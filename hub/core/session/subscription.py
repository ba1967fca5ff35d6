"""One session's place in one channel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hub.core.forensics.noted import What
from hub.core.options import SessionLimits
from hub.core.ports import HistoryPage
from hub.core.publication import Filter, Position
from hub.core.session.outbox import OutboxBudget
from hub.core.session.withheld import Throttle, Unkept

if TYPE_CHECKING:
    from hub.core.fanout.channels import Channel
    from hub.core.fanout.group import Group
    from hub.core.session.ring import Entry, Ring
    from hub.core.session.session import Session

# Equal to no batch's base, so that the fanout's one comparison also sorts out sessions
# that are not live.
NOT_LIVE = -1
APART = -1
"""The place of a subscription that is not in step with its group."""


@dataclass(slots=True)
class KeptBudget:
    """What all kept pages hold."""

    max_bytes: int
    bytes: int = 0


class Kept:
    """The rest of a page, for a subscription that stands at `position`; see `Subscription.kept`."""

    __slots__ = ("_budget", "_size", "page", "position")

    def __init__(self, page: HistoryPage, position: Position, budget: KeptBudget) -> None:
        self.page = page
        self.position = position
        self._budget = budget
        self._size = sum(len(publication.data) for publication in page.publications)
        budget.bytes += self._size

    def let_go(self) -> None:
        """Its bytes count no more. Call it once."""
        self._budget.bytes -= self._size


# An epoch that no channel ever has (clients/PROTOCOL.md): who resumes from it begins anew.
NOWHERE = Position("none", 0)


class StateNeed:
    """Of a subscription with state: which rows it still has to be sent, if any."""

    __slots__ = ("after", "fresh", "position", "reading", "resumes", "tries")

    def __init__(self) -> None:
        self.reading = False
        """Whether rows are being sent."""
        self.position: Position | None = None
        """As of which they hold; None until the first of them were read."""
        self.after = ""
        """The key of the last one sent."""
        self.resumes = NOWHERE
        """Where a peer resumes that is cut before it has all of them."""
        self.tries = 0
        """How often rows were sent since the subscription was live."""
        self.fresh = True
        """Whether none were sent yet."""

    def begin(self, resumes: Position) -> None:
        """Send all rows, from the first one on."""
        if not self.reading:
            self.resumes = resumes
        self.reading, self.position, self.after = True, None, ""


class Subscription:
    """Live while `offset` follows the channel; replaying while it reads history instead.

    The part that writes moves the place: the fanout while live, the replay while replaying, the
    ring while the peer is congested.
    """

    __slots__ = (
        "began_at_seconds",
        "began_offset",
        "channel",
        "closed",
        "dropped",
        "fill",
        "filter",
        "group",
        "kept",
        "live_offset",
        "own_offset",
        "place",
        "presence_lost",
        "replay_cursor",
        "ring",
        "sent_before",
        "session",
        "state_need",
        "throttle",
        "unkept",
    )

    def __init__(
        self,
        session: "Session",
        channel: "Channel",
        *,
        fill: bool,
        cursor: int = 0,
        filter: Filter | None = None,  # noqa: A002 - as the wire calls it
        state: bool = False,
    ) -> None:
        """Begin behind `cursor`, replaying."""
        self.state_need = StateNeed() if state else None
        self.session = session
        self.channel = channel
        self.fill = fill
        self.filter = filter
        """Which publications it wants; None for all. The others move its position."""
        self.group: Group | None = None
        """Those of its channel that speak as its session does; None where it is no member."""
        self.place = APART
        """Where its descriptor stands among those in step; `APART` where it is written to by
        itself."""
        self.own_offset = NOT_LIVE
        """What `offset` is while it stands apart."""
        self.sent_before = 0
        """What its group had sent before it came into step."""
        self.replay_cursor = cursor
        """The last offset replayed; counts only while replaying."""
        self.ring: Ring | None = None
        """What the session is still owed of this channel; made when the peer stops taking."""
        self.began_at_seconds = 0.0
        self.began_offset = 0
        """Everything after it is owed to the session, since that monotonic time."""
        self.live_offset = NOT_LIVE
        """Where it went live first since then: up to there everything came from history."""
        self.kept: Kept | None = None
        """What was read for it from history, and not taken by its peer yet."""
        self.unkept: Unkept | None = None
        """What came while it reads history, which does not hold it; None where nothing did."""
        self.throttle: Throttle | None = None
        """What it is sent only now and then, where it wants that; it stands apart then."""
        self.closed = False
        self.dropped = 0
        self.presence_lost = False
        """Whether joins or leaves passed by that the session has to be told of."""

    @property
    def through_pattern(self) -> bool:
        """Whether nothing but patterns of its session brought it here: it is not present then."""
        patterns = self.session.patterns
        return patterns is not None and self.channel.name in patterns.channels

    @property
    def terms(self) -> Sequence[tuple[What, str]]:
        """What it asked for, as it is noted when it ends."""
        found: list[tuple[What, str]] = []
        if self.filter is not None:
            found.append((What.FILTERED, self.filter.text.decode()))
        if self.every_ms is not None:
            found.append((What.THROTTLED, str(self.every_ms)))
        if self.state_need is not None:
            found.append((What.KEYED, ""))
        if self.pattern is not None:
            found.append((What.MATCHED, self.pattern))
        return found

    @property
    def every_ms(self) -> int | None:
        """How often it wants the newest; None where it gets each."""
        return None if self.throttle is None else round(self.throttle.every_seconds * 1000)

    @property
    def pattern(self) -> str | None:
        """The pattern that alone brings it here; empty where that has just ended."""
        patterns = self.session.patterns
        if patterns is None or not self.through_pattern:
            return None
        return patterns.pattern_of(self.channel.name)

    def holds_back(self, offset: int) -> bool:
        """Whether it came to the session, which wants it later, or not at all any more."""
        return self.throttle is not None and self.live and self.throttle.holds_back(offset)

    @property
    def offset(self) -> int:
        """The last offset handed to the session; `NOT_LIVE` while replaying."""
        if self.place == APART or self.group is None:
            return self.own_offset
        return self.group.offset_at(self.place)

    @property
    def live(self) -> bool:
        return self.place != APART or self.own_offset != NOT_LIVE

    @property
    def sent_in_step(self) -> int:
        """Publications that its session was sent since it is in step."""
        if self.place == APART or self.group is None:
            return 0
        return self.group.sent_at(self.place) - self.sent_before

    def stand_apart(self) -> None:
        """Be written to by itself from now on; harmless where it is."""
        if self.place != APART and self.group is not None:
            self.own_offset = self.offset
            self.session.sent_apart += self.sent_in_step
            self.group.part(self)

    def may_come_into_step(self) -> None:
        """Something that kept it apart is over."""
        if self.throttle is not None:
            return
        if self.place == APART and self.group is not None and not self.closed:
            self.group.arriving[self] = None

    @property
    def position(self) -> Position:
        """How far the peer's transport has been handed this channel.

        What is owed stands before history that is still to be read: a gap that waits is not told
        yet, although the reading will begin behind it.
        """
        if self.ring is not None:
            offset = self.ring.cursor
        elif self.live and self.throttle is not None and self.throttle.holds:
            offset = self.throttle.cursor
        else:
            offset = self.offset if self.live else self.replay_cursor
        return Position(self.channel.epoch, offset)

    @property
    def resume_from(self) -> Position:
        """Where a peer resumes that is cut behind what its transport has been handed.

        It is `position`, but for a `reset` that is still owed: until the peer has been handed
        it, the peer has to come back from the epoch before it, or it would never hear of it.
        """
        if self.ring is not None and self.ring.untold:
            return self.ring.untold[0].resumes or self.position
        if self.state_need is not None and self.state_need.reading:
            return self.state_need.resumes
        return self.position

    @property
    def state(self) -> str:
        """For operators: `live`, `congested` or `replaying`."""
        if not self.live:
            return "replaying"
        return "live" if self.ring is None else "congested"

    def begin(self, offset: int, now_seconds: float) -> None:
        """From now on everything after `offset` of the channel is owed."""
        self.began_offset = offset
        self.live_offset = NOT_LIVE
        self.began_at_seconds = now_seconds

    def replayed_until(self, last: int) -> int:
        """Up to where its stretch, which ended at `last`, came from history."""
        return last if self.live_offset == NOT_LIVE else self.live_offset

    def keep(self, kept: Kept | None) -> None:
        """Keep this of history, in place of what was kept so far."""
        if self.kept is not None:
            self.kept.let_go()
        self.kept = kept

    def hold(self, entries: Sequence["Entry"], limits: SessionLimits, budget: OutboxBudget) -> None:
        """While it reads history: hold what that will lack of these."""
        thinned = self.throttle is not None
        if thinned or any(entry.unkept is not None for entry in entries):
            if self.unkept is None:
                self.unkept = Unkept(self.session, budget)
            self.unkept.hold(entries, self.replay_cursor, limits, thinned=thinned)

    def forget_unkept(self) -> None:
        """Hold nothing any more of what history does not hold."""
        if self.unkept is not None:
            self.unkept.clear()
            self.unkept = None

    def close(self) -> None:
        """Follow nothing any more, also where a batch under way still names it."""
        if self.throttle is not None:
            self.throttle.forget()
        self.keep(None)
        self.forget_unkept()
        self.stand_apart()
        self.closed = True
        self.own_offset = NOT_LIVE

    def go_live(self, offset: int) -> None:
        """Follow the channel from `offset` on: older items are skipped from now on."""
        if self.kept is not None:
            self.keep(None)
        self.forget_unkept()
        self.stand_apart()
        self.own_offset = offset
        self.may_come_into_step()
        if self.live_offset == NOT_LIVE:
            self.live_offset = offset
        if self.state_need is not None:
            self.state_need.tries = 0

    def go_back_to_state(self, resumes: Position) -> None:
        """Stop following the channel; its rows are sent, and then what follows them."""
        self.go_back_to_history(self.position.offset)
        if self.state_need is not None:
            self.state_need.begin(resumes)

    @property
    def refills(self) -> bool:
        """Whether it reads again what its peer was too slow for.

        Rows are never conflated or dropped on the way: what history lacks, state mends.
        """
        return self.state_need is not None or (self.fill and self.channel.options.keeps_history)

    def go_back_to_history(self, cursor: int) -> None:
        """Stop following the channel; everything after `cursor` is read from history."""
        if self.throttle is not None:
            self.throttle.forget()
        self.keep(None)
        self.stand_apart()
        self.own_offset = NOT_LIVE
        self.replay_cursor = cursor
