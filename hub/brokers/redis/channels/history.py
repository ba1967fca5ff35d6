"""Reading a channel's head and history, and filling from them the holes that pub/sub left.

`HistoryReader` asks Redis. `Backfill` compares heads, fills holes from history and announces the
rest; decisions are those of `hub.brokers.tracker`, this carries them out.

A tail that was lost shows in nothing that arrives. For example, this node has delivered up to
offset 5 and Redis says that the head is 7. 6 and 7 may still be on their way, so `Backfill` sends
a PING on the pub/sub connection and waits for the answer, which stands behind all that Redis had
written before. If 6 and 7 came meanwhile, nothing is missing. If not, they are lost, and are read
from history.
"""

import asyncio
import random
from collections.abc import Iterable, Sequence
from itertools import islice

from msgspec.structs import replace

from hub.brokers.redis.channels.messages import decode
from hub.brokers.redis.channels.tracked import TrackedChannels
from hub.brokers.redis.link.calls import CallConnection
from hub.brokers.redis.link.library import Command
from hub.brokers.redis.link.outcomes import RedisCallError, RefusedError
from hub.brokers.redis.link.pubsub import PubSub
from hub.brokers.redis.options import RedisOptions, ShardContext
from hub.brokers.tracker import SequencedMessage, Step, Tracker, TrackerPage, TrackerState
from hub.core.options import Namespaces
from hub.core.ports import StatePage
from hub.core.publication import Position, Publication
from hub.core.pushes import Gap, GapReason

# Batches of heads asked for together where callers wait for them.
_OPENINGS_AT_ONCE = 32


class HistoryReader:
    """Asks for heads and pages. Raises `RedisCallError`."""

    def __init__(
        self,
        *,
        calls: CallConnection,
        namespaces: Namespaces,
        options: RedisOptions,
        line_keys: Sequence[str],
    ) -> None:
        self._calls = calls
        self._namespaces = namespaces
        self._options = options
        self._line_keys = line_keys

    def settings(self, channel: str) -> str:
        return self._options.settings(self._namespaces.options(channel))

    def names(self, channel: str) -> tuple[str, ...]:
        """Return all keys of a channel, as calls about it pass them.

        Keys of a moving slot come one by one, and a cluster waits only for keys that are passed.
        """
        keys = self._options.keys
        names = (keys.meta(channel), keys.log(channel), *self._line_keys)
        keyed = self._namespaces.options(channel).keyed
        return (*names, *keys.table(channel)) if keyed else names

    async def head(self, channel: str, seen: Position) -> Position:
        """Return the newest offset given out, and renew the channel's life.

        `seen` is this node's position, so that a Redis that knows less, or was left,
        begins a new epoch.
        """
        arguments = (self.settings(channel), seen.epoch, seen.offset)
        answer = await self._calls.run_function("open", self.names(channel), arguments)
        match answer:
            case [bytes() as epoch, int() as offset]:
                return Position(epoch.decode(), offset)
        raise RedisCallError(f"not a head: {answer!r:.100}")

    async def page(
        self, channel: str, after: int, limit: int, max_bytes: int, *, seen: str | None = None
    ) -> TrackerPage:
        """Return messages after `after`: at most `limit` of `max_bytes`, or one.

        An unused channel gets an epoch only where this node listens to it: then `seen`
        is the epoch that the node is in.
        """
        arguments: Command = (self.settings(channel), after, limit, max_bytes)
        if seen is not None:
            arguments += ("1", seen)
        answer = await self._calls.run_function("page", self.names(channel), arguments)
        match answer:
            case [
                bytes() as epoch,
                int() as offset,
                int() as oldest,
                list() as entries,
                int() as complete,
            ]:
                head = Position(epoch.decode(), offset)
                messages = self._messages(channel, head.epoch, entries)
                return TrackerPage(head, oldest, messages, complete=complete == 1)
        raise RedisCallError(f"not a page: {answer!r:.100}")

    async def rows(
        self, channel: str, after: str, limit: int, max_bytes: int, upto: int | None
    ) -> StatePage:
        """Return rows with keys above `after`: at most `limit` of `max_bytes`, or one."""
        arguments: Command = (
            self.settings(channel), after, limit, max_bytes, "" if upto is None else upto,
        )  # fmt: skip
        answer = await self._calls.run_function("rows", self.names(channel), arguments)
        match answer:
            case [
                bytes() as epoch,
                int() as offset,
                list() as found,
                bytes() as following,
                int() as dropped,
            ]:
                head = Position(epoch.decode(), offset)
                rows = tuple(
                    row for raw in found if (row := self._row(channel, head.epoch, raw)) is not None
                )
                return StatePage(head, rows, following.decode() or None, dropped)
        raise RedisCallError(f"not rows: {answer!r:.100}")

    def _row(self, channel: str, epoch: str, raw: bytes) -> Publication | None:
        """Return a row; None for one that is no JSON or too large."""
        message = decode(channel, raw, max_message_bytes=self._options.max_message_bytes)
        if message is None or message.publication is None:
            return None
        row = message.publication
        return row if message.epoch == epoch else replace(row, offset=0)

    def _messages(
        self, channel: str, epoch: str, entries: Sequence[bytes]
    ) -> list[SequencedMessage]:
        """Return messages of flat entries: ID, message, ID, message; an ID has the offset."""
        limit = self._options.max_message_bytes
        messages: list[SequencedMessage] = []
        for identifier, raw in zip(entries[::2], entries[1::2], strict=True):
            offset = int(identifier.partition(b"-")[0])
            message = decode(channel, raw, max_message_bytes=limit)
            if message is None or (message.epoch, message.offset) != (epoch, offset):
                message = SequencedMessage(epoch, offset, None, len(raw))
            messages.append(message)
        return messages


