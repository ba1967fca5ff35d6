"""One Redis server: two connections, and the channels that this node listens to there.

`hub.brokers.redis.topology` says which channels these are.
"""

import asyncio
import random
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial

from hub.brokers.redis import keys
from hub.brokers.redis.announcements import decode_announcement, is_announcement
from hub.brokers.redis.canary import Canary
from hub.brokers.redis.catching_up import CatchingUp, CatchUpCounts
from hub.brokers.redis.commands import Commands
from hub.brokers.redis.connecting import Place
from hub.brokers.redis.failures import CallError, NotSentError
from hub.brokers.redis.library import Library
from hub.brokers.redis.listeners import Listeners
from hub.brokers.redis.messages import decode
from hub.brokers.redis.openings import Openings
from hub.brokers.redis.raw import RawChannels
from hub.brokers.redis.reading import Reading
from hub.brokers.redis.subscriber import Subscriber
from hub.brokers.redis.surroundings import Surroundings
from hub.brokers.redis.tracking import State, Tracker
from hub.core.ports import OnOpen, Spawn
from hub.core.publication import Position
from hub.core.pushes import PresenceReset


@dataclass(frozen=True, slots=True)
class ShardStatistics:
    """Gauges first, then what only rises."""

    server: str
    channels: int
    filling: int
    pending_calls: int
    canary_round_trip_seconds: float | None
    command_connects: int
    subscriber_connects: int
    received: int
    undecodable: int
    """Messages whose place in the sequence could not be told."""
    raw: int
    """Publications without an offset that came by plain PUBLISH ..."""
    raw_refused: int
    """... and of these what was no JSON or too large."""
    caught_up: CatchUpCounts


