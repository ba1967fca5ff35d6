"""The durable broker: an acknowledged publication is on the disk, and survives a restart.

The memory broker in front holds heads, idempotency keys, bounds, and the newest of history. It
knows only committed publications. Behind it one thread writes: all publications that came while it
wrote go into the next commit together, and are numbered, delivered and acknowledged once that is
through fsync. Other threads read pages that memory does not hold any more.

When the file does not take a commit, none of its publications is published, and their publishers
get `not_published`; until the file takes a commit again, publications are refused at once, and
`problems` gives the reason. The file is tried again and again.
"""

import asyncio
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import TypeVar

from hub.brokers.memory import MemoryBroker
from hub.brokers.sqlite.commits import Commits
from hub.brokers.sqlite.context import SqliteContext
from hub.brokers.sqlite.faults import Fault, FileError
from hub.brokers.sqlite.file import HistoryFile, Victim
from hub.brokers.sqlite.intake import Outcome, refuse
from hub.brokers.sqlite.recent import changed, steps
from hub.core.node_records import BrokerRecord
from hub.core.ports import (
    PAGE_BYTES,
    Appearances,
    HistoryPage,
    OnOpen,
    OnPublished,
    PublishRequest,
    PublishResult,
    StatePage,
)
from hub.core.publication import Position
from hub.errors import HubError, NotPublishedError, UnavailableError

# How long a stop waits for the commit under way.
_STOP_SECONDS = 10.0
# A node ticks as often, and half as often where it has nothing to do.
_SWEEPS_A_SECOND = 20

T = TypeVar("T")