class Backfill:
    """Fills the holes in the channels of one server from history."""

    def __init__(
        self,
        context: ShardContext,
        *,
        history: HistoryReader,
        pubsub: PubSub,
        channels: TrackedChannels,
    ) -> None:
        self._history = history
        self._pubsub = pubsub
        self._downstream = context.downstream
        self._options = options = context.options
        self._spawn = context.spawn
        self._log = context.log
        self._channels = channels
        self._is_current = channels.is_current
        self._filling: set[Tracker] = set()
        self._slots = asyncio.Semaphore(options.concurrent_fills)
        self._openings = asyncio.Semaphore(_OPENINGS_AT_ONCE)
        self._comparisons = asyncio.Semaphore(1)
        """Held while a batch of heads is asked for."""
        self._counters = context.counters

    @property
    def filling(self) -> int:
        """Return how many channels are being filled."""
        return len(self._filling)

    def act(self, tracker: Tracker, steps: Iterable[Step]) -> None:
        """Carry the tracker's steps out, and begin to fill where it needs that."""
        for step in () if tracker.muted else steps:
            self._carry_out(tracker.channel, step)
        if tracker.state is TrackerState.FILLING and tracker not in self._filling:
            self._filling.add(tracker)
            self._counters.broker_holes += 1
            self._spawn(self._fill(tracker))

    def _carry_out(self, channel: str, step: Step) -> None:
        if isinstance(step, Publication):
            self._downstream.deliver(step)
        elif isinstance(step, Gap):
            if step.reason is GapReason.BROKER:
                self._counters.broker_lost += step.last - step.first + 1
            self._downstream.lost(step)
        else:
            self._counters.broker_resets += 1
            self._downstream.reset(channel, step)

    async def _fill(self, tracker: Tracker) -> None:
        try:
            async with self._slots:
                while tracker.state is TrackerState.FILLING and self._is_current(tracker):
                    after = tracker.ask()
                    page = await self._history.page(
                        tracker.channel,
                        after,
                        self._options.page_size,
                        self._options.page_bytes,
                        seen=tracker.epoch,
                    )
                    steps = tracker.on_page(page)
                    self._counters.broker_filled += sum(
                        isinstance(step, Publication) for step in steps
                    )
                    self.act(tracker, steps)
        except RedisCallError as error:
            # The next comparison begins anew: after reconnecting, or with the next round.
            self._log.debug("redis_fill_failed", channel=tracker.channel, reason=str(error))
        finally:
            self._filling.discard(tracker)

    async def reconcile(self) -> None:
        """Compare all channels from time to time: a lost tail shows in no message."""
        while True:
            # Not all nodes at the same time.
            await asyncio.sleep(self._options.reconcile_seconds * random.uniform(0.5, 1))
            await self.compare_all()

    async def compare_all(self) -> None:
        """`compare` the channels that Redis sends already."""
        stem, hears = self._options.keys.stem, self._pubsub.hears
        trackers = self._channels.trackers()
        await self.compare(t for t in trackers if hears(stem(t.channel).encode()))

    async def compare(self, trackers: Iterable[Tracker]) -> None:
        """Ask for the heads of these channels, open those that wait for it, fill the others.

        Redis must send their publications already. Where Redis cannot be asked, channels that
        were not reached stay as they were.
        """
        rest = iter(trackers)
        try:
            while batch := tuple(islice(rest, self._options.heads_at_once)):
                # Subscribers wait for a channel that is being opened. All others take turns.
                opens = any(tracker.state is TrackerState.OPENING for tracker in batch)
                async with self._openings if opens else self._comparisons:
                    await self._compare_batch([t for t in batch if self._is_current(t)])
        except RedisCallError as error:
            self._log.debug("redis_compare_failed", reason=str(error))

    async def _compare_batch(self, trackers: Sequence[Tracker]) -> None:
        heads = await asyncio.gather(*(self._head(tracker) for tracker in trackers))
        behind: list[tuple[Tracker, Position]] = []
        for tracker, head in zip(trackers, heads, strict=True):
            if head is None or not self._is_current(tracker):
                continue
            if tracker.state is TrackerState.OPENING:
                tracker.open(head)
                self._channels.opened(tracker)
                self.act(tracker, tracker.release())
            elif tracker.state is TrackerState.FILLING or tracker.is_behind(head):
                behind.append((tracker, head))
        if behind:
            await self._confirm(behind)

    async def _head(self, tracker: Tracker) -> Position | None:
        """Return a head; None where Redis refuses this one: the others must not wait for it."""
        try:
            return await self._history.head(tracker.channel, tracker.position)
        except RefusedError as error:
            self._log.debug("redis_no_head", channel=tracker.channel, reason=str(error))
            return None

    async def _confirm(self, behind: Sequence[tuple[Tracker, Position]]) -> None:
        """Let messages before these heads pass, which may be on their way, then look again."""
        await self._pubsub.barrier()
        for tracker, head in behind:
            if self._is_current(tracker):
                tracker.confirm(head)
                self.act(tracker, ())
