"""The bounded queue between the connection and one `async for`, and the subscription's handle.

The queue drops nothing. A full queue stops the reading of the connection, so that the hub's outbox
fills; the hub then decides by the channel's overflow policy and announces each loss. Every
subscription of the client waits with it, so consume all of them. While a command waits for its
reply, reading goes on up to `OVERFULL` times the limits, so that a command inside the loop does not
wait for itself.
"""

import asyncio
import inspect
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from hub_client import frames
from hub_client.channel import SubscribedChannel
from hub_client.joining import Joiner, behind, join_page
from hub_client.messages import Gap, HistoryPage, Item, Message, Position, Presence, State
from hub_client.pattern import Pattern

ItemT_co = TypeVar("ItemT_co", bound=Item, covariant=True)
OnGap = Callable[[Gap], Awaitable[None] | None]
OVERFULL = 8
# A replay that is to be joined and pauses for this long is told as far as it came. Guess.
JOIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class FeedLimits:
    """The bounds of each subscription's queue."""

    max_items: int = 1000
    """The default equals that of the hub's outbox."""
    max_bytes: int = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class FeedStatistics:
    waiting: int
    waiting_bytes: int
    duplicates: int
    """Messages that came again after a resume and were dropped."""


class Feed:
    """The items that one subscription has not consumed yet."""

    def __init__(
        self, channel: SubscribedChannel | Pattern, *, limits: FeedLimits, joined: bool = False
    ) -> None:
        """Raise `ValueError` for a `joined` feed of a channel with a filter or with state."""
        if (
            joined
            and isinstance(channel, SubscribedChannel)
            and (channel.state or channel.filter is not None)
        ):
            # A filter may leave the last message out, so nothing would tell where the replay ends.
            raise ValueError("joined goes without filter and state")
        self.channel = channel
        self._joiner = Joiner() if joined else None
        self._pause: asyncio.TimerHandle | None = None
        self.on_room: Callable[[], None] = lambda: None
        """The feed calls it when the application has taken an item."""
        self.started = asyncio.Event()
        self.given: object = None
        """The data that the application gave with the newest start."""
        self.abandoned = False
        """Whether the handle is gone; any thread may set it when the handle is collected."""
        self._limits = limits
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._ended = False
        self._error: Exception | None = None

    def holds(self, times: int) -> bool:
        """Return whether `times` the limits are reached; an abandoned feed holds nothing up."""
        if self._ended or self.abandoned:
            return False
        limits = self._limits
        return len(self._items) >= limits.max_items * times or (
            self._bytes >= limits.max_bytes * times
        )

    def starts(self, start: Position, replayed: int) -> None:
        """A connection begins at `start`, and `replayed` offsets follow from history."""
        if self._joiner is not None:
            self._joiner.starts(start, replayed)

    def put(self, items: tuple[Item, ...]) -> None:
        if self._joiner is not None:
            items = self._joined(self._joiner, items)
        self._put(items)

    def _joined(self, joiner: Joiner, items: tuple[Item, ...]) -> tuple[Item, ...]:
        told = joiner.push(items)
        self._stop_pause()
        if joiner.waits:
            self._pause = asyncio.get_running_loop().call_later(JOIN_SECONDS, self._cut)
        return told

    def _stop_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _cut(self) -> None:
        """Hand over a replay that does not go on, as far as it came."""
        self._stop_pause()
        if self._joiner is not None:
            self._put(self._joiner.cut())

    def _put(self, items: tuple[Item, ...]) -> None:
        if not items:
            return
        self._items.extend(items)
        self._bytes += sum(len(item.frame) for item in items)
        self._arrived.set()

    async def get(self) -> Item:
        """Return the next item; after the last one raise the error that ended the feed."""
        while not self._items:
            if self._ended:
                raise self._error or StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        item = self._items.popleft()
        self._bytes -= len(item.frame)
        self.on_room()
        return item

    def end(self, error: Exception | None = None) -> None:
        """End the feed: waiting items are still read, then `error` is raised."""
        self._cut()
        if not self._ended:
            self._ended, self._error = True, error
        self._arrived.set()
        self.started.set()
        self.on_room()

    def reopen(self) -> None:
        """Go on: the client that was closed is connected again."""
        self._ended, self._error = False, None
        self.started.clear()

    @property
    def error(self) -> Exception | None:
        return self._error

    def statistics(self) -> FeedStatistics:
        return FeedStatistics(len(self._items), self._bytes, self.channel.duplicates)


