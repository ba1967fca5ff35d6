"""The position of this node in one channel, and the publications to deliver, to drop and to ask
for.

`Tracker` is a pure state machine: it takes messages and pages of history and returns steps to carry
out in order. The tracker never goes back and never skips: between two steps of an epoch lies
nothing, or a gap.

The brokers outside this process share it. Over Redis the epoch changes only by an answer of Redis,
never by a message of pub/sub. A message of another epoch may come late from one already left, or
early from one to come; a page that was asked for after the message arrived tells which. Likewise a
range is given up only when a page that was asked for after the range was known to be missing does
not have it: a message that pub/sub may still carry is not missing yet.

For example, a tracker has delivered up to offset 5, and the connection loses 6, 7 and 8:

    receive(9)    held; 6 to 8 are missing; FILLING, `ask` says: read what follows 5
    receive(10)   held
    on_page       history is bounded to four and holds 7 to 10: Gap(6 to 6), 7, 8, 9, 10; LIVE
    receive(10)   a late copy: dropped, 10 is not above 10

Where the bound on held messages had left 10 out, the page would have brought it with 7 to 9. In a
channel without history the page is empty: Gap(6 to 8), 9, 10.

`once_reached` reads until the tracker is in the epoch of the page: a session that resumed in an
epoch of which this node has not heard would be set back to the epoch before.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

from hub.core.counters import Counters
from hub.core.publication import Position, Publication
from hub.core.pushes import Gap, GapReason
from hub.errors import UnavailableError


@dataclass(frozen=True, slots=True)
class SequencedMessage:
    """A number of a channel's sequence, with its publication."""

    epoch: str
    offset: int
    publication: Publication | None
    """None where it is no JSON, too large or otherwise not to be delivered."""
    size_bytes: int


class HoldBudget:
    """Bounds what the trackers of all channels of a process hold."""

    def __init__(
        self, *, channel_messages: int, channel_bytes: int, total_bytes: int, counters: Counters
    ) -> None:
        self._channel_messages = channel_messages
        self._channel_bytes = channel_bytes
        self.total_bytes = total_bytes
        self._counters = counters
        self.bytes = 0
        """Bytes that all channels hold now."""

    def take(self, size_bytes: int, *, messages: int, held_bytes: int) -> bool:
        """Take a message of a channel that holds so many messages and bytes, if there is room."""
        fits = (
            messages < self._channel_messages
            and held_bytes + size_bytes <= self._channel_bytes
            and self.bytes + size_bytes <= self.total_bytes
        )
        if fits:
            self.bytes += size_bytes
        else:
            self._counters.broker_hold_refused += 1
        return fits

    def give_back(self, size_bytes: int) -> None:
        self.bytes -= size_bytes


Step = Publication | Gap | Position
"""Deliver it; announce it; go on in its epoch, after its offset."""


class TrackerState(Enum):
    OPENING = "opening"
    """The head is not known yet."""
    LIVE = "live"
    FILLING = "filling"
    """Something is missing, or in doubt: `ask`, then `on_page`."""


@dataclass(frozen=True, slots=True)
class TrackerPage:
    """The messages that the broker held of a channel after the offset that `Tracker.ask` gave."""

    head: Position
    oldest: int
    """First offset kept; `head.offset + 1` when none is."""
    messages: Sequence[SequencedMessage]
    """Contiguous, oldest first."""
    complete: bool
    """Whether nothing was held beyond them."""


