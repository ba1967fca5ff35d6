"""The channels that a worker follows: its position in each, and the reading of missed publications.

The connection carries everything once and in order, so nothing is missing while it lasts. After a
reconnect the worker asks for the heads of all channels, some at a time. It reads the publications
in between from history, or announces their loss, as `hub.brokers.tracker` decides.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from hub.brokers.local import frames
from hub.brokers.local.link import NoAnswerError, NotSentError, WorkerLink
from hub.brokers.tracker import HoldBudget, Step, Tracker, TrackerPage, TrackerState
from hub.brokers.tracker import SequencedMessage as Held
from hub.core.counters import Counters
from hub.core.eager import Rest, begin
from hub.core.options import Namespaces
from hub.core.ports import PAGE_BYTES, Downstream, HistoryPage, OnOpen, Spawn
from hub.core.publication import Position, Publication
from hub.core.pushes import Gap, GapReason, Member, PresenceReset
from hub.errors import HubError, UnavailableError

_PAGE_PUBLICATIONS = 1000
# Channels read at a time after a reconnect, so that publications come between the pages.
_FILLING_AT_ONCE = 32
_RETRY_SECONDS = 0.2
# Heads asked for together after a reconnect: 1.5 ms for the worker, 1 ms for the broker process.
HEADS_AT_ONCE = 128


async def read_page(
    link: WorkerLink, channel: str, after: int, limit: int, max_bytes: int
) -> HistoryPage:
    """Read a page of the broker process; raise the errors of `WorkerLink.ask`."""
    answer = await link.ask(frames.HISTORY, channel, after, limit, max_bytes)
    _, _, epoch, offset, oldest, invalid, found = answer
    publications = tuple(map(frames.read_publication, found))
    return HistoryPage(Position(epoch, offset), oldest, publications, tuple(invalid))


@dataclass(slots=True)
class _Followed:
    """One channel that this worker subscribes to."""

    tracker: Tracker
    epoch: str = ""
    """The epoch that the broker process delivers now; the tracker may be in the one before."""
    callers: list[tuple[asyncio.Future[None], OnOpen]] = field(default_factory=list)
    """Callers that wait for its head."""
    filling: bool = False
    asked_in: int = 0
    """The connection on which its head was last asked for."""

    def opened(self) -> None:
        """Give one of the callers the head, then let all of them go on."""
        living = [pair for pair in self.callers if not pair[0].done()]
        self.callers.clear()
        if living:
            living[0][1](self.tracker.position)
        for done, _ in living:
            done.set_result(None)

    def fail(self, error: HubError) -> None:
        for done, _ in self.callers:
            if not done.done():
                done.set_exception(error)
        self.callers.clear()


class _Answers:
    """Waits for a number of answers."""

    def __init__(self, count: int) -> None:
        self._left = count
        self.all = asyncio.Event()

    def one(self) -> None:
        self._left -= 1
        if not self._left:
            self.all.set()


class FollowedChannels:
    """Takes the messages of the broker process; one per worker."""

    def __init__(
        self,
        link: WorkerLink,
        *,
        downstream: Downstream,
        namespaces: Namespaces,
        spawn: Spawn,
        counters: Counters,
        hold: HoldBudget,
    ) -> None:
        self._link = link
        self._downstream = downstream
        self._namespaces = namespaces
        self._spawn = spawn
        self._counters = counters
        self._hold = hold
        self._channels: dict[str, _Followed] = {}
        self._connection = 0
        """The number of connections so far."""
        self.filling = 0
        """The number of channels that are reading missed publications now."""
        self._reads = asyncio.Semaphore(_FILLING_AT_ONCE)
        link.on(frames.DELIVER, self._on_deliver)
        link.on(frames.LOST, self._on_lost)
        link.on(frames.RESET, self._on_reset)
        link.on(frames.ANNOUNCE, self._on_announce)
        link.on_up(self._on_up)

    def names(self) -> Sequence[str]:
        return tuple(self._channels)

    def tracker(self, channel: str) -> Tracker | None:
        """Return the tracker of a channel; None where this worker does not follow it."""
        followed = self._channels.get(channel)
        return None if followed is None else followed.tracker

    async def subscribe(self, channel: str, on_open: OnOpen) -> None:
        """Deliver the channel from now on; raise `UnavailableError` without a broker process."""
        if (followed := self._channels.get(channel)) is None:
            followed = self._channels[channel] = _Followed(Tracker(channel, self._hold))
            try:
                self._ask_head(channel, followed)
            except NotSentError as error:
                self._forget(channel)
                raise UnavailableError(
                    f"cannot subscribe to {channel!r}: {error.message}"
                ) from None
        elif followed.tracker.state is not TrackerState.OPENING:
            on_open(followed.tracker.position)
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        followed.callers.append((done, on_open))
        await done

    def unsubscribe(self, channel: str) -> None:
        if self._forget(channel):
            self._link.send((frames.UNSUBSCRIBE, channel))

    def _on_up(self) -> None:
        self._connection += 1
        asking = self._ask_all_heads(self._connection)
        if isinstance(rest := begin(asking), Rest):
            self._spawn(rest.run())

    async def _ask_all_heads(self, connection: int) -> None:
        """Ask for all heads on a new connection: for the next ones once these were answered.

        Example: with 100,000 channels all heads at once held the worker and the broker process for
        half a second each. A channel whose turn is still to come gets no publications so far, as
        before the reconnect. It reads them from history when its head has come.
        """
        names = tuple(self._channels)
        for first in range(0, len(names), HEADS_AT_ONCE):
            if connection != self._connection or not self._link.is_up:
                return
            some = names[first : first + HEADS_AT_ONCE]
            answers = _Answers(len(some))
            for name in some:
                followed = self._channels.get(name)
                if followed is None or followed.asked_in == connection:
                    answers.one()
                else:
                    self._ask_head(name, followed, again=True, done=answers.one)
            await answers.all.wait()

    def _ask_head(
        self,
        channel: str,
        followed: _Followed,
        *,
        again: bool = False,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        def answered(answer: frames.Message | HubError) -> None:
            done()
            if self._channels.get(channel) is not followed:
                return
            if isinstance(answer, HubError):
                self._fail(channel, followed, answer)
                return
            _, _, epoch, offset = answer
            self._go_on(channel, followed, Position(epoch, offset))

        # After a reconnect all channels ask, however many there are.
        self._link.call((frames.SUBSCRIBE, channel), answered, lasts=again)
        followed.asked_in = self._connection

    def _fail(self, channel: str, followed: _Followed, error: HubError) -> None:
        if followed.tracker.state is not TrackerState.OPENING:
            # Without a head a missing publication would show nowhere.
            self._spawn(self._ask_head_again(channel, followed, error))
            return
        self.unsubscribe(channel)
        if isinstance(error, NoAnswerError | NotSentError):
            error = UnavailableError(f"cannot subscribe to {channel!r}: {error.message}")
        followed.fail(error)

    async def _ask_head_again(self, channel: str, followed: _Followed, error: HubError) -> None:
        if isinstance(error, NoAnswerError):
            # Whether it is subscribed to is not known: a connection made anew asks for all heads.
            self._link.reconnect()
            return
        await asyncio.sleep(_RETRY_SECONDS)
        if self._channels.get(channel) is followed and self._link.is_up:
            self._ask_head(channel, followed, again=True)

    def _go_on(self, channel: str, followed: _Followed, head: Position) -> None:
        """Go on with the publications that follow `head`."""
        tracker, followed.epoch = followed.tracker, head.epoch
        if tracker.state is TrackerState.OPENING:
            tracker.open(head)
            followed.opened()
            return
        if tracker.epoch == head.epoch and self._namespaces.options(channel).presence:
            # Joins and leaves have no offsets: sessions ask for the members anew.
            self._downstream.announce(channel, PresenceReset(channel))
        tracker.confirm(head)
        self._fill_if_behind(channel, followed)

    def _forget(self, channel: str) -> bool:
        if (followed := self._channels.pop(channel, None)) is None:
            return False
        followed.tracker.let_go()
        return True

    def _on_deliver(self, message: frames.Message) -> None:
        for written in message[1]:
            self._deliver(frames.read_publication(written))

    def _deliver(self, publication: Publication) -> None:
        channel, offset = publication.channel, publication.offset
        if (followed := self._channels.get(channel)) is None:
            return
        self._counters.broker_received += 1
        tracker = followed.tracker
        if tracker.state is TrackerState.LIVE and offset == tracker.offset + 1:
            tracker.offset = offset
            self._downstream.deliver(publication)
        elif tracker.state is not TrackerState.OPENING:
            held = Held(followed.epoch, offset, publication, publication.size_bytes)
            self._carry_out(channel, tracker.receive(held))
            self._fill_if_behind(channel, followed)

    def _on_lost(self, message: frames.Message) -> None:
        """Take the word of the broker that it lost a range."""
        _, channel, epoch, first, last, reason, unsequenced = message
        followed = self._channels.get(channel)
        if followed is None or followed.tracker.state is TrackerState.OPENING:
            return
        tracker = followed.tracker
        if (
            tracker.state is TrackerState.LIVE
            and epoch == tracker.epoch
            and first == tracker.offset + 1
        ):
            tracker.offset = last
            gap = Gap(channel, epoch, first, last, GapReason(reason), unsequenced)
            self._downstream.lost(gap)
        else:
            tracker.confirm(Position(epoch, last))
            self._fill_if_behind(channel, followed)

    def _on_reset(self, message: frames.Message) -> None:
        """Take the word of the broker that it began another epoch."""
        _, channel, epoch, offset = message
        followed = self._channels.get(channel)
        if followed is not None and followed.tracker.state is not TrackerState.OPENING:
            self._go_on(channel, followed, Position(epoch, offset))

    def _on_announce(self, message: frames.Message) -> None:
        _, channel, name, *who = message
        change = (
            PresenceReset(channel) if name is None else frames.CHANGES[name](channel, Member(*who))
        )
        if channel in self._channels:
            self._downstream.announce(channel, change)

    def _fill_if_behind(self, channel: str, followed: _Followed) -> None:
        if followed.tracker.state is TrackerState.FILLING and not followed.filling:
            followed.filling = True
            self.filling += 1
            self._counters.broker_holes += 1
            self._spawn(self._fill(channel, followed))

    async def _fill(self, channel: str, followed: _Followed) -> None:
        """Read the missing publications; a connection that ends meanwhile begins it again."""
        tracker = followed.tracker
        try:
            while tracker.state is TrackerState.FILLING and self._channels.get(channel) is followed:
                async with self._reads:
                    after = tracker.ask()
                    page = await self._try_page(channel, after)
                if page is None:
                    await asyncio.sleep(_RETRY_SECONDS)
                elif self._channels.get(channel) is followed:
                    self._carry_out(channel, tracker.on_page(page))
        finally:
            followed.filling = False
            self.filling -= 1

    async def _try_page(self, channel: str, after: int) -> TrackerPage | None:
        try:
            page = await read_page(self._link, channel, after, _PAGE_PUBLICATIONS, PAGE_BYTES)
        except HubError:
            return None
        head = page.head
        messages = [
            Held(head.epoch, each.offset, each, each.size_bytes) for each in page.publications
        ]
        self._counters.broker_filled += len(messages)
        messages += [Held(head.epoch, offset, None, 0) for offset in page.invalid]
        messages.sort(key=attrgetter("offset"))
        complete = not messages or messages[-1].offset == head.offset
        return TrackerPage(head, page.oldest, messages, complete=complete)

    def _carry_out(self, channel: str, steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, Publication):
                self._downstream.deliver(step)
            elif isinstance(step, Gap):
                self._counters.broker_lost += step.last - step.first + 1
                self._downstream.lost(step)
            else:
                self._counters.broker_resets += 1
                self._downstream.reset(channel, step)