class Shard:
    """Subscribes and listens; `commands` and `reading` are for whoever asks and publishes."""

    def __init__(self, server: Place, around: Surroundings) -> None:
        self._around = around = replace(around, spawn=partial(self._spawn, around.spawn))
        self._options = options = around.options
        self._server = server
        self._trackers: dict[bytes, Tracker] = {}
        """By pub/sub channel."""
        self._leaving: dict[bytes, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._received = self._undecodable = 0
        self._openings = Openings()
        self.commands = Commands(
            server=server,
            library=Library(use_functions=options.use_functions),
            options=options,
            clock=around.clock,
            log=around.log,
            on_up=self._on_commands_up,
        )
        self._subscriber = Subscriber(
            server=server,
            options=options,
            clock=around.clock,
            log=around.log,
            on_message=self._on_message,
            on_subscribed=self._on_subscribed,
        )
        self.listeners = Listeners(self._subscriber)
        self._raw = RawChannels(around, subscriber=self._subscriber, epoch=self._open_epoch)
        self.reading = Reading(
            commands=self.commands, namespaces=around.namespaces, options=options
        )
        self._canary = Canary(
            commands=self.commands, subscriber=self._subscriber, options=options, clock=around.clock
        )
        self._catching_up = CatchingUp(
            around,
            reading=self.reading,
            subscriber=self._subscriber,
            is_current=self._is_current,
            on_open=self._openings.opened,
        )

    # -- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to connect; return when connected, or after `connect_timeout_seconds`."""
        self._subscriber.add(self._canary.name)
        self._around.spawn(self._server.run())
        self._around.spawn(self.commands.run())
        self._around.spawn(self._subscriber.run())
        self._around.spawn(self._canary.run())
        self._around.spawn(self._reconcile())
        try:
            async with asyncio.timeout(self._options.connect_timeout_seconds):
                await self.commands.up.wait()
                await self._subscriber.up.wait()
        except TimeoutError:
            self._around.log.warning("redis_not_reachable", server=self._server.name)

    async def stop(self) -> None:
        """End everything; calls that wait for an answer get an error."""
        for timer in self._leaving.values():
            timer.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, spawn: Spawn, work: Coroutine[object, object, None]) -> None:
        spawn(self._registered(work))

    async def _registered(self, work: Coroutine[object, object, None]) -> None:
        """`work`, known here as long as it runs, so that `stop` can end it."""
        if (task := asyncio.current_task()) is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await work

    def problem(self) -> str | None:
        """Why the node should get no traffic."""
        problem = self._canary.problem()
        if problem is None:
            return None
        trouble = self.commands.trouble
        return f"redis {self._server.name}: {problem}" + (f" ({trouble})" if trouble else "")

    def statistics(self) -> ShardStatistics:
        return ShardStatistics(
            server=self._server.name,
            channels=len(self._trackers),
            filling=self._catching_up.filling,
            pending_calls=self.commands.pending,
            canary_round_trip_seconds=self._canary.round_trip_seconds,
            command_connects=self.commands.connects,
            subscriber_connects=self._subscriber.connects,
            received=self._received,
            undecodable=self._undecodable,
            raw=self._raw.received,
            raw_refused=self._raw.refused,
            caught_up=self._catching_up.counts,
        )

    # -- channels ----------------------------------------------------------------------------

    def tracker(self, channel: str) -> Tracker | None:
        return self._trackers.get(keys.stem(channel).encode())

    def trackers(self) -> Sequence[Tracker]:
        return tuple(self._trackers.values())

    async def subscribe(self, channel: str, on_open: OnOpen) -> None:
        """Call `on_open` with the head, and hand on what follows.

        Raises `CallError` when Redis is away, `TimeoutError` when it takes too long.
        """
        name = keys.stem(channel).encode()
        self._stay(name)
        tracker = self._trackers.get(name)
        if tracker is not None and tracker.state is not State.OPENING:
            tracker.muted = False
            on_open(tracker.position)
            return
        if tracker is None:
            self.commands.check_up()
            tracker = self._trackers[name] = Tracker(channel, may_hold=self._may_hold)
            self._raw.listen(channel)
            self._subscriber.add(name)
        try:
            async with asyncio.timeout(self._options.subscribe_timeout_seconds):
                await self._openings.wait(tracker, on_open)
        finally:
            if tracker.state is State.OPENING and not self._openings.waits(tracker):
                self._forget(name)

    def unsubscribe(self, channel: str) -> None:
        """Stop listening, unless somebody comes back within `linger_seconds`."""
        name = keys.stem(channel).encode()
        if name in self._trackers and name not in self._leaving:
            self._trackers[name].muted = True
            loop = asyncio.get_running_loop()
            self._leaving[name] = loop.call_later(self._options.linger_seconds, self._forget, name)

    def give(self, tracker: Tracker) -> Position | None:
        """Stop listening to a channel that lives elsewhere now; where `take` goes on there.

        None for a channel that nobody has, or that was not open yet: who waits may try again.
        """
        name = keys.stem(tracker.channel).encode()
        goes_on = tracker.state is not State.OPENING and name not in self._leaving
        self._openings.fail(tracker, NotSentError(f"{tracker.channel!r} has moved"))
        self._forget(name)
        # What is still being read for it here is not for delivery.
        tracker.muted = True
        return tracker.position if goes_on else None

    def take(self, channel: str, position: Position) -> None:
        """Go on after `position`: what came since is read from history, or announced as lost."""
        name = keys.stem(channel).encode()
        if name not in self._trackers:
            tracker = self._trackers[name] = Tracker(channel, may_hold=self._may_hold)
            tracker.open(position)
            self._raw.listen(channel)
            self._subscriber.add(name)

    def _stay(self, name: bytes) -> None:
        if (timer := self._leaving.pop(name, None)) is not None:
            timer.cancel()

    def _forget(self, name: bytes) -> None:
        self._stay(name)
        if (tracker := self._trackers.pop(name, None)) is not None:
            self._subscriber.remove(name)
            self._raw.leave(tracker.channel)

    def _open_epoch(self, channel: str) -> str | None:
        tracker = self.tracker(channel)
        waits = tracker is None or tracker.muted or tracker.state is State.OPENING
        return None if waits or tracker is None else tracker.epoch

    def _is_current(self, tracker: Tracker) -> bool:
        return self.tracker(tracker.channel) is tracker

    def _may_hold(self, messages: int, size_bytes: int) -> bool:
        return messages <= self._options.hold_messages and size_bytes <= self._options.hold_bytes

    # -- what comes in -----------------------------------------------------------------------

    def _on_message(self, name: bytes, raw: bytes) -> None:
        if (tracker := self._trackers.get(name)) is None:
            if name == self._canary.name:
                self._canary.hear(raw)
            elif not self.listeners.receive(name, raw):
                self._raw.receive(name, raw)
            return
        if is_announcement(raw):
            self._announce(tracker, raw)
            return
        self._received += 1
        limit = self._options.max_message_bytes
        message = decode(tracker.channel, raw, max_message_bytes=limit)
        if message is None:
            self._undecodable += 1
            return
        self._catching_up.act(tracker, tracker.receive(message))

    def _on_subscribed(self, names: Sequence[bytes]) -> None:
        """Redis sends these from now on: what it sent before may have been missed."""
        if self._canary.name in names:
            self._canary.hurry()
        found = [self._trackers[name] for name in names if name in self._trackers]
        if found:
            self._around.spawn(self._compare(found))
        for tracker in found:
            channel = tracker.channel
            if tracker.state is not State.OPENING and self._has_presence(channel):
                # Joins and leaves have no offsets: what of them was missed cannot be told.
                self._around.downstream.announce(channel, PresenceReset(channel))

    def _has_presence(self, channel: str) -> bool:
        return self._around.namespaces.options(channel).presence

    def _announce(self, tracker: Tracker, raw: bytes) -> None:
        change = decode_announcement(tracker.channel, raw)
        # Before that nobody here has the channel, and who will asks for the members. While a
        # hole is being filled it overtakes what waits: a join then still precedes what its
        # member says.
        if change is not None and tracker.state is not State.OPENING:
            self._around.downstream.announce(tracker.channel, change)

    async def _compare(self, trackers: Sequence[Tracker]) -> None:
        try:
            await self._catching_up.compare(trackers)
        except CallError as error:
            self._around.log.debug("redis_compare_failed", reason=str(error))

    async def _reconcile(self) -> None:
        """Look at the tail of every channel: its loss shows in nothing that arrives."""
        while True:
            # Not all nodes at the same time.
            await asyncio.sleep(self._options.reconcile_seconds * random.uniform(0.5, 1))
            await self._compare_all()

    def _on_commands_up(self) -> None:
        """While there was nobody to ask, comparing failed."""
        self._canary.hurry()
        self._around.spawn(self._compare_all())

    async def _compare_all(self) -> None:
        await self._compare([t for n, t in self._trackers.items() if self._subscriber.hears(n)])

    def poke(self, tracker: Tracker) -> None:
        """Something speaks for a change that the tracker has not seen: compare now."""
        self._around.spawn(self._compare([tracker]))
