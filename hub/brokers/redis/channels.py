"""The channels of one server that this node listens to, each with its tracker.

Who asks for one waits until it is open; whom nobody asks for any more is kept for a moment.
"""

import asyncio
from collections.abc import Callable, Sequence

from hub.brokers.redis.failures import NotSentError
from hub.brokers.redis.listeners import Listening
from hub.brokers.redis.openings import Openings
from hub.brokers.redis.raw import RawChannels
from hub.brokers.redis.surroundings import Surroundings
from hub.brokers.redis.tracking import State, Tracker
from hub.core.ports import OnOpen
from hub.core.publication import Position


class ShardChannels:
    """One per server.

    Args:
        subscriber: is told which pub/sub channels are wanted.
        check_up: raises `CallError` while nobody could be told a channel's head.
    """

    def __init__(
        self, around: Surroundings, *, subscriber: Listening, check_up: Callable[[], None]
    ) -> None:
        self._options = around.options
        self._room = around.room
        self._subscriber = subscriber
        self._check_up = check_up
        self._trackers: dict[bytes, Tracker] = {}
        """By pub/sub channel."""
        self._leaving: dict[bytes, asyncio.TimerHandle] = {}
        self._openings = Openings()
        self.raw = RawChannels(around, subscriber=subscriber, epoch=self._open_epoch)

    def __len__(self) -> int:
        return len(self._trackers)

    def stop(self) -> None:
        """Wait for nothing any more, and hold nothing."""
        for timer in self._leaving.values():
            timer.cancel()
        for tracker in self._trackers.values():
            tracker.let_go()

    def find(self, name: bytes) -> Tracker | None:
        """The tracker of a pub/sub channel."""
        return self._trackers.get(name)

    def tracker(self, channel: str) -> Tracker | None:
        return self._trackers.get(self._name(channel))

    def trackers(self) -> Sequence[Tracker]:
        return tuple(self._trackers.values())

    def is_current(self, tracker: Tracker) -> bool:
        """Whether it is still the one of its channel."""
        return self.tracker(tracker.channel) is tracker

    def opened(self, tracker: Tracker) -> None:
        """Its head has just become known: tell who waits for it."""
        self._openings.opened(tracker)

    # -- who wants a channel -----------------------------------------------------------------

    async def subscribe(self, channel: str, on_open: OnOpen) -> None:
        """Call `on_open` with the head, and hand on what follows.

        Raises `CallError` when Redis is away, `TimeoutError` when it takes too long.
        """
        name = self._name(channel)
        self._stay(name)
        tracker = self._trackers.get(name)
        if tracker is not None and tracker.state is not State.OPENING:
            tracker.muted = False
            on_open(tracker.position)
            return
        if tracker is None:
            self._check_up()
            tracker = self._listen(name, channel)
        try:
            async with asyncio.timeout(self._options.subscribe_timeout_seconds):
                await self._openings.wait(tracker, on_open)
        finally:
            if tracker.state is State.OPENING and not self._openings.waits(tracker):
                self._forget(name)

    def unsubscribe(self, channel: str) -> None:
        """Stop listening, unless somebody comes back within `linger_seconds`."""
        name = self._name(channel)
        if name in self._trackers and name not in self._leaving:
            self._trackers[name].muted = True
            loop = asyncio.get_running_loop()
            self._leaving[name] = loop.call_later(self._options.linger_seconds, self._forget, name)

    # -- channels that move between servers --------------------------------------------------

    def give(self, tracker: Tracker) -> Position | None:
        """Stop listening to a channel that lives elsewhere now; where `take` goes on there.

        None for a channel that nobody has, or that was not open yet: who waits may try again.
        """
        name = self._name(tracker.channel)
        goes_on = tracker.state is not State.OPENING and name not in self._leaving
        self._openings.fail(tracker, NotSentError(f"{tracker.channel!r} has moved"))
        self._forget(name)
        # What is still being read for it here is not for delivery.
        tracker.muted = True
        return tracker.position if goes_on else None

    def take(self, channel: str, position: Position) -> None:
        """Go on after `position`: what came since is read from history, or announced as lost."""
        name = self._name(channel)
        if name not in self._trackers:
            self._listen(name, channel).open(position)

    # -- what both do ------------------------------------------------------------------------

    def _listen(self, name: bytes, channel: str) -> Tracker:
        tracker = self._trackers[name] = Tracker(channel, self._room)
        self.raw.listen(channel)
        self._subscriber.add(name)
        return tracker

    def _stay(self, name: bytes) -> None:
        if (timer := self._leaving.pop(name, None)) is not None:
            timer.cancel()

    def _forget(self, name: bytes) -> None:
        self._stay(name)
        if (tracker := self._trackers.pop(name, None)) is not None:
            tracker.let_go()
            self._subscriber.remove(name)
            self.raw.leave(tracker.channel)

    def _name(self, channel: str) -> bytes:
        return self._options.keys.stem(channel).encode()

    def _open_epoch(self, channel: str) -> str | None:
        tracker = self.tracker(channel)
        waits = tracker is None or tracker.muted or tracker.state is State.OPENING
        return None if waits or tracker is None else tracker.epoch
