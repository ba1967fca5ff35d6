"""One session's subscription to one channel, and how far the session is in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hub.core.forensics.noted import What
from hub.core.options import SessionLimits
from hub.core.ports import HistoryPage
from hub.core.publication import Filter, Position
from hub.core.session.outbox_budget import OutboxBudget
from hub.core.session.withheld import Throttle, Unkept

if TYPE_CHECKING:
    from hub.core.fanout.channels import Channel
    from hub.core.fanout.group import Group
    from hub.core.session.ring import Entry, Ring
    from hub.core.session.session import Session

# No batch has this base, so the fan-out's one comparison also finds sessions that are not live.
NOT_LIVE = -1
APART = -1
"""The place of a subscription that is not in step with its group."""


# No channel has this epoch (clients/PROTOCOL.md): a peer that resumes from it begins anew.
NOWHERE = Position("none", 0)


@dataclass(slots=True)
class KeptPageBudget:
    """The bytes of all kept pages, and their bound."""

    max_bytes: int
    bytes: int = 0


class KeptPage:
    """The rest of a page of history for a subscription at `position` (`Subscription.kept`)."""

    __slots__ = ("_budget", "_size", "page", "position")

    def __init__(self, page: HistoryPage, position: Position, budget: KeptPageBudget) -> None:
        self.page = page
        self.position = position
        self._budget = budget
        self._size = sum(publication.size_bytes for publication in page.publications)
        budget.bytes += self._size

    def let_go(self) -> None:
        """Stop counting its bytes. Call it once."""
        self._budget.bytes -= self._size


class StateNeed:
    """The rows that a subscription with state still has to be sent."""

    __slots__ = ("after", "fresh", "position", "reading", "resumes", "tries")

    def __init__(self) -> None:
        self.reading = False
        """Whether rows are being sent."""
        self.position: Position | None = None
        """The position as of which the rows hold; None until the first of them were read."""
        self.after = ""
        """The key of the last row sent."""
        self.resumes = NOWHERE
        """The position from which a peer resumes that is cut before it has all rows."""
        self.tries = 0
        """The number of times that rows were sent anew since the subscription was live."""
        self.fresh = True
        """Whether no rows were sent yet."""

    def begin(self, resumes: Position) -> None:
        """Begin to send all rows, from the first on."""
        if not self.reading:
            self.resumes = resumes
        self.reading, self.position, self.after = True, None, ""


class Subscription:
    """A subscription is live while its `offset` follows the channel, and else reads history.

    The part that writes moves the position: the fan-out while the subscription is live, the replay
    while it reads history, the ring while the peer is congested.
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
        """Begin after `cursor`, reading history."""
        self.state_need = StateNeed() if state else None
        self.session = session
        self.channel = channel
        self.fill = fill
        self.filter = filter
        """Selects publications; None for all. The others only move the position."""
        self.group: Group | None = None
        """The channel's members with the same dialect and filter; None where it is no member."""
        self.place = APART
        """Index of its descriptor among those in step; `APART` where it is written to alone."""
        self.own_offset = NOT_LIVE
        """The value of `offset` while it stands apart."""
        self.sent_before = 0
        """Publications that its group had sent before it came into step."""
        self.replay_cursor = cursor
        """The last offset read from history; valid only while it reads history."""
        self.ring: Ring | None = None
        """The frames that the session is owed of this channel; made when its peer is congested."""
        self.began_at_seconds = 0.0
        """Monotonic time since when everything after `began_offset` is owed to the session."""
        self.began_offset = 0
        self.live_offset = NOT_LIVE
        """Offset at which it first went live since then. Everything before came from history."""
        self.kept: KeptPage | None = None
        """The part of a page of history that its peer has not taken yet."""
        self.unkept: Unkept | None = None
        """Publications with `"history":false` that came while it reads history; None for none."""
        self.throttle: Throttle | None = None
        """Withholds frames, where it wants updates only in an interval. It stands apart then."""
        self.closed = False
        self.dropped = 0
        self.presence_lost = False
        """Whether it missed joins or leaves, so that a `presence_reset` is due."""

    @property
    def through_pattern(self) -> bool:
        """Whether it exists through patterns of its session only. It is not present then."""
        patterns = self.session.patterns
        return patterns is not None and self.channel.name in patterns.channels

    @property
    def terms(self) -> Sequence[tuple[What, str]]:
        """Its options, as the journal notes them when it ends."""
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
        """Its interval between updates; None where it gets each publication."""
        return None if self.throttle is None else round(self.throttle.every_seconds * 1000)

    @property
    def pattern(self) -> str | None:
        """The pattern that it exists through; empty where that has just ended, else None."""
        patterns = self.session.patterns
        if patterns is None or not self.through_pattern:
            return None
        return patterns.pattern_of(self.channel.name)

    def holds_back(self, offset: int) -> bool:
        """Return whether its throttle holds back the publication at `offset`, or conflated it."""
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
        """Publications sent to its session since it came into step."""
        if self.place == APART or self.group is None:
            return 0
        return self.group.sent_at(self.place) - self.sent_before

    def stand_apart(self) -> None:
        """Leave step: it is written to alone from now on. Harmless when repeated."""
        if self.place != APART and self.group is not None:
            self.own_offset = self.offset
            self.session.sent_apart += self.sent_in_step
            self.group.part(self)

    def may_come_into_step(self) -> None:
        """Let the group check at its next batch whether it can come into step."""
        if self.throttle is not None:
            return
        if self.place == APART and self.group is not None and not self.closed:
            self.group.arriving[self] = None

    @property
    def epoch(self) -> str:
        """The epoch of its offsets: until it has a `reset` that of before."""
        return self.channel.epoch if self.group is None else self.group.epoch

    @property
    def position(self) -> Position:
        """The position up to which this channel has been handed to the peer's transport.

        Owed frames come before history that is still to be read: an owed gap is not sent yet,
        although the reading will begin after it.
        """
        if self.ring is not None:
            offset = self.ring.cursor
        elif self.live and self.throttle is not None and self.throttle.holds:
            offset = self.throttle.cursor
        else:
            offset = self.offset if self.live else self.replay_cursor
        return Position(self.epoch, offset)

    @property
    def resume_from(self) -> Position:
        """The position from which a peer resumes that is cut now.

        It is `position`, except while a `reset` is owed. Until the peer was handed that, it has to
        come back from the epoch before, or it would never learn of it.
        """
        if self.ring is not None and self.ring.untold:
            return self.ring.untold[0].resumes or self.position
        if self.state_need is not None and self.state_need.reading:
            return self.state_need.resumes
        return self.position

    @property
    def state(self) -> str:
        """`live`, `congested` or `replaying`, for operators."""
        if not self.live:
            return "replaying"
        return "live" if self.ring is None else "congested"

    def begin(self, offset: int, now_seconds: float) -> None:
        """Record that everything after `offset` is owed from now on."""
        self.began_offset = offset
        self.live_offset = NOT_LIVE
        self.began_at_seconds = now_seconds

    def replayed_until(self, last: int) -> int:
        """Return the last offset up to `last` that came from history."""
        return last if self.live_offset == NOT_LIVE else self.live_offset

    def keep(self, kept: KeptPage | None) -> None:
        """Keep the rest of a page of history, in place of the one before."""
        if self.kept is not None:
            self.kept.let_go()
        self.kept = kept

    def hold(self, entries: Sequence["Entry"], limits: SessionLimits, budget: OutboxBudget) -> None:
        """Hold the entries that history will lack, while it reads history."""
        thinned = self.throttle is not None
        if thinned or any(entry.unkept is not None for entry in entries):
            if self.unkept is None:
                self.unkept = Unkept(self.session, budget)
            self.unkept.hold(entries, self.replay_cursor, limits, thinned=thinned)

    def forget_unkept(self) -> None:
        """Drop the held publications that history lacks."""
        if self.unkept is not None:
            self.unkept.clear()
            self.unkept = None

    def close(self) -> None:
        """End the subscription, also where a batch under way still names it."""
        if self.throttle is not None:
            self.throttle.forget()
        self.keep(None)
        self.forget_unkept()
        self.stand_apart()
        self.closed = True
        self.own_offset = NOT_LIVE

    def go_live(self, offset: int) -> None:
        """Follow the channel from `offset` on. Older items are skipped from now on."""
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
        """Stop following the channel; send its rows, and then history after them."""
        self.go_back_to_history(self.position.offset)
        if self.state_need is not None:
            self.state_need.begin(resumes)

    @property
    def refills(self) -> bool:
        """Whether it reads publications again that its peer was too slow for.

        A subscription with state does, because changes of rows must not be dropped. Where history
        lacks them, rows are sent again.
        """
        return self.state_need is not None or (self.fill and self.channel.options.keeps_history)

    def go_back_to_history(self, cursor: int) -> None:
        """Stop following the channel, and read everything after `cursor` from history."""
        if self.throttle is not None:
            self.throttle.forget()
        self.keep(None)
        self.stand_apart()
        self.own_offset = NOT_LIVE
        self.replay_cursor = cursor
