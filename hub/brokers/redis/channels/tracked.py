"""The channels of one server that this node listens to, each with its tracker.

A caller that asks for a channel waits until it is open; a channel that no caller needs any more is
kept for `linger_seconds`, because a page that is loaded again comes back to it.

Beside a channel's own pub/sub name the node listens to `hub:raw:<channel>`, where the namespace
allows it, for plain PUBLISH of any Redis client. Such publications have no offset:
they are not numbered or kept, and the loss of one on its way here does not show.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hub.brokers.redis.link.outcomes import RedisNotSentError
from hub.brokers.redis.link.pubsub import PubSub
from hub.brokers.redis.options import ShardContext
from hub.brokers.tracker import Tracker, TrackerState
from hub.core.ports import OnOpen
from hub.core.publication import Position, Publication
from hub.core.pushes import Gap, GapReason
from hub.errors import HubError
from hub.wire.payload import check_payload


@dataclass(slots=True)
class _Tracked:
    """A channel that this node listens to."""

    tracker: Tracker
    callers: dict[asyncio.Future[None], OnOpen] = field(default_factory=dict)
    """Callers that wait for its head."""
    end: asyncio.TimerHandle | None = None
    """A timer that forgets the channel, while no caller needs it."""

    async def wait(self, on_open: OnOpen) -> None:
        """Return once the channel is open; a cancelled caller is forgotten."""
        done = asyncio.get_running_loop().create_future()
        self.callers[done] = on_open
        try:
            await done
        finally:
            del self.callers[done]

    def opened(self) -> None:
        """Give one of the callers the head, then let all of them go on."""
        living = [pair for pair in self.callers.items() if not pair[0].done()]
        if living:
            living[0][1](self.tracker.position)
        for done, _ in living:
            done.set_result(None)

    def fail(self, error: Exception) -> None:
        """Fail the callers: the channel will not be opened here."""
        for done in self.callers:
            if not done.done():
                done.set_exception(error)

    def stay(self) -> None:
        """Stop the timer: a caller needs the channel."""
        if self.end is not None:
            self.end.cancel()
            self.end = None


class TrackedChannels:
    """The channels of one server that this node listens to.

    Args:
        pubsub: subscribes to the wanted pub/sub channels.
        check_up: raises `RedisCallError` while no head can be read.
    """

    def __init__(
        self, context: ShardContext, *, pubsub: PubSub, check_up: Callable[[], None]
    ) -> None:
        self._context = context
        self._options = context.options
        self._pubsub = pubsub
        self._check_up = check_up
        self._tracked: dict[bytes, _Tracked] = {}
        """Tracked channels by pub/sub channel."""
        self._raw: dict[bytes, str] = {}
        """Channels by the pub/sub channel of their unsequenced publications."""

    def __len__(self) -> int:
        return len(self._tracked)

    def stop(self) -> None:
        """Stop all timers, and hold no message any more."""
        for tracked in self._tracked.values():
            tracked.stay()
            tracked.tracker.let_go()

    def find(self, name: bytes) -> Tracker | None:
        """Return the tracker of a pub/sub channel."""
        tracked = self._tracked.get(name)
        return None if tracked is None else tracked.tracker

    def tracker(self, channel: str) -> Tracker | None:
        return self.find(self._name(channel))

    def trackers(self) -> Iterator[Tracker]:
        """Yield the trackers of now; channels may come and go between two of them."""
        return (tracked.tracker for tracked in tuple(self._tracked.values()))

    def is_current(self, tracker: Tracker) -> bool:
        """Return whether it is still the tracker of its channel."""
        return self.tracker(tracker.channel) is tracker

    def opened(self, tracker: Tracker) -> None:
        """Give the head, which has just become known, to the callers that wait for it."""
        self._tracked[self._name(tracker.channel)].opened()

    # -- callers -----------------------------------------------------------------------------

    async def subscribe(self, channel: str, on_open: OnOpen) -> None:
        """Call `on_open` with the head, and hand on the publications that follow.

        Raises `RedisCallError` when Redis is away, `TimeoutError` when it takes too long.
        """
        name = self._name(channel)
        tracked = self._tracked.get(name)
        if tracked is None:
            self._check_up()
            tracked = self._listen(name, channel)
        tracked.stay()
        tracker = tracked.tracker
        tracker.muted = False
        if tracker.state is not TrackerState.OPENING:
            on_open(tracker.position)
            return
        try:
            async with asyncio.timeout(self._options.subscribe_timeout_seconds):
                await tracked.wait(on_open)
        finally:
            if (
                tracker.state is TrackerState.OPENING
                and not tracked.callers
                and self.is_current(tracker)
            ):
                self._forget(name)

    def expect(self, channel: str) -> None:
        """Begin to listen for a caller that comes within `linger_seconds`.

        Raises `RedisCallError` when Redis is away.
        """
        name = self._name(channel)
        if name not in self._tracked:
            self._check_up()
            self._listen(name, channel)
            self.unsubscribe(channel)

    def unsubscribe(self, channel: str) -> None:
        """Stop listening, unless a caller comes back within `linger_seconds`."""
        name = self._name(channel)
        tracked = self._tracked.get(name)
        if tracked is not None and tracked.end is None:
            tracked.tracker.muted = True
            loop = asyncio.get_running_loop()
            tracked.end = loop.call_later(self._options.linger_seconds, self._forget, name)

    # -- channels that move between servers --------------------------------------------------

    def give(self, tracker: Tracker) -> Position | None:
        """Stop listening to a channel that lives elsewhere now; return where `take` goes on there.

        Returns None for a channel that no session has, or that was not open yet: callers may try
        again.
        """
        name = self._name(tracker.channel)
        tracked = self._tracked[name]
        goes_on = tracker.state is not TrackerState.OPENING and tracked.end is None
        tracked.fail(RedisNotSentError(f"{tracker.channel!r} has moved"))
        self._forget(name)
        # A page that is still being read for it here is not for delivery.
        tracker.muted = True
        return tracker.position if goes_on else None

    def take(self, channel: str, position: Position) -> None:
        """Go on after `position`: later publications are read from history, or announced as
        lost."""
        name = self._name(channel)
        if name not in self._tracked:
            self._listen(name, channel).tracker.open(position)

    # -- listening ---------------------------------------------------------------------------

    def _listen(self, name: bytes, channel: str) -> _Tracked:
        tracked = self._tracked[name] = _Tracked(Tracker(channel, self._context.hold_budget))
        if self._context.namespaces.options(channel).allow_raw:
            raw_name = self._options.keys.raw(channel).encode()
            self._raw[raw_name] = channel
            self._pubsub.add(raw_name)
        self._pubsub.add(name)
        return tracked

    def _forget(self, name: bytes) -> None:
        if (tracked := self._tracked.pop(name, None)) is None:
            return
        tracked.stay()
        tracked.tracker.let_go()
        self._pubsub.remove(name)
        raw_name = self._options.keys.raw(tracked.tracker.channel).encode()
        if self._raw.pop(raw_name, None) is not None:
            self._pubsub.remove(raw_name)

    def _name(self, channel: str) -> bytes:
        return self._options.keys.stem(channel).encode()

    # -- unsequenced publications ------------------------------------------------------------

    def receive_raw(self, name: bytes, raw: bytes) -> None:
        """Deliver a message of the pub/sub channel `name`, or announce that it cannot be
        delivered."""
        context = self._context
        if (channel := self._raw.get(name)) is None:
            return
        context.counters.broker_raw += 1
        tracker = self._tracked[self._name(channel)].tracker
        if tracker.muted or tracker.state is TrackerState.OPENING:
            return
        try:
            data = check_payload(raw, limit=self._options.max_message_bytes)
        except HubError:
            context.counters.broker_raw_refused += 1
            context.downstream.lost(Gap(channel, tracker.epoch, 0, 0, GapReason.INVALID, 1))
            return
        time_ms = int(context.wall_clock() * 1000)
        context.downstream.deliver(Publication(channel, 0, data, time_ms))
