"""All members of a channel are moved into a new epoch, or are told of a gap, at one place of the
channel.

Each group of members takes it in its turn (`hub.core.fanout.batch`). Of a new epoch this means that
a member stands in the old one until its group has the `reset`: if its connection is cut, its peer
resumes from there, and gets the `reset` when it is back.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence

from hub.core.fanout.batch import Act
from hub.core.fanout.slow_path import SlowPath
from hub.core.forensics.journal import Journal
from hub.core.ports import Dialect
from hub.core.publication import Position
from hub.core.pushes import Gap, GapReason
from hub.core.session.session import Session
from hub.core.session.subscription import Subscription
from hub.errors import HubError


class MemberActs:
    """The acts of a node's fan-out; without state of its own.

    Args:
        mark: has a session's positions written.
    """

    def __init__(
        self, journal: Journal, slow_path: SlowPath, mark: Callable[[Session], None]
    ) -> None:
        self._journal = journal
        self._slow_path = slow_path
        self._mark = mark

    def mend(self, last: int) -> Act:
        """Return what sends members with state the channel's rows, in place of a gap up to `last`.

        A member at `last` or ahead skips it: it has read rows, or history, behind the gap. Example:
        6 and 8 are lost at once. The rows that come for 6 hold as of 8.
        """

        def mend(members: Sequence[Subscription], _: Callable[[], None]) -> None:
            for subscription in members:
                # A member that is not live reads on behind its rows, or finds the gap in history.
                waits = subscription.live and subscription.offset < last
                if subscription.state_need is not None and waits:
                    self._slow_path.release(subscription)
                    if not subscription.closed:
                        subscription.session.read_state(subscription, subscription.resume_from)

        return mend

    def reset(self, channel: str, head: Position) -> Act:
        """Return what moves members of the channel to the epoch that goes on behind `head`."""
        gap = Gap(channel, head.epoch, 0, head.offset, GapReason.RESET)
        frames: dict[Dialect, bytes] = {}

        def reset(members: Sequence[Subscription], enter: Callable[[], None]) -> None:
            for each in members:
                # It may be too much for its outbox, and end its session.
                self._slow_path.release(each)
            before = {each: self._leave(each) for each in members if not each.closed}
            enter()
            for subscription, position in before.items():
                dialect = subscription.session.dialect
                if (frame := frames.get(dialect)) is None:
                    frame = frames[dialect] = dialect.encode(gap, head.epoch)
                self._enter(subscription, position, frame, head.offset)
                if dialect.marks_positions:
                    self._mark(subscription.session)

        return reset

    def _leave(self, subscription: Subscription) -> Position:
        """End the member's old epoch; return the position where it left it."""
        position = subscription.position
        self._journal.left(subscription, position.offset, "reset", position.epoch)
        return position

    def _enter(
        self, subscription: Subscription, before: Position, frame: bytes, offset: int
    ) -> None:
        self._journal.began(subscription, offset)
        self._journal.passed_over(subscription, offset)
        self._slow_path.reset(subscription, frame, before, offset)


def move(subscription: Subscription, has: int, epoch: str) -> None:
    """Move a member to a group of this epoch, owed nothing of the first `has` batches."""
    subscription.channel.remove(subscription)
    subscription.channel.add(subscription, has, epoch)


def end_all(members: Iterable[Subscription]) -> None:
    """Close the sessions of members that a batch did not reach before a fault ended it.

    They must not go on as if it had reached them. Their peers come back and resume.
    """
    for member in members:
        if not member.closed:
            # The session has ended even where its goodbye fails. The caller raises the fault.
            with contextlib.suppress(Exception):
                member.session.close_error(HubError("internal error"))