GetState = Callable[[], Awaitable[Mapping[str, Any]] | Mapping[str, Any]]
"""A function that returns the application's state as of a position: `{"data": ..., "position":
...}`."""
ReadHistory = Callable[[str, Position], Awaitable[HistoryPage]]


@dataclass(frozen=True, slots=True)
class WantedItems:
    """The kinds of items that the application wants to see in its iteration."""

    gaps: bool = False
    presence: bool = False
    on_gap: OnGap | None = None
    get_state: GetState | None = None
    joined: bool = False


class Subscription(Generic[ItemT_co]):
    """Messages of one channel, in order: `async for message in subscription`.

    The messages of a pattern are in order within each channel. A subscription begins when it is
    made, and ends with `close()`, at the end of `async with`, or when the object is garbage: `async
    for ... in hub.subscribe(...)` with a `break` needs no clean-up. A cancelled wait for the next
    message loses nothing; a wait that is cancelled within `on_gap` calls it again with the same
    gap. One task iterates.
    """

    def __init__(
        self,
        feed: Feed,
        wanted: WantedItems,
        *,
        release: Callable[[Feed], None],
        trouble: Callable[[], str],
        history: ReadHistory,
    ) -> None:
        self._feed = feed
        self._wanted = wanted
        self._release = release
        self._trouble = trouble
        self._positions: dict[str, Position] = {}
        """Positions by channel, behind the last item taken."""
        self._history = history
        self._begun = wanted.get_state is None
        self._behind: Position | None = None
        """The position behind which the stream goes on while state is asked for the part before."""
        self._first: deque[Item] = deque()
        """The items that come before all those in the queue."""
        self._read = False
        """Whether the last item was one of these: a gap there is one that state did not mend."""
        self._known = Position("", 0)
        """The position up to which state or history has told everything."""
        self._held: Item | None = None
        """The item that is taken and not handed over, while `on_gap` works on it."""

    @property
    def channel(self) -> str:
        """The name of its channel, or its pattern."""
        return self._feed.channel.name

    @property
    def position(self) -> Position | None:
        """The position behind the last item taken from the iteration, to be saved and passed as
        `since`.

        A pattern has `positions` instead.
        """
        return self._positions.get(self.channel, self._feed.channel.since)

    @property
    def positions(self) -> Mapping[str, Position]:
        """The position of each channel, also of one that has brought no message yet."""
        return {**self.starts, **self._positions}

    @property
    def starts(self) -> Mapping[str, Position]:
        """The position at which the subscription began, by channel."""
        places = tuple(self._feed.channel.all_places())
        return {each.name: each.start for each in places if each.start is not None}

    @property
    def data(self) -> Any:
        """The data that the application gave when the subscription last started; None where it gave
        none."""
        return self._feed.given

    def statistics(self) -> FeedStatistics:
        return self._feed.statistics()

    async def wait_started(self, *, timeout_seconds: float | None = 10.0) -> None:
        """Return once the hub carries the subscription.

        Raises:
            TimeoutError: The hub did not answer within `timeout_seconds` (None: no limit).
            HubClientError: The hub refused.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._feed.started.wait()
        except TimeoutError:
            text = f"no subscription to {self.channel!r} in {timeout_seconds:g} seconds"
            trouble = self._trouble()
            raise TimeoutError(f"{text}: {trouble}" if trouble else text) from None
        if self._feed.error is not None:
            raise self._feed.error

    def __aiter__(self) -> "Subscription[ItemT_co]":
        return self

    async def __anext__(self) -> ItemT_co:
        while True:
            if self._held is None:
                self._held = await self._next()
            item = self._held
            if isinstance(item, Gap):
                await self._report(item)
                mends = self._wanted.get_state is not None and not self._read
                if mends and item.reason != "conflated":
                    self._behind = item.position
            self._held = None
            if (place := position_after(item)) is not None:
                self._positions[item.channel] = place
            if self._shows(item):
                # `_shows` lets through exactly what the overloads of subscribe promise.
                return cast("ItemT_co", item)

    async def _next(self) -> Item:
        if not self._begun:
            await self._feed.started.wait()
            self._begun = True
            self._behind = self._feed.channel.start if self._feed.error is None else None
        if self._behind is not None and self._wanted.get_state is not None:
            await self._sync(self._wanted.get_state, self._behind)
        self._read = bool(self._first)
        if self._first:
            return self._first.popleft()
        while True:
            item = await self._feed.get()
            place = position_after(item)
            known = self._known
            if place is None or place.epoch != known.epoch:
                return item
            if place.offset > known.offset:
                return behind(item, known.offset)

    async def _sync(self, get_state: GetState, behind: Position) -> None:
        """Ask the application for its state, and history for the messages between it and the
        stream.

        Where history lacks some of them, the application is asked once more, a little later.
        Messages that history still lacks when the state has the same position again are a gap.
        """
        before = None
        while True:
            told = get_state()
            state = await told if inspect.isawaitable(told) else told
            if not isinstance(state, Mapping) or not {"data", "position"} <= state.keys():
                text = 'expected {"data": ..., "position": "epoch:offset"}'
                raise ValueError(f"get_state answered {state!r:.100}, {text}")
            place = Position.parse(str(state["position"]))
            data = frames.encode(state["data"])
            message = Message(self.channel, place.epoch, None, data, state=True, at=place)
            if place.epoch != behind.epoch:
                place = Position(behind.epoch, 0)
            between = await self._between(place, behind)
            whole = between is not None and not any(isinstance(each, Gap) for each in between)
            if between is not None and (whole or place == before):
                break
            before = place
            await asyncio.sleep(random.uniform(1, 3))
        self._behind = None
        self._known = max(place, behind, key=lambda each: each.offset)
        self._first.extend([message, *(join_page(between) if self._wanted.joined else between)])

    async def _between(self, place: Position, last: Position) -> list[Item] | None:
        """Return the messages behind `place` up to `last`, with gaps where history has none.

        Returns None where another epoch has begun.
        """
        found: list[Item] = []
        at = place.offset
        while at < last.offset:
            page = await self._history(self.channel, Position(last.epoch, at))
            if page.position.epoch != last.epoch:
                return None
            held = [each for each in page.messages if at < (each.offset or 0) <= last.offset]
            for each in held:
                found += self._hole(last.epoch, at + 1, (each.offset or 0) - 1)
                found.append(each)
                at = each.offset or 0
            if not held:
                found += self._hole(last.epoch, at + 1, last.offset)
                break
        return found

    def _hole(self, epoch: str, first: int, last: int) -> list[Gap]:
        return [Gap(self.channel, epoch, first, last, "expired")] if first <= last else []

    def _shows(self, item: Item) -> bool:
        if isinstance(item, Gap):
            return self._wanted.gaps
        return self._wanted.presence if isinstance(item, Presence) else True

    async def _report(self, gap: Gap) -> None:
        if self._wanted.on_gap is None:
            return
        outcome = self._wanted.on_gap(gap)
        if inspect.isawaitable(outcome):
            await outcome

    def close(self) -> None:
        """Unsubscribe and drop the waiting items. It is harmless when called twice."""
        self._feed.abandoned = True
        self._release(self._feed)

    async def __aenter__(self) -> "Subscription[ItemT_co]":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # The collector may run this in any thread: the release itself waits for the loop.
        if not self._feed.abandoned:
            self._feed.abandoned = True
            self._release(self._feed)


def position_after(item: Item) -> Position | None:
    if isinstance(item, Presence) or (isinstance(item, Gap) and not _moves(item)):
        return None
    if isinstance(item, State) and item.more:
        return None
    return item.position


def _moves(gap: Gap) -> bool:
    return gap.reason == "reset" or gap.last > 0
