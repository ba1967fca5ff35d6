"""Decides where a subscription starts, from its request and from what history holds.

`start` is a pure function that decides. `Starts` asks the broker for its arguments. The decision is
announced at the head of the stream. `hub.core.recovery.replay` then reads the history in pages.
"""

from collections.abc import Sequence

from hub.core.commands import Subscribe
from hub.core.eager import NEXT_TURN
from hub.core.fanout.channels import Channel
from hub.core.fanout.membership import Ending
from hub.core.ports import HistoryPage
from hub.core.publication import BEGINNING, Position
from hub.core.recovery.replay import Replay
from hub.core.values import Struct, replace

# Starts decided in one turn where nothing waits: about 10 us each, a guess.
_SLICE_STARTS = 100

Opened = tuple[Channel, Subscribe]
"""An open channel, and the command that asks for it."""


class Start(Struct, frozen=True):
    """The start of a subscription, as it is announced to the peer."""

    position: Position
    """The position before the replayed publications."""
    replayed: int
    recovered: bool
    """Whether history reaches back to everything that was requested. The history is not read yet. A
    gap in the replay announces a part that is invalid, or is trimmed before it is read."""
    reset: bool = False
    """Whether the requested position belongs to another epoch. `position` is in the new one."""
    page: HistoryPage | None = None
    """The page after `position`, where it was read already."""
    state: bool = False
    """Whether rows of the channel's state come first, as of `position` or later."""


def at_head(head: Position) -> Start:
    """Return the start of a subscription that asks for no history."""
    return Start(head, 0, recovered=True)


def start(*, since: Position | None, last: int | None, head: Position, oldest: int) -> Start:
    """Decide the start of a subscription to a channel whose history holds `oldest` to `head`.

    Args:
        since: resume after this position; wins over `last`. `BEGINNING` is not a peer's position,
            so a start from it is never a reset.
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
        # Resolved here, because another epoch may have begun since the request.
        since = Position(head.epoch, 0)
    if since.epoch == head.epoch and since.offset <= head.offset:
        replayed = head.offset - max(since.offset, held_after)
        return Start(since, replayed, recovered=since.offset >= held_after)
    # An offset of this epoch that was never assigned. The hub cannot know which publications before
    # the head the peer has seen, so the peer continues at the head.
    if since.epoch == head.epoch:
        return Start(head, 0, recovered=False, reset=True)
    beginning = Position(head.epoch, 0)
    return Start(beginning, head.offset - held_after, recovered=False, reset=True)


def with_state(whole: Start, head: Position, *, fresh: bool) -> Start:
    """Return the start of a subscription with state that would start at `whole` without state.

    Rows come first for a new subscription (`fresh`), and where history cannot recover everything.
    """
    if whole.recovered and not fresh:
        return whole
    return Start(head, 0, recovered=fresh, state=True)


def as_read(began: Start, page: HistoryPage) -> Start:
    """Move a start with the newest publications to the oldest one that `page` still has.

    History goes on between two calls to a broker. A peer that asks for the newest 100 of a channel
    which keeps 100 misses nothing when the first of them has expired meanwhile: it begins one
    later.
    Example: at head 500 the start is 400. The oldest of the page is 403, so the start becomes 402.
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
    """Finds the starts of subscriptions; one per node, without state of its own."""

    def __init__(self, replay: Replay, ending: Ending) -> None:
        self._broker = replay.broker
        self._replay = replay
        self._ending = ending

    async def of(self, opened: Sequence[Opened]) -> Sequence[Start]:
        """Return the starts of several subscriptions, all as of one moment.

        The calls for the last of them take time, so the earlier ones are checked again.
        """
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
        """Ask for history only where the command does."""
        if command.state and command.since is None:
            return with_state(at_head(channel.head), channel.head, fresh=True)
        began = await self._history_start(channel, command)
        return with_state(began, channel.head, fresh=False) if command.state else began

    async def _history_start(self, channel: Channel, command: Subscribe) -> Start:
        """Return the start by history. Of an ended channel it is all of history."""
        asks = command.since is not None or bool(command.last)
        ended = not asks and await self._ending.has_ended(channel)
        if not asks and not ended:
            return start(since=None, last=None, head=channel.head, oldest=channel.offset + 1)
        page = await self._broker.history(channel.name, channel.offset, limit=1)
        if page.head.epoch != channel.epoch:
            # An epoch ended during the call, so ask once more. If the epochs still differ, a
            # `reset` is on its way and tells the peer everything.
            page = await self._broker.history(channel.name, channel.offset, limit=1)
        head = channel.head
        if page.head.epoch != head.epoch:
            return start(since=command.since, last=command.last, head=head, oldest=head.offset + 1)
        if page.head.offset > head.offset:
            # Publications that another node delivered may still be on their way to this one. A peer
            # that comes from there is ahead of this channel, and skips those that it has.
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
            # Where publications are replayed, the last one tells whether the channel has ended.
            await self._ending.has_ended(channel)
        return began


def _as_of_now(channel: Channel, command: Subscribe, asked: Start) -> Start | None:
    """Update a start that was found a while ago; return None where it must be found again."""
    if asked.state:
        return replace(asked, position=channel.head)
    asked_for_some = command.last or (command.last is None and channel.ended)
    if command.since is None and not (asked_for_some and channel.options.keeps_history):
        head = channel.head
        return start(since=None, last=command.last, head=head, oldest=head.offset + 1)
    return asked if asked.position.epoch == channel.epoch else None
