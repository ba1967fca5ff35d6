"""Where a subscription starts: decided from what it asked for and what history holds.

A pure function. What it decides is announced at the head of the stream; the replay itself
is read in pages by `hub.core.recovery.replay`.
"""

from dataclasses import replace

from hub.core.ports import HistoryPage
from hub.core.publication import Position
from hub.core.values import value


@value(frozen=True, slots=True)
class Start:
    """Where a subscription begins and what it has to be told first."""

    position: Position
    """Before what is replayed."""
    replayed: int
    recovered: bool
    """Whether history reaches back to all that was asked for. It is not read yet: what of it is
    invalid, or is trimmed before it is read, a gap in the replay announces."""
    reset: bool = False
    """The position asked for belongs to another epoch: `position` is where the new one starts."""
    page: HistoryPage | None = None
    """What follows `position`, where it was read already."""
    state: bool = False
    """Rows of the channel's state come first, as of `position` or later."""


def at_head(head: Position) -> Start:
    """The start of who asks for nothing of history."""
    return Start(head, 0, recovered=True)


def start(*, since: Position | None, last: int | None, head: Position, oldest: int) -> Start:
    """Decide the start of a subscription to a channel whose history holds `oldest` to `head`.

    Args:
        since: resume after this position; wins over `last`.
        last: begin with the newest `last` publications, 0 or more.
        head: the newest offset given out.
        oldest: the first offset held; `head.offset + 1` where none is.
    """
    held_after = oldest - 1
    if since is None:
        wanted = min(last or 0, head.offset)
        after = max(head.offset - wanted, held_after) if wanted else head.offset
        replayed = head.offset - after
        return Start(Position(head.epoch, after), replayed, recovered=replayed == wanted)
    if since.epoch == head.epoch and since.offset <= head.offset:
        replayed = head.offset - max(since.offset, held_after)
        return Start(since, replayed, recovered=since.offset >= held_after)
    # An offset of this epoch that was never given out: the peer knows what we do not. Nothing
    # before the head can be told apart from what it has seen, so it continues there.
    if since.epoch == head.epoch:
        return Start(head, 0, recovered=False, reset=True)
    beginning = Position(head.epoch, 0)
    return Start(beginning, head.offset - held_after, recovered=False, reset=True)


def with_state(whole: Start, head: Position, *, fresh: bool) -> Start:
    """The start of a subscription with state, which would start at `whole` without it.

    Rows come first where it is new (`fresh`), and where history cannot make its resume whole.
    """
    if whole.recovered and not fresh:
        return whole
    return Start(head, 0, recovered=fresh, state=True)


def as_read(began: Start, page: HistoryPage) -> Start:
    """`began`, which asked for the newest publications, at the oldest of them that `page` has.

    History goes on between two questions to a broker. Who asks for the newest 100 of a channel that
    keeps 100 misses nothing when the first of them has gone meanwhile: it begins one further on.
    Example: at head 500 the start is 400; the page says that 403 is the oldest, so it becomes 402.
    """
    position = began.position
    if page.head.epoch != position.epoch or not page.publications:
        return began
    gone = max(0, page.oldest - 1 - position.offset)
    return replace(
        began,
        position=Position(position.epoch, position.offset + gone),
        replayed=max(0, began.replayed - gone),
        page=page,
    )
