"""The broker as a worker sees it: implements `hub.core.ports.Broker` over a `WorkerLink`.

The connection carries everything once and in order, so nothing is missing while it lasts. After
each reconnect a worker reads from history the publications that came while the connection was down,
and announces those that history does not hold (`hub.brokers.local.followed`). A broker process that
has begun anew has other epochs, so every channel that kept its history in that process' memory gets
a `reset`.

`LocalDirectory` knows the channels of the broker process. For patterns it asks each time, and hears
of each channel that appears. For operators' lists it asks when they look.
"""

from asyncio import Future, get_running_loop
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any

from hub import errors
from hub.brokers.local import frames
from hub.brokers.local.followed import FollowedChannels, read_page
from hub.brokers.local.link import (
    DEAF_SECONDS,
    NoAnswerError,
    NotSentError,
    WorkerLink,
    set_outcome,
)
from hub.brokers.tracker import HoldBudget, TrackerState, once_reached
from hub.core.counters import Counters
from hub.core.node_records import BrokerRecord
from hub.core.options import MIB, Namespaces
from hub.core.ports import (
    PAGE_BYTES,
    Appearances,
    Downstream,
    HistoryPage,
    Monotonic,
    OnOpen,
    OnPublished,
    PublishRequest,
    PublishResult,
    Spawn,
    StatePage,
)
from hub.core.publication import Position
from hub.errors import HubError, NotPublishedError, OutcomeUnknownError, UnavailableError

# Operators look at several pages of a list.
_LISTED_SECONDS = 4.0


class LocalDirectory:
    """One per worker."""

    def __init__(self, link: WorkerLink, *, clock: Monotonic) -> None:
        self._link = link
        self._clock = clock
        self.listed: Mapping[str, tuple[Position, int | None]] = {}
        """Heads, and how many publications are held, by channel, as `look` has learned them."""
        self.rows: Mapping[str, tuple[int, int]] = {}
        """Rows and their bytes, by keyed channel, as `look` has learned them."""
        self._listed_at = 0.0
        self._appearances: Appearances | None = None
        link.on(frames.APPEARED, self._on_appeared)
        link.on(frames.MISSED, self._on_missed)
        link.on_up(self._on_up)

    def sweep(self) -> None:
        if self.listed and self._clock() - self._listed_at > _LISTED_SECONDS:
            self.listed, self.rows = {}, {}

    def follow(self, appearances: Appearances) -> None:
        """Tell of each channel that appears; its first publication is in history by then."""
        if self._appearances is None:
            self._link.send((frames.FOLLOW,))
        self._appearances = appearances

    def unfollow(self) -> None:
        self._appearances = None
        self._link.send((frames.UNFOLLOW,))

    async def matching(self, pattern: str, most: int) -> Sequence[str]:
        """Raise `UnavailableError` without a broker process."""
        try:
            _, _, found = await self._link.ask(frames.MATCH, pattern, most)
        except (NotSentError, NoAnswerError) as error:
            raise UnavailableError(f"no list of channels: {error.message}") from None
        return tuple(found)

    def _on_up(self) -> None:
        if self._appearances is not None:
            self._link.send((frames.FOLLOW,))
            self._appearances.missed()

    def _on_appeared(self, message: frames.Message) -> None:
        if self._appearances is not None:
            self._appearances.appeared(message[1])

    def _on_missed(self, _message: frames.Message) -> None:
        if self._appearances is not None:
            self._appearances.missed()

    async def look(self) -> None:
        """Learn of all channels, so that `listed` has those that no session here follows.

        It is forgotten a few seconds later, and stays empty where the broker
        process does not answer.
        """
        listed: dict[str, tuple[Position, int | None]] = {}
        rows: dict[str, tuple[int, int]] = {}
        following = 0
        while True:
            try:
                _, _, found, following = await self._link.ask(frames.NAMES, following)
            except HubError:
                break
            listed |= {name: (Position(*head), held) for name, *head, held, _ in found}
            rows |= {name: tuple(told) for name, *_, told in found if told is not None}
            if not following:
                break
        self.listed, self.rows, self._listed_at = listed, rows, self._clock()


# Bounds of what one channel holds while earlier publications are read, as over Redis.
_HOLD_MESSAGES = 10_000
_HOLD_BYTES = MIB