class SqliteBroker:
    """Implements `hub.core.ports.Broker`; one per file, owned by one event loop."""

    answers_at_once = True
    publish_now = None
    publish_many_now = None

    def __init__(self, context: SqliteContext) -> None:
        self._clock = context.clock
        self._wall_clock = context.wall_clock
        self._log = context.log
        self._counters = context.counters
        self._options = context.options
        self._commits = commits = Commits(context)
        self._waiting = commits.waiting
        self._writer = commits.writer
        self._pages = commits.pages
        self._tending = commits.tending
        self._sweeps = 0

    # -- hub.core.ports.Broker ------------------------------------------------------------------

    async def publish(self, request: PublishRequest) -> PublishResult:
        """Number, write, deliver.

        Raises `NotPublishedError` where the file does not take it, `OutcomeUnknownError` where the
        outcome is not known, `ConflictError` and `UnavailableError` as every broker does.
        """
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.publish_soon(request, partial(_settle, future))
        outcome = await future
        if isinstance(outcome, HubError):
            # A copy of its own: other publishers of the same commit may raise theirs at the same
            # time.
            raise copy(outcome)
        return outcome

    def publish_soon(self, request: PublishRequest, on_done: OnPublished) -> None:
        """Publish like `publish`; publishers of one refused commit share one error."""
        if (refusal := self._refusal_of(1, request.size_bytes)) is not None:
            raise refusal
        began = self._clock()

        def settled(outcome: Outcome) -> None:
            self._counters.broker_calls.observe(self._clock() - began)
            on_done(outcome)

        self._waiting.add(request, settled)
        self._writer.soon()

    async def publish_many(self, requests: Sequence[PublishRequest]) -> Sequence[Outcome]:
        """Publish each like `publish`, in their order; they share commits."""
        if not requests:
            return []
        size = sum([request.size_bytes for request in requests])
        if (refusal := self._refusal_of(len(requests), size)) is not None:
            return [refusal] * len(requests)
        future: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()
        self._waiting.add_many(requests, size, partial(_settle, future))
        self._writer.soon()
        began = self._clock()
        outcomes = await future
        self._counters.broker_calls.observe(self._clock() - began)
        return outcomes

    async def subscribe(self, channel: str, on_open: OnOpen) -> None:
        await self._known().subscribe(channel, on_open)

    def unsubscribe(self, channel: str) -> None:
        if self._commits.memory is not None:
            self._commits.memory.unsubscribe(channel)

    async def history(
        self, channel: str, after: int, limit: int, *, max_bytes: int = PAGE_BYTES
    ) -> HistoryPage:
        """Return a page from memory where that has all of it, else from the file."""
        memory = self._known()
        if (log := memory.find(channel)) is None:
            return await memory.history(channel, after, limit, max_bytes=max_bytes)
        log.used_at_seconds = now = self._clock()
        log.trim(now)
        memory.place(log)
        stored = self._commits.logs.find(log)
        if stored is None or not log.keeps or stored.first > log.offset:
            return HistoryPage(log.head, log.offset + 1, ())
        if after + 1 >= log.oldest or log.oldest <= stored.first:
            page, seen = log.page(after, limit, max_bytes, now_seconds=now)
            if page.publications or seen >= log.offset:
                if limit > 1 and 0 < page.last < log.offset:
                    # As in memory: let others have their turn between two pages.
                    await asyncio.sleep(0)
                return HistoryPage(page.head, min(stored.first, page.oldest), page.publications)
        fresh_ms = self._commits.now_ms() - int(log.options.history_ttl_seconds * 1000)
        try:
            return await self._pages.read(
                stored,
                after=after,
                limit=limit,
                max_bytes=max_bytes,
                fresh_ms=fresh_ms,
                wall_ms=int(self._wall_clock() * 1000),
            )
        except FileError as error:
            raise UnavailableError(error.message) from error

    async def state(
        self,
        channel: str,
        after: str,
        limit: int,
        *,
        upto: int | None = None,
        max_bytes: int = PAGE_BYTES,
    ) -> StatePage:
        return await self._known().state(channel, after, limit, upto=upto, max_bytes=max_bytes)

    async def clear(self, channel: str) -> None:
        """Return once the disk has forgotten the history too; raise `UnavailableError`.

        It goes in steps, and commits have their turns between them.
        """
        memory = self._known()
        if (log := memory.find(channel)) is None or (
            stored := self._commits.logs.find(log)
        ) is None:
            return
        through, recent, file = log.offset, self._commits.recent.all(), self._writer.file

        def move(file: HistoryFile) -> None:
            # All of them together: a block that also has later publications would stay.
            for commits in steps(recent):
                file.move(commits, {})

        def trim(file: HistoryFile) -> tuple[Sequence[Victim], bool]:
            return file.trim_channels({stored.id: through + 1})

        try:
            await self._in(file, move)
            if recent:
                self._tending.moved(recent, changed(recent))
            more = True
            while more:
                victims, more = await self._in(file, trim)
                self._tending.trimmed(victims)
                self._writer.soon()
            await self._in(file, HistoryFile.check)
        except FileError as error:
            raise UnavailableError(error.message) from error
        stored.forget(through)
        if memory.find(channel) is log:
            log.let_go(through)
            memory.place(log)
        self._writer.soon()

    async def _in(self, file: HistoryFile | None, work: Callable[[HistoryFile], T]) -> T:
        """Return what `work` returns in the thread that writes; raise `FileError` where another
        file, or none, is open by then."""

        def step() -> T:
            if file is None or self._writer.file is not file:
                raise FileError(Fault.CLOSED, self._options.path)
            return work(file)

        return await self._writer.by_thread(step)

    # -- hub.core.ports.Directory ---------------------------------------------------------------

    def follow(self, appearances: Appearances) -> None:
        """Tell `appearances` of each channel when its first publication is written."""
        self._commits.appearances = appearances
        if self._commits.memory is not None:
            self._commits.memory.follow(appearances)

    def unfollow(self) -> None:
        self._commits.appearances = None
        if self._commits.memory is not None:
            self._commits.memory.unfollow()

    async def matching(self, pattern: str, most: int) -> Sequence[str]:
        """Look among all channels of the file; raise `UnavailableError` while there is none."""
        return await self._known().matching(pattern, most)

    def expect(self, channels: Sequence[str]) -> None:
        """Do nothing: `subscribe` does not wait."""

    # -- hub.node.broker.NodeBroker -------------------------------------------------------------

    async def start(self) -> None:
        """Open the file; a failure does not raise: the file is tried again then."""
        await self._writer.start()

    async def stop(self) -> None:
        """Write the waiting publications, and close the file."""
        writer = self._writer
        if writer.stopping:
            return
        writer.stopping = True
        loop = asyncio.get_running_loop()
        ends = loop.time() + _STOP_SECONDS
        while writer.busy or ((self._commits.pending) and writer.problem is None):
            if (left := ends - loop.time()) <= 0:
                self._log.warning("history_left_behind", waiting=len(self._waiting))
                break
            await writer.until_idle(left)
        await refuse(self._waiting.all(), self._refusal())
        await self._pages.stop()
        await writer.stop()

    def impaired(self) -> Sequence[str]:
        """Return nothing: the file is this node's alone."""
        return ()

    def problems(self) -> Sequence[str]:
        return () if self._writer.problem is None else (self._writer.problem.message,)

    def away(self) -> Sequence[str]:
        """Return nothing: the broker is this process."""
        return ()

    def record(self) -> BrokerRecord:
        rows = BrokerRecord() if self._commits.memory is None else self._commits.memory.record()
        return BrokerRecord(
            state_rows=rows.state_rows,
            state_row_bytes=rows.state_row_bytes,
            unwritable_servers=0 if self._writer.problem is None else 1,
            pending_calls=len(self._waiting),
            history_bytes=self._tending.used_bytes,
            history_limit_bytes=self._options.history_total_bytes,
        )

    def names(self) -> Sequence[str]:
        return () if self._commits.memory is None else self._commits.memory.names()

    def held(self, channel: str) -> tuple[Position, int | None] | None:
        """Return a channel's head and how many publications are held, in the file or in memory."""
        log = None if self._commits.memory is None else self._commits.memory.find(channel)
        if log is None:
            return None
        stored = self._commits.logs.find(log)
        return log.head, 0 if stored is None else max(0, log.offset - stored.first + 1)

    def rows_held(self, channel: str) -> tuple[int, int] | None:
        """Return how many rows a keyed channel has, and their bytes: memory has them all."""
        memory = self._commits.memory
        return None if memory is None else memory.rows_held(channel)

    def sweep(self) -> None:
        """Forget publications that are too old; look after the file once in a second or two."""
        if self._commits.memory is None:
            return
        self._commits.memory.sweep()
        self._sweeps += 1
        if self._sweeps % _SWEEPS_A_SECOND == 0:
            self._tending.a_second_passed()
            if not self._writer.busy:
                self._writer.soon()

    # -- failures -------------------------------------------------------------------------------

    def _refusal_of(self, count: int, size: int) -> NotPublishedError | None:
        """Return why so many more of this size are not taken; None where they are."""
        if self._writer.problem is not None or self._writer.stopping:
            return self._refusal()
        return self._waiting.refusal(count, size)

    def _refusal(self) -> NotPublishedError:
        if self._writer.problem is not None:
            return NotPublishedError(self._writer.problem.message)
        return NotPublishedError("the hub is stopping")

    def _known(self) -> MemoryBroker:
        """Return the memory broker; raise `UnavailableError` before the file was read."""
        if self._commits.memory is None:
            problem = self._writer.problem
            raise UnavailableError(
                "the history file is not read yet" if problem is None else problem.message
            )
        return self._commits.memory


def _settle(future: "asyncio.Future[T]", outcome: T) -> None:
    """Settle `future`, unless its caller is gone."""
    if not future.done():
        future.set_result(outcome)
