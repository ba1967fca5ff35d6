"""One session's place in one channel."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hub.core.ports import HistoryPage
from hub.core.publication import Position

if TYPE_CHECKING:
    from hub.core.fanout.channels import Channel
    from hub.core.session.ring import Ring
    from hub.core.session.session import Session

# Equal to no batch's base, so that the fanout's one comparison also sorts out sessions
# that are not live.
NOT_LIVE = -1


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


class Subscription:
    """Live while `offset` follows the channel; replaying while it reads history instead.

    Who writes moves the place: the fanout while live, the replay while replaying, the ring
    while the peer is congested.
    """

    __slots__ = (
        "began_at_seconds",
        "began_offset",
        "channel",
        "closed",
        "dropped",
        "fill",
        "kept",
        "live_offset",
        "offset",
        "presence_lost",
        "replay_cursor",
        "ring",
        "session",
    )

    def __init__(
        self, session: "Session", channel: "Channel", *, fill: bool, cursor: int = 0
    ) -> None:
        """Begin behind `cursor`, replaying."""
        self.session = session
        self.channel = channel
        self.fill = fill
        self.offset = NOT_LIVE
        """The last offset handed to the session; `NOT_LIVE` while replaying."""
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
        self.closed = False
        self.dropped = 0
        self.presence_lost = False
        """Whether joins or leaves passed by that the session has to be told of."""

    @property
    def live(self) -> bool:
        return self.offset != NOT_LIVE

    @property
    def position(self) -> Position:
        """How far the peer's transport has been handed this channel."""
        if not self.live:
            return Position(self.channel.epoch, self.replay_cursor)
        offset = self.offset if self.ring is None else self.ring.cursor
        return Position(self.channel.epoch, offset)

    @property
    def resume_from(self) -> Position:
        """Where a peer resumes that is cut behind what its transport has been handed.

        It is `position`, but for a `reset` that is still owed: until the peer has been handed
        it, the peer has to come back from the epoch before it, or it would never hear of it.
        """
        if self.ring is not None and self.ring.untold:
            return self.ring.untold[0].resumes or self.position
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

    def close(self) -> None:
        """Follow nothing any more, also where a batch under way still names it."""
        self.keep(None)
        self.closed = True
        self.offset = NOT_LIVE

    def go_live(self, offset: int) -> None:
        """Follow the channel from `offset` on: older items are skipped from now on."""
        if self.kept is not None:
            self.keep(None)
        self.offset = offset
        if self.live_offset == NOT_LIVE:
            self.live_offset = offset

    def go_back_to_history(self, cursor: int) -> None:
        """Stop following the channel; everything after `cursor` is read from history."""
        self.keep(None)
        self.offset = NOT_LIVE
        self.replay_cursor = cursor
