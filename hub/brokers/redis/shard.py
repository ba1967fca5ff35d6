"""One Redis server: two connections, and the channels that this node listens to there.

`hub.brokers.redis.topology` says which channels these are.
"""

import asyncio
import random
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial

from hub.brokers.redis.announcements import Traced, decode_announcement, is_announcement
from hub.brokers.redis.canary import Canary
from hub.brokers.redis.catching_up import CatchingUp
from hub.brokers.redis.channels import ShardChannels
from hub.brokers.redis.commands import Commands
from hub.brokers.redis.failures import CallError
from hub.brokers.redis.library import Library
from hub.brokers.redis.lines import Line
from hub.brokers.redis.listeners import Listeners
from hub.brokers.redis.messages import Message, decode
from hub.brokers.redis.reading import Reading
from hub.brokers.redis.server import Place
from hub.brokers.redis.subscriber import Subscriber
from hub.brokers.redis.surroundings import Surroundings
from hub.brokers.redis.tracking import State, Tracker
from hub.brokers.redis.writability import Writability
from hub.core.ports import Spawn
from hub.core.pushes import PresenceReset


@dataclass(frozen=True, slots=True)
class ShardStatistics:
    """Of one server, as it is now; what happened is counted in the tally, for all together."""

    server: str
    channels: int
    filling: int
    pending_calls: int
    canary_round_trip_seconds: float | None
    command_connects: int
    subscriber_connects: int
    canary_age_seconds: float
    refusing: bool
    """Whether calls are refused at once."""
    deaf: bool
    unwritable: bool
    """Whether it refuses what is published."""
    server_version: str
    """Empty before the first connection."""


class Shard:
    """Hands on what comes; `commands` and `reading` are for whoever asks and publishes,
    `channels` for whoever subscribes."""

    def __init__(self, server: Place, around: Surroundings) -> None:
        self._around = around = replace(around, spawn=partial(self._spawn, around.spawn))
        self._options = options = around.options
        self._server = server
        self.keys = options.keys
        self._tasks: set[asyncio.Task[object]] = set()
        self.reads = asyncio.Semaphore(options.concurrent_reads)
        """Whoever reads pages here for others holds it meanwhile; publications pass them by."""
        self._traced: Traced | None = None
        """What the next message is a part of: Redis sends both at once."""
        self._library = Library(
            use_functions=options.use_functions,
            keys=options.keys,
            log=around.log.bind(server=server.name),
        )
        self.line_keys = (options.keys.line(),) if server.has_lines else ()
        """What calls about channels pass besides."""
        self.commands = Commands(
            server=server,
            line=Line(server=server, library=self._library, options=options),
            options=options,
            clock=around.clock,
            log=around.log,
            tally=around.tally,
            on_up=self._on_commands_up,
        )
        self._subscriber = Subscriber(
            server=server,
            options=options,
            clock=around.clock,
            log=around.log,
            tally=around.tally,
            on_message=self._on_message,
            on_subscribed=self._on_subscribed,
        )
        self.listeners = Listeners(self._subscriber)
        self.channels = ShardChannels(
            around, subscriber=self._subscriber, check_up=self.commands.check_up
        )
        self.reading = Reading(
            commands=self.commands,
            namespaces=around.namespaces,
            options=options,
            line_keys=self.line_keys,
        )
        self._canary = Canary(
            commands=self.commands, subscriber=self._subscriber, options=options, clock=around.clock
        )
        self._writability = Writability(
            commands=self.commands, options=options, log=around.log.bind(server=server.name)
        )
        self._catching_up = CatchingUp(
            around,
            reading=self.reading,
            subscriber=self._subscriber,
            is_current=self.channels.is_current,
            on_open=self.channels.opened,
        )

    # -- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to connect; return when connected, or after `connect_timeout_seconds`."""
        self._subscriber.add(self._canary.name)
        self._around.spawn(self._server.run())
        self._around.spawn(self.commands.run())
        self._around.spawn(self._subscriber.run())
        self._around.spawn(self._canary.run())
        self._around.spawn(self._writability.run())
        self._around.spawn(self._reconcile())
        try:
            async with asyncio.timeout(self._options.connect_timeout_seconds):
                await self.commands.up.wait()
                await self._subscriber.up.wait()
        except TimeoutError:
            self._around.log.warning("redis_not_reachable", server=self._server.name)

    async def stop(self) -> None:
        """End everything; calls that wait for an answer get an error."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.channels.stop()

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

    def impaired(self) -> str | None:
        """What does not work though the node should get traffic."""
        refusal = self._writability.refusal
        return f"redis {self._server.name} takes no publications: {refusal}" if refusal else None

    def statistics(self) -> ShardStatistics:
        return ShardStatistics(
            server=self._server.name,
            channels=len(self.channels),
            filling=self._catching_up.filling,
            pending_calls=self.commands.pending,
            canary_round_trip_seconds=self._canary.round_trip_seconds,
            command_connects=self.commands.connects,
            subscriber_connects=self._subscriber.connects,
            canary_age_seconds=self._canary.age_seconds,
            refusing=bool(self.commands.trouble),
            deaf=self._canary.problem() is not None,
            unwritable=bool(self._writability.refusal),
            server_version=self._library.server_version,
        )

    # -- what comes in -----------------------------------------------------------------------

    def _on_message(self, name: bytes, raw: bytes) -> None:
        if (tracker := self.channels.find(name)) is None:
            if name == self._canary.name:
                self._canary.hear(raw)
            elif not self.listeners.receive(name, raw):
                self.channels.raw.receive(name, raw)
            return
        if is_announcement(raw):
            self._announce(tracker, raw)
            return
        limit = self._options.max_message_bytes
        message = decode(tracker.channel, raw, max_message_bytes=limit)
        if message is None:
            self._around.tally.broker_undecodable += 1
            return
        if (traced := self._traced) is not None:
            self._traced, message = None, traced.on(message)
        self._count(message)
        self._catching_up.act(tracker, tracker.receive(message))

    def _count(self, message: Message) -> None:
        self._around.tally.broker_received += 1
        if (publication := message.publication) is not None:
            lag_seconds = self._around.wall_clock() - publication.time_ms / 1000
            # Below 0 where Redis' clock is ahead of this machine's.
            self._around.tally.broker_lag.observe(max(0.0, lag_seconds))

    def _on_subscribed(self, names: Sequence[bytes]) -> None:
        """Redis sends these from now on: what it sent before may have been missed."""
        if self._canary.name in names:
            self._canary.hurry()
        found = [tracker for name in names if (tracker := self.channels.find(name))]
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
        if isinstance(change, Traced):
            self._traced = change
            return
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
        hears = self._subscriber.hears
        trackers = self.channels.trackers()
        stem = self._options.keys.stem
        await self._compare([t for t in trackers if hears(stem(t.channel).encode())])

    def poke(self, tracker: Tracker) -> None:
        """Something speaks for a change that the tracker has not seen: compare now."""
        self._around.spawn(self._compare([tracker]))
