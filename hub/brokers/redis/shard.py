"""One Redis server: two connections, and the channels that this node listens to there.

`hub.brokers.redis.topology.topology` assigns channels to servers.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hub.brokers.redis.channels.history import Backfill, HistoryReader
from hub.brokers.redis.channels.messages import (
    Traced,
    decode,
    decode_announcement,
    is_announcement,
)
from hub.brokers.redis.channels.tracked import TrackedChannels
from hub.brokers.redis.link.calls import CallConnection
from hub.brokers.redis.link.connection import Connector, Endpoint
from hub.brokers.redis.link.health import Canary, WriteCheck
from hub.brokers.redis.link.library import Library
from hub.brokers.redis.link.pubsub import Listeners, PubSubConnection
from hub.brokers.redis.link.replication import ReplicationLine
from hub.brokers.redis.options import ShardContext, Tasks
from hub.brokers.tracker import SequencedMessage, Tracker, TrackerState
from hub.core.pushes import PresenceReset


@dataclass(frozen=True, slots=True)
class ShardStatistics:
    """Figures of one server as it is now; `Counters` has those since the start, for all servers."""

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
    """Whether it refuses to write publications."""
    server_version: str
    """Empty before the first connection."""


class Shard:
    """Hands messages on; `calls` and `history` are for publishers and readers, `channels` for
    subscribers."""

    def __init__(self, endpoint: Endpoint, context: ShardContext) -> None:
        self._tasks = Tasks(context.spawn)
        self._context = context = replace(context, spawn=self._tasks.spawn)
        self._options = options = context.options
        self._endpoint = endpoint
        self.keys = options.keys
        self.reads = asyncio.Semaphore(options.concurrent_reads)
        """Held while a page is read for a session; publications do not wait for it."""
        self._traced: Traced | None = None
        """The trace of the next message: Redis sends it right before that."""
        log = context.log.bind(server=endpoint.name)
        self._library = Library(use_functions=options.use_functions, keys=options.keys, log=log)
        connector = Connector(endpoint, options, context.clock, log, context.counters)
        self.line_keys = (options.keys.line(),) if endpoint.has_lines else ()
        """A key that calls about channels pass beside the channel's own."""
        self.calls = CallConnection(
            connector,
            line=ReplicationLine(endpoint=endpoint, library=self._library, options=options),
            on_up=self._on_calls_up,
        )
        self._pubsub = PubSubConnection(
            connector, on_message=self._on_message, on_subscribed=self._on_subscribed
        )
        self.listeners = Listeners(self._pubsub)
        self.channels = TrackedChannels(context, pubsub=self._pubsub, check_up=self.calls.check_up)
        self.history = HistoryReader(
            calls=self.calls,
            namespaces=context.namespaces,
            options=options,
            line_keys=self.line_keys,
        )
        self._canary = Canary(
            calls=self.calls, pubsub=self._pubsub, options=options, clock=context.clock
        )
        self._write_check = WriteCheck(calls=self.calls, options=options, log=log)
        self._backfill = Backfill(
            context,
            history=self.history,
            pubsub=self._pubsub,
            channels=self.channels,
        )

    # -- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to connect; return when connected, or after `connect_timeout_seconds`."""
        self._pubsub.add(self._canary.name)
        self._context.spawn(self._endpoint.run())
        self._context.spawn(self.calls.run())
        self._context.spawn(self._pubsub.run())
        self._context.spawn(self._canary.run())
        self._context.spawn(self._write_check.run())
        self._context.spawn(self._backfill.reconcile())
        try:
            async with asyncio.timeout(self._options.connect_timeout_seconds):
                await self.calls.up.wait()
                await self._pubsub.up.wait()
        except TimeoutError:
            self._context.log.warning("redis_not_reachable", server=self._endpoint.name)

    async def stop(self) -> None:
        """End everything; calls that wait for an answer get an error."""
        await self._tasks.stop()
        self.channels.stop()

    def problem(self) -> str | None:
        """Return why the node should get no traffic; None where it should."""
        problem = self._canary.problem()
        if problem is None:
            return None
        trouble = self.calls.trouble
        return f"redis {self._endpoint.name}: {problem}" + (f" ({trouble})" if trouble else "")

    def away(self) -> str | None:
        """Return its name and why it cannot be reached; None where it can."""
        deaf = self._canary.problem() if self._canary.is_late else None
        why = self.calls.trouble or deaf
        return f"{self._endpoint.name} ({why.rstrip('.')})" if why else None

    def impaired(self) -> str | None:
        """Return the fault in spite of which the node should get traffic; None without one."""
        refusal = self._write_check.refusal
        return f"redis {self._endpoint.name} takes no publications: {refusal}" if refusal else None

    def statistics(self) -> ShardStatistics:
        return ShardStatistics(
            server=self._endpoint.name,
            channels=len(self.channels),
            filling=self._backfill.filling,
            pending_calls=self.calls.pending,
            canary_round_trip_seconds=self._canary.round_trip_seconds,
            command_connects=self.calls.connects,
            subscriber_connects=self._pubsub.connects,
            canary_age_seconds=self._canary.age_seconds,
            refusing=bool(self.calls.trouble),
            deaf=self._canary.problem() is not None,
            unwritable=bool(self._write_check.refusal),
            server_version=self._library.server_version,
        )

    # -- messages ----------------------------------------------------------------------------

    def _on_message(self, name: bytes, raw: bytes) -> None:
        if (tracker := self.channels.find(name)) is None:
            if name == self._canary.name:
                self._canary.hear(raw)
            elif not self.listeners.receive(name, raw):
                self.channels.receive_raw(name, raw)
            return
        if is_announcement(raw):
            self._announce(tracker, raw)
            return
        limit = self._options.max_message_bytes
        message = decode(tracker.channel, raw, max_message_bytes=limit)
        if message is None:
            self._context.counters.broker_undecodable += 1
            return
        if (traced := self._traced) is not None:
            self._traced, message = None, traced.on(message)
        self._count(message)
        self._backfill.act(tracker, tracker.receive(message))

    def _count(self, message: SequencedMessage) -> None:
        self._context.counters.broker_received += 1
        if (publication := message.publication) is not None:
            lag_seconds = self._context.wall_clock() - publication.time_ms / 1000
            # Below 0 where Redis' clock is ahead of this machine's.
            self._context.counters.broker_lag.observe(max(0.0, lag_seconds))

    def _on_subscribed(self, names: Sequence[bytes]) -> None:
        """Compare the channels that Redis sends from now on: earlier messages may be missing."""
        if self._canary.name in names:
            self._canary.hurry()
        self.listeners.heard(names)
        found = [tracker for name in names if (tracker := self.channels.find(name))]
        if found:
            self._context.spawn(self._backfill.compare(found))
        for tracker in found:
            channel = tracker.channel
            has_presence = self._context.namespaces.options(channel).presence
            if has_presence and tracker.state is not TrackerState.OPENING:
                # Joins and leaves have no offsets: it is not known which of them were missed.
                self._context.downstream.announce(channel, PresenceReset(channel))

    def _announce(self, tracker: Tracker, raw: bytes) -> None:
        change = decode_announcement(tracker.channel, raw)
        if isinstance(change, Traced):
            self._traced = change
            return
        # Until the channel is open no session here has it, and one that subscribes asks for the
        # members. While a hole is being filled a change overtakes the messages that wait: a join
        # then still precedes its member's publications.
        if change is not None and tracker.state is not TrackerState.OPENING:
            self._context.downstream.announce(tracker.channel, change)

    def _on_calls_up(self) -> None:
        """Compare all channels: that failed while Redis took no calls."""
        self._canary.hurry()
        self._context.spawn(self._backfill.compare_all())

    def poke(self, tracker: Tracker) -> None:
        """Compare one channel now: Redis may be in another epoch than the tracker."""
        self._context.spawn(self._backfill.compare([tracker]))
