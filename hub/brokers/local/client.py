"""The broker as a worker sees it: implements `hub.core.ports.Broker` over a `Link`.

The connection carries everything once and in order, so nothing is missing while it lasts. What was
published while it was down is read from history after each reconnect, and what history has not is
announced: decisions are those of `hub.brokers.tracker`. A broker process that has begun anew has
other epochs, so every channel that kept its history in that process' memory gets a `reset`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hub import errors
from hub.brokers.local import frames
from hub.brokers.local.link import DEAF_SECONDS, Link, NoAnswerError, NotSentError
from hub.brokers.tracker import HoldBudget, Page, State, Step, Tracker
from hub.brokers.tracker import Message as Held
from hub.core.counters import Counters
from hub.core.options import MIB, Namespaces
from hub.core.ports import (
    PAGE_BYTES,
    Appeared,
    Downstream,
    HistoryPage,
    Monotonic,
    OnOpen,
    PublishRequest,
    PublishResult,
    Spawn,
    StatePage,
)
from hub.core.publication import Position, Publication
from hub.core.pushes import Gap, GapReason, Member, PresenceReset
from hub.core.records import BrokerRecord
from hub.errors import HubError, NotPublishedError, OutcomeUnknownError, UnavailableError

# As over Redis: what may be held of a channel while what is before it is read.
_HOLD_MESSAGES = 10_000
_HOLD_BYTES = MIB
_PAGE_PUBLICATIONS = 1000
# Read at a time after a reconnect, so that publications find their way between the pages.
_FILLING_AT_ONCE = 32
_RETRY_SECONDS = 0.2
# Of channels whose names a worker keeps while it has patterns.
_MAX_NAMES = 1_000_000
# For operators, who look at several pages of a list.
_LISTED_SECONDS = 4.0
# Three seconds in all, as over Redis.
_EPOCH_TRIES = 300
_EPOCH_STEP_SECONDS = 0.01


@dataclass(slots=True)
class _Followed:
    """One channel that this worker subscribes to."""

    tracker: Tracker
    epoch: str = ""
    """Of what the broker process delivers now; the tracker may still be in the one before."""
    callers: list[tuple[asyncio.Future[None], OnOpen]] = field(default_factory=list)
    """Those that wait for its head."""
    filling: bool = False

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


class LocalBroker:
    """One per worker. `start` before, `stop` after use.

    Args:
        downstream: gets each publication of a subscribed channel once and in order, and every
            range that is lost.
        hold_total_bytes: what may be held over all channels while something before it is read.
    """

    answers_at_once = True
    """What is asked leaves in the turn of the loop that asks; a task is needed only to wait."""
    publish_now = None
    publish_many_now = None

    def __init__(
        self,
        link: Link,
        *,
        downstream: Downstream,
        namespaces: Namespaces,
        spawn: Spawn,
        clock: Monotonic,
        counters: Counters,
        hold_total_bytes: int,
    ) -> None:
        self._link = link
        self._downstream = downstream
        self._namespaces = namespaces
        self._spawn = spawn
        self._clock = clock
        self._counters = counters
        self._hold = HoldBudget(
            channel_messages=_HOLD_MESSAGES,
            channel_bytes=_HOLD_BYTES,
            total_bytes=hold_total_bytes,
            counters=counters,
        )
        self._channels: dict[str, _Followed] = {}
        self._reads = asyncio.Semaphore(_FILLING_AT_ONCE)
        self._listed: dict[str, tuple[Position, int | None]] = {}
        self._listed_at = 0.0
        self._appeared: Appeared | None = None
        self._names: dict[str, None] | None = None
        """Of the channels that were published in; None while the broker process tells of none."""
        link.on(frames.DELIVER, self._on_deliver)
        link.on(frames.LOST, self._on_lost)
        link.on(frames.RESET, self._on_reset)
        link.on(frames.ANNOUNCE, self._on_announce)
        link.on(frames.APPEARED, lambda message: self._on_appeared(message[1]))
        link.on_up(self._on_up)
        link.on_down(self._on_down)

    async def start(self) -> None:
        """Begin to connect; returns also when there is no broker process: `problems` says so."""
        self._spawn(self._link.run())

    async def stop(self) -> None:
        self._link.stop()

    def sweep(self) -> None:
        self._link.sweep()
        if self._listed and self._clock() - self._listed_at > _LISTED_SECONDS:
            self._listed = {}

    # -- hub.core.ports.Broker ---------------------------------------------------------------

    async def publish(self, request: PublishRequest) -> PublishResult:
        """Number, keep and deliver; calls of one worker keep their order."""
        try:
            answer = await self._link.ask(
                frames.PUBLISH, *frames.request_fields(request), size_bytes=len(request.data)
            )
        except NotSentError as error:
            raise NotPublishedError(f"not published: {error.message}") from None
        except NoAnswerError as error:
            raise OutcomeUnknownError(
                f"it is not known whether it was published: {error.message}"
            ) from None
        _, _, epoch, offset, duplicate = answer
        return PublishResult(Position(epoch, offset), duplicate=duplicate)

    async def publish_many(
        self, requests: Sequence[PublishRequest]
    ) -> Sequence[PublishResult | HubError]:
        """As `publish` for each, in their order and in one call."""
        fields = list(map(frames.request_fields, requests))
        size = sum(len(request.data) for request in requests)
        try:
            answer = await self._link.ask(frames.PUBLISH_MANY, fields, size_bytes=size)
        except NotSentError as error:
            return [NotPublishedError(f"not published: {error.message}") for _ in requests]
        except NoAnswerError as error:
            why = f"it is not known whether it was published: {error.message}"
            return [OutcomeUnknownError(why) for _ in requests]
        return [_outcome(told) for told in answer[2]]

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
        elif followed.tracker.state is not State.OPENING:
            on_open(followed.tracker.position)
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        followed.callers.append((done, on_open))
        await done

    def unsubscribe(self, channel: str) -> None:
        if self._forget(channel):
            self._link.send((frames.UNSUBSCRIBE, channel))

    async def history(
        self, channel: str, after: int, limit: int, *, max_bytes: int = PAGE_BYTES
    ) -> HistoryPage:
        """A page; raise `UnavailableError` without a broker process.

        One of an epoch that this worker has not reached waits until it has: a session that resumed
        in it would be set back to the one before.
        """
        for _ in range(_EPOCH_TRIES):
            try:
                page = await self._page(channel, after, limit, max_bytes)
            except (NotSentError, NoAnswerError) as error:
                raise UnavailableError(f"no history of {channel!r}: {error.message}") from None
            followed = self._channels.get(channel)
            if (
                followed is None
                or followed.tracker.state is State.OPENING
                or followed.tracker.epoch == page.head.epoch
            ):
                return page
            await asyncio.sleep(_EPOCH_STEP_SECONDS)
        raise UnavailableError(f"no history of {channel!r}: its epoch is changing")

    async def state(
        self,
        channel: str,
        after: str,
        limit: int,
        *,
        upto: int | None = None,
        max_bytes: int = PAGE_BYTES,
    ) -> StatePage:
        """A page of rows; raise `UnavailableError` without a broker process."""
        try:
            answer = await self._link.ask(frames.STATE, channel, after, limit, upto, max_bytes)
        except (NotSentError, NoAnswerError) as error:
            raise UnavailableError(f"no state of {channel!r}: {error.message}") from None
        _, _, epoch, offset, following, dropped, found = answer
        rows = tuple(Publication(*each) for each in found)
        return StatePage(Position(epoch, offset), rows, following, dropped)

    async def clear(self, channel: str) -> None:
        """Raise `UnavailableError` without a broker process."""
        try:
            await self._link.ask(frames.CLEAR, channel)
        except (NotSentError, NoAnswerError) as error:
            raise UnavailableError(f"history is not cleared: {error.message}") from None

    async def _page(self, channel: str, after: int, limit: int, max_bytes: int) -> HistoryPage:
        answer = await self._link.ask(frames.HISTORY, channel, after, limit, max_bytes)
        _, _, epoch, offset, oldest, found = answer
        publications = tuple(Publication(*each) for each in found)
        return HistoryPage(Position(epoch, offset), oldest, publications)

    # -- hub.core.ports.Directory --------------------------------------------------------------

    async def follow(self, appeared: Appeared) -> Sequence[str]:
        """Asked of the broker process once, and again after each reconnect.

        `appeared` is called beside a first publication, which is in history then.
        """
        self._appeared = appeared
        if (names := self._names) is None:
            try:
                names = await self._ask_names()
            except (NotSentError, NoAnswerError) as error:
                raise UnavailableError(f"no list of channels: {error.message}") from None
        return tuple(names)

    def unfollow(self) -> None:
        self._appeared = self._names = None
        self._link.send((frames.UNFOLLOW,))

    async def _ask_names(self) -> dict[str, None]:
        """What appears from the question on is told behind its answer."""
        _, _, found = await self._link.ask(frames.FOLLOW)
        names = dict.fromkeys(found)
        if self._appeared is not None:
            names |= self._names or {}
            self._names = names
        return names

    def _on_appeared(self, name: str) -> None:
        if self._names is not None:
            self._names[name] = None
            if len(self._names) > _MAX_NAMES:
                # Also those that are forgotten by now: they are asked for anew.
                self._names = None
        if self._appeared is not None:
            self._appeared(name)

    async def _follow_again(self, before: Mapping[str, None]) -> None:
        """Learn of what appeared while there was no connection."""
        try:
            names = await self._ask_names()
        except (NotSentError, NoAnswerError):
            return  # The next connection asks again.
        for name in names:
            if name not in before and self._appeared is not None:
                self._appeared(name)

    # -- what this worker knows --------------------------------------------------------------

    async def look(self) -> None:
        """Learn of all channels, so that `names` and `held` tell of those nobody here follows.

        What was learned is forgotten a few seconds later. Where the broker process does not answer,
        they tell of this worker's own.
        """
        listed: dict[str, tuple[Position, int | None]] = {}
        following = 0
        while True:
            try:
                _, _, found, following = await self._link.ask(frames.NAMES, following)
            except HubError:
                break
            listed |= {name: (Position(*head), held) for name, *head, held in found}
            if not following:
                break
        self._listed, self._listed_at = listed, self._clock()

    def names(self) -> Sequence[str]:
        """Of the channels this worker follows, and of those it has just learned of."""
        return tuple(self._channels | self._listed)

    def held(self, channel: str) -> tuple[Position, int | None] | None:
        """How far this worker has come in a channel, and how much of it is held where that was
        learned; None where it knows nothing of it."""
        followed, listed = self._channels.get(channel), self._listed.get(channel)
        if followed is None or followed.tracker.state is State.OPENING:
            return listed
        position = followed.tracker.position
        return position, listed[1] if listed is not None and listed[0] == position else None

    def impaired(self) -> Sequence[str]:
        return ()

    def problems(self) -> Sequence[str]:
        """Why the worker should get no traffic; empty when it should."""
        link = self._link
        if link.refusal:
            return (link.refusal,)
        if not link.is_up:
            return ("the broker process cannot be reached",)
        if link.unheard_seconds > DEAF_SECONDS:
            return (f"the broker process has been silent for {link.unheard_seconds:.0f} s",)
        return link.troubles

    def away(self) -> Sequence[str]:
        return self.problems()

    def record(self) -> BrokerRecord:
        link = self._link
        return BrokerRecord(
            servers=1,
            refusing_servers=int(not link.is_up),
            unwritable_servers=int(link.is_up and bool(link.troubles)),
            deaf_servers=int(link.unheard_seconds > DEAF_SECONDS),
            canary_age_seconds=link.unheard_seconds,
            canary_round_trip_seconds=link.round_trip_seconds,
            pending_calls=link.pending,
            filling_channels=sum(each.filling for each in self._channels.values()),
            held_bytes=self._hold.bytes,
            held_limit_bytes=self._hold.total_bytes,
            history_bytes=link.history_bytes,
            history_limit_bytes=link.history_limit_bytes,
        )

    # -- following channels ------------------------------------------------------------------

    def _on_up(self) -> None:
        if self._appeared is not None:
            self._spawn(self._follow_again(self._names or {}))
        for channel, followed in self._channels.items():
            self._ask_head(channel, followed, again=True)

    def _on_down(self) -> None:
        """Nobody waits for a head that was asked of a connection which has ended."""
        opening = [n for n, each in self._channels.items() if each.tracker.state is State.OPENING]
        for channel in opening:
            self._fail(channel, self._channels[channel], NoAnswerError("the broker process ended"))

    def _ask_head(self, channel: str, followed: _Followed, *, again: bool = False) -> None:
        def answered(answer: frames.Message | HubError) -> None:
            if self._channels.get(channel) is not followed:
                return
            if isinstance(answer, HubError):
                self._fail(channel, followed, answer)
                return
            _, _, epoch, offset = answer
            self._go_on(channel, followed, Position(epoch, offset))

        # After a reconnect all channels ask, however many there are.
        self._link.call((frames.SUBSCRIBE, channel), answered, lasts=again)

    def _fail(self, channel: str, followed: _Followed, error: HubError) -> None:
        if followed.tracker.state is not State.OPENING:
            # Without a head nothing would say what is missing.
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
        """The broker process delivers what follows `head` from now on."""
        tracker, followed.epoch = followed.tracker, head.epoch
        if tracker.state is State.OPENING:
            tracker.open(head)
            followed.opened()
            return
        if tracker.epoch == head.epoch and self._namespaces.options(channel).presence:
            # Joins and leaves have no offsets: what came meanwhile is asked for.
            self._downstream.announce(channel, PresenceReset(channel))
        tracker.confirm(head)
        self._fill_if_behind(channel, followed)

    def _forget(self, channel: str) -> bool:
        if (followed := self._channels.pop(channel, None)) is None:
            return False
        followed.tracker.let_go()
        return True

    def _on_deliver(self, message: frames.Message) -> None:
        publication = Publication(*message[1:])
        channel, offset = publication.channel, publication.offset
        if (followed := self._channels.get(channel)) is None:
            return
        self._counters.broker_received += 1
        tracker = followed.tracker
        if tracker.state is State.LIVE and offset == tracker.offset + 1:
            tracker.offset = offset
            self._downstream.deliver(publication)
        elif tracker.state is not State.OPENING:
            held = Held(followed.epoch, offset, publication, len(publication.data))
            self._carry_out(channel, tracker.receive(held))
            self._fill_if_behind(channel, followed)

    def _on_lost(self, message: frames.Message) -> None:
        """The broker itself lost a range."""
        _, channel, epoch, first, last, reason, unsequenced = message
        followed = self._channels.get(channel)
        if followed is None or followed.tracker.state is State.OPENING:
            return
        tracker = followed.tracker
        if tracker.state is State.LIVE and epoch == tracker.epoch and first == tracker.offset + 1:
            tracker.offset = last
            gap = Gap(channel, epoch, first, last, GapReason(reason), unsequenced)
            self._downstream.lost(gap)
        else:
            tracker.confirm(Position(epoch, last))
            self._fill_if_behind(channel, followed)

    def _on_reset(self, message: frames.Message) -> None:
        """The broker itself began another epoch."""
        _, channel, epoch, offset = message
        followed = self._channels.get(channel)
        if followed is not None and followed.tracker.state is not State.OPENING:
            self._go_on(channel, followed, Position(epoch, offset))

    def _on_announce(self, message: frames.Message) -> None:
        _, channel, name, *who = message
        change = (
            PresenceReset(channel) if name is None else frames.CHANGES[name](channel, Member(*who))
        )
        if channel in self._channels:
            self._downstream.announce(channel, change)

    def _fill_if_behind(self, channel: str, followed: _Followed) -> None:
        if followed.tracker.state is State.FILLING and not followed.filling:
            followed.filling = True
            self._counters.broker_holes += 1
            self._spawn(self._fill(channel, followed))

    async def _fill(self, channel: str, followed: _Followed) -> None:
        """Read what is missing; a connection that ends meanwhile begins it again."""
        tracker = followed.tracker
        try:
            while tracker.state is State.FILLING and self._channels.get(channel) is followed:
                async with self._reads:
                    after = tracker.ask()
                    page = await self._try_page(channel, after)
                if page is None:
                    await asyncio.sleep(_RETRY_SECONDS)
                elif self._channels.get(channel) is followed:
                    self._carry_out(channel, tracker.on_page(page))
        finally:
            followed.filling = False

    async def _try_page(self, channel: str, after: int) -> Page | None:
        try:
            page = await self._page(channel, after, _PAGE_PUBLICATIONS, PAGE_BYTES)
        except HubError:
            return None
        messages = [
            Held(page.head.epoch, each.offset, each, len(each.data)) for each in page.publications
        ]
        complete = not messages or page.last == page.head.offset
        self._counters.broker_filled += len(messages)
        return Page(page.head, page.oldest, messages, complete=complete)

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


def _outcome(told: Sequence[Any]) -> PublishResult | HubError:
    if len(told) == 2:
        return errors.of_code(*told)
    epoch, offset, duplicate = told
    return PublishResult(Position(epoch, offset), duplicate=duplicate)
