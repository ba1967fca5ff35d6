"""Where a subscription starts: decided from what it asked for and what history holds.

`start` decides, a pure function; `Starts` asks the broker what it decides by. The decision is
announced at the head of the stream; the replay itself is read in pages by
`hub.core.recovery.replay`.
"""

from collections.abc import Sequence
from dataclasses import replace

from hub.core.commands import Subscribe
from hub.core.eager import NEXT_TURN
from hub.core.fanout.channels import Channel
from hub.core.fanout.membership import Ending
from hub.core.ports import HistoryPage
from hub.core.publication import BEGINNING, Position
from hub.core.recovery.replay import Replay
from hub.core.values import value

# Found out in one turn, where there is nothing to wait for: some 10 us each, a guess.
_SLICE_STARTS = 100

Opened = tuple[Channel, Subscribe]
"""A channel that is open here, and the command that asks for it."""


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
    """The start of a subscription that asks for nothing of history."""
    return Start(head, 0, recovered=True)


def start(*, since: Position | None, last: int | None, head: Position, oldest: int) -> Start:
    """Decide the start of a subscription to a channel whose history holds `oldest` to `head`.

    Args:
        since: resume after this position; wins over `last`. `BEGINNING` is no position of a peer,
            so no start from it is a reset.
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
    if since == BEGINNING:
        # Decided here: while the start was asked for, another epoch may have begun.
        since = Position(head.epoch, 0)
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

    History goes on between two questions to a broker. A peer that asks for the newest 100 of a
    channel which keeps 100 misses nothing when the first of them has gone meanwhile: it begins one
    further on.
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


class Starts:
    """Where subscriptions start; one per node, keeps nothing of its own."""

    def __init__(self, replay: Replay, ending: Ending) -> None:
        self._broker = replay.broker
        self._replay = replay
        self._ending = ending

    async def of(self, opened: Sequence[Opened]) -> Sequence[Start]:
        """Where each begins, as of one moment: asking for the last one takes its time."""
        while True:
            asked = []
            for number, (channel, command) in enumerate(opened, 1):
                if number % _SLICE_STARTS == 0:
                    await NEXT_TURN
                asked.append(await self._start(channel, command))
            now = [
                _as_of_now(channel, command, found)
                for (channel, command), found in zip(opened, asked, strict=True)
            ]
            if None not in now:
                return [at for at in now if at is not None]

    async def _start(self, channel: Channel, command: Subscribe) -> Start:
        """Ask history only where something of it was asked for."""
        if command.state and command.since is None:
            return with_state(at_head(channel.head), channel.head, fresh=True)
        began = await self._history_start(channel, command)
        return with_state(began, channel.head, fresh=False) if command.state else began

    async def _history_start(self, channel: Channel, command: Subscribe) -> Start:
        """Of a channel that has ended everything is asked for: nothing else will come."""
        asks = command.since is not None or bool(command.last)
        ended = not asks and await self._ending.has_ended(channel)
        if not asks and not ended:
            return start(since=None, last=None, head=channel.head, oldest=channel.offset + 1)
        page = await self._broker.history(channel.name, channel.offset, limit=1)
        if page.head.epoch != channel.epoch:
            # An epoch ended while it was asked. Once more: should it still be another one, then
            # a `reset` is on its way and says all there is to say.
            page = await self._broker.history(channel.name, channel.offset, limit=1)
        head = channel.head
        if page.head.epoch != head.epoch:
            return start(since=command.since, last=command.last, head=head, oldest=head.offset + 1)
        if page.head.offset > head.offset:
            # What another node delivered already may still be on its way to this one. A peer that
            # comes from there is ahead of this channel, not lost: it skips what it has.
            head = page.head
        everything = command.last is None and ended
        began = start(
            since=command.since,
            last=head.offset + 1 - page.oldest if everything else command.last,
            head=head,
            oldest=min(page.oldest, head.offset + 1),
        )
        if command.since is None and began.replayed:
            first = await self._replay.first_page(channel.name, began.position.offset)
            began = as_read(began, first)
        if asks and not began.replayed:
            # Where something is replayed, its last one says so.
            await self._ending.has_ended(channel)
        return began


def _as_of_now(channel: Channel, command: Subscribe, asked: Start) -> Start | None:
    """What was found out a while ago, as it is now; None where it has to be asked again."""
    if asked.state:
        return replace(asked, position=channel.head)
    asked_for_some = command.last or (command.last is None and channel.ended)
    if command.since is None and not (asked_for_some and channel.options.keeps_history):
        head = channel.head
        return start(since=None, last=command.last, head=head, oldest=head.offset + 1)
    return asked if asked.position.epoch == channel.epoch else None