class Tracker:
    """Follows one channel; `epoch` and `offset` say how far this node has come."""

    __slots__ = (
        "_asked_held", "_asked_target", "_confirmed", "_held", "_held_bytes", "_room",
        "_target", "channel", "duplicates", "epoch", "muted", "offset", "state",
    )  # fmt: skip

    def __init__(self, channel: str, room: HoldBudget) -> None:
        self.channel = channel
        self.state = TrackerState.OPENING
        self.epoch = ""
        self.offset = 0
        self.duplicates = 0
        self.muted = False
        """Whether no subscriber needs its steps now; it keeps up, because one may come back."""
        self._room = room
        self._held: list[SequencedMessage] = []
        """Messages that were received and wait for those before them."""
        self._held_bytes = 0
        self._target = 0
        """Everything up to this offset was published, and is not on its way here any more."""
        self._confirmed = Position("", 0)
        self._asked_target = 0
        self._asked_held = 0

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.offset)

    # -- from pub/sub ------------------------------------------------------------------------

    def receive(self, message: SequencedMessage) -> Sequence[Step]:
        """Take the next message of pub/sub."""
        if message.epoch == self.epoch:
            if message.offset <= self.offset:
                self.duplicates += 1
                return ()
            if self.state is TrackerState.LIVE and message.offset == self.offset + 1:
                self.offset = message.offset
                return (self._step(message),)
        self._hold(message)
        if self.state is TrackerState.LIVE:
            self.state = TrackerState.FILLING
        return ()

    def _hold(self, message: SequencedMessage) -> None:
        if message.epoch == self.epoch:
            self._target = max(self._target, message.offset)
        size = message.size_bytes
        # At the bound the newest are left out: the target remembers that they exist.
        if self._room.take(size, messages=len(self._held), held_bytes=self._held_bytes):
            self._held.append(message)
            self._held_bytes += size

    # -- from heads --------------------------------------------------------------------------

    def open(self, head: Position) -> None:
        """Begin after `head`, which was asked for when pub/sub already delivered."""
        self.epoch, self.offset, self._target = head.epoch, head.offset, head.offset
        self.state = TrackerState.LIVE

    def release(self) -> Sequence[Step]:
        """Take the messages that came while the head was being asked for."""
        held = self._held
        self._keep(())
        return [step for message in held for step in self.receive(message)]

    def let_go(self) -> None:
        """Hold nothing: no subscriber needs the channel any more."""
        self._keep(())

    def is_behind(self, head: Position) -> bool:
        """Whether there is something at `head` that has not arrived here (yet)."""
        return head.epoch != self.epoch or head.offset > self.offset

    def confirm(self, head: Position) -> None:
        """Know that each publication up to `head` has passed through pub/sub: a missing one is
        lost."""
        if not self.is_behind(head):
            return
        self._confirmed = head
        if head.epoch == self.epoch:
            self._target = max(self._target, head.offset)
        self.state = TrackerState.FILLING

    # -- from history ------------------------------------------------------------------------

    def ask(self) -> int:
        """Return the offset after which a page is to be read now."""
        self._asked_target = self._target
        self._asked_held = len(self._held)
        return self.offset

    def on_page(self, page: TrackerPage) -> Sequence[Step]:
        """Take the page that was read since `ask`."""
        steps: list[Step] = []
        epoch = page.head.epoch
        # A message of another epoch that came before the page was asked for is of a former epoch.
        self._keep(m for i, m in enumerate(self._held) if i >= self._asked_held or m.epoch == epoch)
        if epoch != self.epoch:
            self._begin(page)
            steps.append(self.position)
        else:
            self._advance(page, steps)
        self._keep(m for m in self._held if m.epoch != self.epoch or m.offset > self.offset)
        if not self._held and self.offset >= self._target:
            self.state = TrackerState.LIVE
        return steps

    def _keep(self, messages: Iterable[SequencedMessage]) -> None:
        before, self._held = self._held_bytes, list(messages)
        self._held_bytes = sum(message.size_bytes for message in self._held)
        self._room.give_back(before - self._held_bytes)

    def _begin(self, page: TrackerPage) -> None:
        """Go on in another epoch, before the oldest that is kept there or waits here."""
        self.epoch = page.head.epoch
        held = [message.offset for message in self._held if message.epoch == self.epoch]
        self.offset = min([page.oldest, *held]) - 1
        confirmed = self._confirmed.offset if self._confirmed.epoch == self.epoch else 0
        self._target = max([self.offset, confirmed, *held])

    def _advance(self, page: TrackerPage, steps: list[Step]) -> None:
        known = {m.offset: m for m in page.messages}
        known |= {m.offset: m for m in self._held if m.epoch == self.epoch}
        # Up to here the page says all there is.
        limit = self._asked_target
        if not page.complete:
            limit = min(limit, page.messages[-1].offset)
        for offset in sorted(known):
            if offset > self.offset + 1:
                self._give_up(min(offset - 1, limit), steps)
            if offset > self.offset + 1:
                break
            if offset == self.offset + 1:
                self.offset = offset
                steps.append(self._step(known[offset]))
        self._give_up(limit, steps)

    def _give_up(self, last: int, steps: list[Step]) -> None:
        if last > self.offset:
            first, self.offset = self.offset + 1, last
            steps.append(Gap(self.channel, self.epoch, first, last, GapReason.BROKER))

    def _step(self, message: SequencedMessage) -> Step:
        if message.publication is not None:
            return message.publication
        offset = message.offset
        return Gap(self.channel, self.epoch, offset, offset, GapReason.INVALID)


# Three seconds in all: over Redis a comparison of epochs takes two round trips and a barrier.
_TRIES = 100
_STEP_SECONDS = 0.03


class Read(Protocol):
    """A page of history, or of rows."""

    @property
    def head(self) -> Position: ...


R = TypeVar("R", bound=Read)


async def once_reached(
    read: Callable[[], Awaitable[R]],
    tracker: Callable[[], Tracker | None],
    *,
    what: str,
    catch_up: Callable[[Tracker], None] = lambda _: None,
) -> R:
    """Return the page that `read` returns, read again until `tracker` is in its epoch.

    Args:
        tracker: of the channel; None where this node does not listen to it.
        what: the words for the page in the error.
        catch_up: gets a tracker that is in another epoch, at each try.

    Raises:
        UnavailableError: the tracker has not come there within three seconds.
    """
    for _ in range(_TRIES):
        page = await read()
        here = tracker()
        if here is None or here.state is TrackerState.OPENING or here.epoch == page.head.epoch:
            return page
        catch_up(here)
        await asyncio.sleep(_STEP_SECONDS)
    raise UnavailableError(f"no {what}: its epoch is changing")