class LocalBroker:
    """One per worker. `start` before, `stop` after use.

    Args:
        downstream: gets each publication of a subscribed channel once and in order, and every
            range that is lost.
        hold_total_bytes: bytes that all channels may hold while earlier publications are read.
    """

    answers_at_once = True
    """A call leaves in the turn of the loop that makes it; a task is needed only to wait."""
    publish_now = None
    publish_many_now = None

    def __init__(
        self,
        link: WorkerLink,
        *,
        downstream: Downstream,
        namespaces: Namespaces,
        spawn: Spawn,
        clock: Monotonic,
        counters: Counters,
        hold_total_bytes: int,
    ) -> None:
        self._link = link
        self._spawn = spawn
        self._hold = HoldBudget(
            channel_messages=_HOLD_MESSAGES,
            channel_bytes=_HOLD_BYTES,
            total_bytes=hold_total_bytes,
            counters=counters,
        )
        self._together: list[OnPublished] = []
        """Those who are told of the last call that publishes."""
        self._directory = LocalDirectory(link, clock=clock)
        self._followed = FollowedChannels(
            link,
            downstream=downstream,
            namespaces=namespaces,
            spawn=spawn,
            counters=counters,
            hold=self._hold,
        )

    async def start(self) -> None:
        """Begin to connect; without a broker process it returns too, and `problems` says so."""
        self._spawn(self._link.run())

    async def stop(self) -> None:
        self._link.stop()

    def sweep(self) -> None:
        self._link.sweep()
        self._directory.sweep()

    # -- hub.core.ports.Broker ---------------------------------------------------------------

    async def publish(self, request: PublishRequest) -> PublishResult:
        """Number, keep and deliver; calls of one worker keep their order."""
        future: Future[PublishResult] = get_running_loop().create_future()
        self.publish_soon(request, partial(set_outcome, future))
        return await future

    def publish_soon(self, request: PublishRequest, on_done: OnPublished) -> None:
        """As `publish`. Those that leave one behind the other in a turn are one call."""
        written = frames.written(request)
        try:
            if self._link.join(frames.PUBLISH, written):
                self._together.append(on_done)
            else:
                self._publish([written], [on_done])
        except NotSentError as error:
            raise _not_published(error) from None

    def _publish(self, written: list[bytes], together: list[OnPublished]) -> None:
        answered = partial(_publish_answered, together)
        self._link.call((frames.PUBLISH, written), answered, sum(map(len, written)))
        self._together = together

    async def publish_many(
        self, requests: Sequence[PublishRequest]
    ) -> Sequence[PublishResult | HubError]:
        """As `publish` for each, in their order and in one call."""
        if not requests:
            return []
        future: Future[None] = get_running_loop().create_future()
        outcomes: list[PublishResult | HubError] = []

        def done(outcome: PublishResult | HubError) -> None:
            outcomes.append(outcome)
            if len(outcomes) == len(requests) and not future.done():
                future.set_result(None)

        try:
            self._publish(list(map(frames.written, requests)), [done] * len(requests))
        except NotSentError as error:
            return [_not_published(error) for _ in requests]
        await future
        return outcomes

    async def subscribe(self, channel: str, on_open: OnOpen) -> None:
        """Deliver the channel from now on; raise `UnavailableError` without a broker process."""
        await self._followed.subscribe(channel, on_open)

    def unsubscribe(self, channel: str) -> None:
        self._followed.unsubscribe(channel)

    async def history(
        self, channel: str, after: int, limit: int, *, max_bytes: int = PAGE_BYTES
    ) -> HistoryPage:
        """Return a page; raise `UnavailableError` without a broker process."""

        async def read() -> HistoryPage:
            try:
                return await read_page(self._link, channel, after, limit, max_bytes)
            except (NotSentError, NoAnswerError) as error:
                raise UnavailableError(f"no history of {channel!r}: {error.message}") from None

        return await once_reached(
            read, lambda: self._followed.tracker(channel), what=f"history of {channel!r}"
        )

    async def state(
        self,
        channel: str,
        after: str,
        limit: int,
        *,
        upto: int | None = None,
        max_bytes: int = PAGE_BYTES,
    ) -> StatePage:
        """Return a page of rows; raise `UnavailableError` without a broker process."""

        async def read() -> StatePage:
            try:
                answer = await self._link.ask(frames.STATE, channel, after, limit, upto, max_bytes)
            except (NotSentError, NoAnswerError) as error:
                raise UnavailableError(f"no state of {channel!r}: {error.message}") from None
            _, _, epoch, offset, following, dropped, found = answer
            rows = tuple(map(frames.read_publication, found))
            return StatePage(Position(epoch, offset), rows, following, dropped)

        return await once_reached(
            read, lambda: self._followed.tracker(channel), what=f"state of {channel!r}"
        )

    async def clear(self, channel: str) -> None:
        """Raise `UnavailableError` without a broker process."""
        try:
            await self._link.ask(frames.CLEAR, channel)
        except (NotSentError, NoAnswerError) as error:
            raise UnavailableError(f"history is not cleared: {error.message}") from None

    # -- hub.core.ports.Directory --------------------------------------------------------------

    def follow(self, appearances: Appearances) -> None:
        """Tell of each channel that appears; its first publication is in history by then."""
        self._directory.follow(appearances)

    def unfollow(self) -> None:
        self._directory.unfollow()

    async def matching(self, pattern: str, most: int) -> Sequence[str]:
        """Raise `UnavailableError` without a broker process."""
        return await self._directory.matching(pattern, most)

    def expect(self, channels: Sequence[str]) -> None:
        """Do nothing: calls one after another are answered soon enough."""

    async def look(self) -> None:
        """Learn of all channels, also of those that no session here follows."""
        await self._directory.look()

    # -- this worker's knowledge -------------------------------------------------------------

    def names(self) -> Sequence[str]:
        """Return the channels this worker follows, and those it has just learned of."""
        return tuple(dict.fromkeys((*self._followed.names(), *self._directory.listed)))

    def held(self, channel: str) -> tuple[Position, int | None] | None:
        """Return this worker's position in a channel, and how much of it is held where that was
        learned; None for an unknown channel."""
        tracker, listed = self._followed.tracker(channel), self._directory.listed.get(channel)
        if tracker is None or tracker.state is TrackerState.OPENING:
            return listed
        position = tracker.position
        return position, listed[1] if listed is not None and listed[0] == position else None

    def rows_held(self, channel: str) -> tuple[int, int] | None:
        """Return how many rows a keyed channel has, and their bytes, where that was learned."""
        return self._directory.rows.get(channel)

    def impaired(self) -> Sequence[str]:
        return ()

    def problems(self) -> Sequence[str]:
        """Return why the worker should get no traffic; empty when it should."""
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
            filling_channels=self._followed.filling,
            held_bytes=self._hold.bytes,
            held_limit_bytes=self._hold.total_bytes,
            history_bytes=link.history_bytes,
            history_limit_bytes=link.history_limit_bytes,
            state_rows=link.state_rows,
            state_row_bytes=link.state_row_bytes,
        )


def _not_published(error: NotSentError) -> NotPublishedError:
    return NotPublishedError(f"not published: {error.message}")


def _publish_answered(together: Sequence[OnPublished], answer: frames.Message | HubError) -> None:
    """Tell each of its outcome, in the order in which they published.

    A fault of one of them is raised when all are told.
    """
    if isinstance(answer, NoAnswerError):
        why = f"it is not known whether it was published: {answer.message}"
        answer = OutcomeUnknownError(why)
    outcomes: Iterable[PublishResult | HubError]
    if isinstance(answer, HubError):
        # A copy for each: several may raise theirs at the same time.
        outcomes = map(copy, [answer] * len(together))
    else:
        outcomes = map(_outcome, answer[2])
    fault: Exception | None = None
    for on_done, outcome in zip(together, outcomes, strict=True):
        try:
            on_done(outcome)
        except Exception as error:  # noqa: BLE001 - raised again
            fault = error
    if fault is not None:
        raise fault


def _outcome(told: Sequence[Any]) -> PublishResult | HubError:
    if len(told) == 2:
        return errors.of_code(*told)
    epoch, offset, duplicate = told
    return PublishResult(Position(epoch, offset), duplicate)
