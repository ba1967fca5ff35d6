"""Makes good what pub/sub lost: compares heads, fills holes from history, announces the rest.

Decisions are `hub.brokers.redis.tracking`'s; this asks Redis and carries the steps out.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from hub.brokers.redis.failures import CallError, RefusedError
from hub.brokers.redis.reading import Reading
from hub.brokers.redis.subscriber import Subscriber
from hub.brokers.redis.surroundings import Surroundings
from hub.brokers.redis.tracking import State, Step, Tracker
from hub.core.publication import Position, Publication
from hub.core.pushes import Gap, GapReason


class CatchingUp:
    """One per server.

    Args:
        is_current: whether the tracker is still the one of its channel.
        on_open: is told the tracker whose head has just become known, before anything of it
            is delivered.
    """

    def __init__(
        self,
        around: Surroundings,
        *,
        reading: Reading,
        subscriber: Subscriber,
        is_current: Callable[[Tracker], bool],
        on_open: Callable[[Tracker], None],
    ) -> None:
        self._reading = reading
        self._subscriber = subscriber
        self._downstream = around.downstream
        self._options = options = around.options
        self._spawn = around.spawn
        self._log = around.log
        self._is_current = is_current
        self._on_open = on_open
        self._filling: set[Tracker] = set()
        self._slots = asyncio.Semaphore(options.concurrent_fills)
        self._tally = around.tally

    @property
    def filling(self) -> int:
        """Channels that something is being read for."""
        return len(self._filling)

    def act(self, tracker: Tracker, steps: Iterable[Step]) -> None:
        """Carry out what the tracker decided, and begin filling where it wants that."""
        for step in () if tracker.muted else steps:
            self._carry_out(tracker.channel, step)
        if tracker.state is State.FILLING and tracker not in self._filling:
            self._filling.add(tracker)
            self._tally.broker_holes += 1
            self._spawn(self._fill(tracker))

    def _carry_out(self, channel: str, step: Step) -> None:
        if isinstance(step, Publication):
            self._downstream.deliver(step)
        elif isinstance(step, Gap):
            if step.reason is GapReason.BROKER:
                self._tally.broker_lost += step.last - step.first + 1
            self._downstream.lost(step)
        else:
            self._tally.broker_resets += 1
            self._downstream.reset(channel, step)

    async def _fill(self, tracker: Tracker) -> None:
        try:
            async with self._slots:
                while tracker.state is State.FILLING and self._is_current(tracker):
                    after = tracker.ask()
                    page = await self._reading.page(
                        tracker.channel,
                        after,
                        self._options.page_size,
                        self._options.page_bytes,
                        seen=tracker.epoch,
                    )
                    steps = tracker.on_page(page)
                    self._tally.broker_filled += sum(
                        isinstance(step, Publication) for step in steps
                    )
                    self.act(tracker, steps)
        except CallError as error:
            # The next comparison begins anew: after reconnecting, or with the next round.
            self._log.debug("redis_fill_failed", channel=tracker.channel, reason=str(error))
        finally:
            self._filling.discard(tracker)

    async def compare(self, trackers: Sequence[Tracker]) -> None:
        """Ask for the heads of these channels, open those that wait for it, fill the others.

        Redis must send their publications already. Raises `CallError`; then what was not
        reached stays as it was.
        """
        rest = iter(trackers)
        while batch := tuple(islice(rest, self._options.batch_size)):
            await self._compare_batch([t for t in batch if self._is_current(t)])

    async def _compare_batch(self, trackers: Sequence[Tracker]) -> None:
        heads = await asyncio.gather(*(self._head(tracker) for tracker in trackers))
        behind: list[tuple[Tracker, Position]] = []
        for tracker, head in zip(trackers, heads, strict=True):
            if head is None or not self._is_current(tracker):
                continue
            if tracker.state is State.OPENING:
                tracker.open(head)
                self._on_open(tracker)
                self.act(tracker, tracker.release())
            elif tracker.state is State.FILLING or tracker.is_behind(head):
                behind.append((tracker, head))
        if behind:
            await self._confirm(behind)

    async def _head(self, tracker: Tracker) -> Position | None:
        """None where Redis refuses this one: the others must not wait for it."""
        try:
            return await self._reading.head(tracker.channel, tracker.position)
        except RefusedError as error:
            self._log.debug("redis_no_head", channel=tracker.channel, reason=str(error))
            return None

    async def _confirm(self, behind: Sequence[tuple[Tracker, Position]]) -> None:
        """What led to these heads may be on its way to us: let it pass, then look again."""
        await self._subscriber.barrier()
        for tracker, head in behind:
            if self._is_current(tracker):
                tracker.confirm(head)
                self.act(tracker, ())
