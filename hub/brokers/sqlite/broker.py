"""The durable broker: what it has acknowledged is on the disk, and goes on after a restart.

The memory broker in front holds what is so everywhere: heads, idempotency keys, bounds, and the
newest of history. It knows only what is committed. Behind it one thread writes: whatever came
while it wrote goes into the next commit together, and is numbered, delivered and acknowledged
once that is through fsync. Others read pages that memory does not hold any more.

When the file does not take a commit, nothing of it is published and whoever waits is told
`not_published`; until the file takes something again, publications are refused at once, and
`problems` says why. Whether it does is tried again and again.
"""

import asyncio
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import TypeVar

from structlog.typing import FilteringBoundLogger

from hub.brokers.memory import MemoryBroker
from hub.brokers.memory_history import ChannelLog
from hub.brokers.sqlite.faults import Fault, FileError
from hub.brokers.sqlite.file import HistoryFile
from hub.brokers.sqlite.intake import Batch, StoredLogs
from hub.brokers.sqlite.layout import Stored, StoredKey, StoredRow
from hub.brokers.sqlite.options import SqliteOptions
from hub.brokers.sqlite.reading import Pages
from hub.brokers.sqlite.restoring import Restoring
from hub.brokers.sqlite.tending import Step, Tending
from hub.brokers.sqlite.waiting import Outcome, Waiting
from hub.brokers.sqlite.writing import HistoryWriter, Work
from hub.core.counters import Counters
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
from hub.core.records import BrokerRecord
from hub.errors import HubError, NotPublishedError, OutcomeUnknownError, UnavailableError

# In one commit: what an SSD takes in some milliseconds, so that nobody waits long for another.
MAX_COMMIT_BYTES = 4 * MIB
MAX_COMMIT = 10_000
# How long an end waits for what is being written.
_STOP_SECONDS = 10.0
_SWEEPS_A_SECOND = 20

T = TypeVar("T")


class SqliteBroker:
    """Implements `hub.core.ports.Broker`; one per file, owned by one event loop.

    Args:
        downstream: gets each publication of a subscribed channel, in order, once it is durable.
        wall_clock: seconds since 1970 UTC.
    """

    answers_at_once = True
    publish_now = None
    publish_many_now = None

    def __init__(  # noqa: PLR0913 - what every broker is offered
        self,
        *,
        downstream: Downstream,
        namespaces: Namespaces,
        clock: Monotonic,
        wall_clock: Callable[[], float],
        spawn: Spawn,
        log: FilteringBoundLogger,
        counters: Counters,
        options: SqliteOptions,
    ) -> None:
        self._downstream = downstream
        self._clock = clock
        self._wall_clock = wall_clock
        self._spawn = spawn
        self._log = log
        self._counters = counters
        self._options = options
        self._memory: MemoryBroker | None = None
        """None until the file was read for the first time."""
        self._restoring = Restoring(
            downstream=downstream,
            namespaces=namespaces,
            clock=clock,
            wall_clock=wall_clock,
            options=options,
            on_forgotten=self._on_forgotten,
        )
        self._keys = self._restoring.no_keys()
        self._logs = StoredLogs(1)
        self._clock_begin = (0, 0.0)
        """A time of the file, and what `clock` said then."""
        self._waiting = Waiting()
        self._gone: list[int] = []
        self._ended: dict[int, int] = {}
        self._sweeps = 0
        self._writer = HistoryWriter(
            options.path, self, clock=clock, spawn=spawn, log=log, counters=counters
        )
        self._pages = Pages(spawn, self._on_unreadable)
        self._tending = Tending(options.history_total_bytes, self._logs)
        self._appearances: Appearances | None = None

    # -- hub.core.ports.Broker ------------------------------------------------------------------

    async def publish(self, request: PublishRequest) -> PublishResult:
        """Number, write, deliver.

        Raises `NotPublishedError` where the file does not take it, `OutcomeUnknownError` where
        nobody knows whether it did, `ConflictError` and `UnavailableError` as every broker does.
        """
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.publish_soon(request, partial(_settle, future))
        outcome = await future
        if isinstance(outcome, HubError):
            # Of its own: others of the same commit may raise theirs at the same time.
            raise copy(outcome)
        return outcome

    def publish_soon(self, request: PublishRequest, on_done: OnPublished) -> None:
        """As `publish`; what refuses a whole commit is told to all of it as one error."""
        if (refusal := self._refusal_of(1, len(request.data))) is not None:
            raise refusal
        began = self._clock()

        def settled(outcome: Outcome) -> None:
            self._counters.broker_calls.observe(self._clock() - began)
            on_done(outcome)

        self._waiting.add(request, settled)
        self._writer.soon()

    async def publish_many(self, requests: Sequence[PublishRequest]) -> Sequence[Outcome]:
        """As `publish` for each, in their order; they share commits."""
        if not requests:
            return []
        size = sum([len(request.data) for request in requests])
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
        if self._memory is not None:
            self._memory.unsubscribe(channel)

    async def history(
        self, channel: str, after: int, limit: int, *, max_bytes: int = PAGE_BYTES
    ) -> HistoryPage:
        """A page from memory where that has all that is asked for, else from the file."""
        memory = self._known()
        if (log := memory.find(channel)) is None:
            return await memory.history(channel, after, limit, max_bytes=max_bytes)
        log.used_at_seconds = now = self._clock()
        log.trim(now)
        memory.place(log)
        stored = self._logs.find(log)
        if stored is None or not log.keeps or stored.first > log.offset:
            return HistoryPage(log.head, log.offset + 1, ())
        if after + 1 >= log.oldest or log.oldest <= stored.first:
            page = log.page(after, limit, max_bytes, now_seconds=now)
            if page.publications or after >= log.offset:
                if limit > 1 and 0 < page.last < log.offset:
                    # As in memory: let others have their turn between two pages.
                    await asyncio.sleep(0)
                return HistoryPage(page.head, min(stored.first, page.oldest), page.publications)
        fresh_ms = self._now_ms() - int(log.options.history_ttl_seconds * 1000)
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
        """Returns once the disk has forgotten it too; raises `UnavailableError`."""
        memory = self._known()
        if (log := memory.find(channel)) is None or (stored := self._logs.find(log)) is None:
            return
        through = log.offset

        def work() -> int:
            if (file := self._writer.file) is None:
                raise FileError(Fault.CLOSED, self._options.path)
            return file.clear(stored.id, through)

        try:
            blocks = await self._writer.by_thread(work)
        except FileError as error:
            raise UnavailableError(error.message) from error
        self._tending.cleared(stored, through, blocks)
        log.let_go(through)
        memory.place(log)
        self._writer.soon()

    # -- hub.core.ports.Directory ---------------------------------------------------------------

    def follow(self, appearances: Appearances) -> None:
        """What appears is told when its first publication is written."""
        self._appearances = appearances
        if self._memory is not None:
            self._memory.follow(appearances)

    def unfollow(self) -> None:
        self._appearances = None
        if self._memory is not None:
            self._memory.unfollow()

    async def matching(self, pattern: str, most: int) -> Sequence[str]:
        """Of all channels of the file; raise `UnavailableError` while there is none."""
        return await self._known().matching(pattern, most)

    def expect(self, channels: Sequence[str]) -> None:
        """Nothing in `subscribe` waits."""

    # -- hub.node.broker.NodeBroker -------------------------------------------------------------

    async def start(self) -> None:
        """Open the file; returns also when that fails, and is tried again then."""
        await self._writer.start()

    async def stop(self) -> None:
        """Write what waits, and let go of the file."""
        writer = self._writer
        if writer.stopping:
            return
        writer.stopping = True
        loop = asyncio.get_running_loop()
        ends = loop.time() + _STOP_SECONDS
        while writer.busy or ((self._waiting or self._gone) and writer.problem is None):
            if (left := ends - loop.time()) <= 0:
                self._log.warning("history_left_behind", waiting=len(self._waiting))
                break
            await writer.until_idle(left)
        self._waiting.refuse(self._refusal())
        await self._pages.stop()
        await writer.stop()

    def impaired(self) -> Sequence[str]:
        """Nothing that is so at other nodes: the file is this one's."""
        return ()

    def problems(self) -> Sequence[str]:
        return () if self._writer.problem is None else (self._writer.problem.message,)

    def away(self) -> Sequence[str]:
        """It is this process."""
        return ()

    def record(self) -> BrokerRecord:
        rows = BrokerRecord() if self._memory is None else self._memory.record()
        return BrokerRecord(
            state_rows=rows.state_rows,
            state_row_bytes=rows.state_row_bytes,
            unwritable_servers=0 if self._writer.problem is None else 1,
            pending_calls=len(self._waiting),
            history_bytes=self._tending.used_bytes,
            history_limit_bytes=self._options.history_total_bytes,
        )

    def names(self) -> Sequence[str]:
        return () if self._memory is None else self._memory.names()

    def held(self, channel: str) -> tuple[Position, int | None] | None:
        """The head of a channel and how many publications are held, in the file or in memory."""
        log = None if self._memory is None else self._memory.find(channel)
        if log is None:
            return None
        stored = self._logs.find(log)
        return log.head, 0 if stored is None else max(0, log.offset - stored.first + 1)

    def rows_held(self, channel: str) -> tuple[int, int] | None:
        """How many rows a keyed channel has, and their bytes: memory has them all."""
        return None if self._memory is None else self._memory.rows_held(channel)

    def sweep(self) -> None:
        """Forget what is too old; have the file looked after once a second."""
        if self._memory is None:
            return
        self._memory.sweep()
        self._sweeps += 1
        if self._sweeps % _SWEEPS_A_SECOND == 0:
            self._tending.a_second_passed()
            if not self._writer.busy:
                self._writer.soon()

    # -- hub.brokers.sqlite.writing.Source ------------------------------------------------------

    def next_work(self, file: HistoryFile) -> Work | None:
        """What keeps the file small enough goes first, then what waits, then the rest."""
        if self._writer.stopping and not self._waiting and not self._gone:
            return None
        if self._tending.checkpoint_due():
            self._spawn(self._checkpoint(file))
        coming = min(self._waiting.bytes, MAX_COMMIT_BYTES)
        if (step := self._tending.urgent(file, self._now_ms(), coming)) is not None:
            return self._tend(step)
        if self._waiting or self._gone:
            return self._commit(file)
        if (step := self._tending.next(file, self._now_ms())) is not None:
            return self._tend(step)
        return None

    def refuse(self, error: HubError) -> None:
        self._waiting.refuse(error)

    def _commit(self, file: HistoryFile) -> Work | None:
        memory = self._memory
        assert memory is not None  # noqa: S101 - the file was read before anything waits
        now_ms, waiting = self._now_ms(), self._waiting
        batch = Batch(
            memory,
            self._keys,
            self._logs,
            time_ms=int(self._wall_clock() * 1000),
            taken_ms=now_ms,
            keys_expire_ms=now_ms + int(self._options.idempotency_ttl_seconds * 1000),
        )
        while waiting and len(batch) < MAX_COMMIT and batch.bytes < MAX_COMMIT_BYTES:
            if not batch.take(waiting.first()):
                break
            waiting.taken()
        gone, ended = tuple(self._gone), dict(self._ended)
        if not batch and not gone:
            # All were answered from keys that are remembered.
            if waiting:
                self._writer.soon()
            return None
        commit = batch.commit(self._writer.commits + 1, gone=gone, ended=ended.items())

        def done(error: FileError | None) -> None:
            if error is None:
                self._writer.commits += 1
                del self._gone[: len(gone)]
                for place, generation in ended.items():
                    if self._ended.get(place) == generation:
                        del self._ended[place]
                self._tending.written(len(commit.data), batch.apply())
                return
            fails = OutcomeUnknownError if error.uncertain else NotPublishedError
            batch.fail(fails(error.message))
            self._writer.not_committed(batch, error)

        return partial(file.commit, commit), done

    def _tend(self, step: Step) -> Work:
        """Have the file looked after: `step` is for the one that writes, what it returns for us."""
        found: list[Callable[[], object]] = []

        def done(error: FileError | None) -> None:
            if error is not None:
                self._writer.failed(error)
            else:
                found[0]()

        return lambda: found.append(step()), done

    async def _checkpoint(self, file: HistoryFile) -> None:
        """Bring the WAL into the file beside what is written."""
        try:
            await self._pages.checkpoint(file)
        except FileError as error:
            self._on_unreadable(error)
        finally:
            self._tending.checkpointed()
        self._writer.soon()

    # -- what goes wrong ------------------------------------------------------------------------

    def _refusal_of(self, count: int, size: int) -> NotPublishedError | None:
        """Why so many more of this size are not taken; None where they are."""
        if self._writer.problem is not None or self._writer.stopping:
            return self._refusal()
        return self._waiting.refusal(count, size)

    def _refusal(self) -> NotPublishedError:
        if self._writer.problem is not None:
            return NotPublishedError(self._writer.problem.message)
        return NotPublishedError("the hub is stopping")

    def _known(self) -> MemoryBroker:
        """Once the file was read; raise `UnavailableError` before."""
        if self._memory is None:
            problem = self._writer.problem
            raise UnavailableError(
                "the history file is not read yet" if problem is None else problem.message
            )
        return self._memory

    def _on_unreadable(self, error: FileError) -> None:
        """A page could not be read."""
        if self._writer.problem is None and error.fault is not Fault.LOCKED:
            self._writer.failed(error)

    # -- what the file says ---------------------------------------------------------------------

    def opened(self, file: HistoryFile) -> None:
        self._pages.use(file)
        self._tending.opened()

    def closed(self) -> None:
        self._pages.forget()

    async def begin(self, file: HistoryFile, stored: Stored) -> None:
        """Know all channels and keys of the file, and only these."""
        wall_ms = int(self._wall_clock() * 1000)
        self._clock_begin = (max(wall_ms, stored.clock_ms), self._clock())
        now_ms = self._now_ms()

        async def load_keys(after: int, limit: int) -> Sequence[StoredKey]:
            return await self._writer.by_thread(partial(file.load_keys, after, now_ms, limit))

        async def load_rows(after: tuple[int, str], limit: int) -> Sequence[StoredRow]:
            return await self._writer.by_thread(partial(file.load_rows, after, limit))

        known = await self._restoring.known(stored, now_ms, load_keys, load_rows)
        before, self._memory, self._keys = self._memory, known.memory, known.keys
        self._logs, self._gone, self._ended = known.logs, list(known.gone), {}
        self._tending.begin(known.logs)
        appearances = self._appearances
        if appearances is not None:
            known.memory.follow(appearances)
        if before is not None:
            self._log.warning("history_replaced", path=self._options.path)
            await self._reset(before, known.memory)
            if appearances is not None:
                appearances.missed()
        channels, keys = len(stored.channels), len(known.keys)
        self._log.info("history_opened", path=self._options.path, channels=channels, keys=keys)

    async def _reset(self, before: MemoryBroker, memory: MemoryBroker) -> None:
        """Everybody is told of the epochs that another file has begun."""
        for name in before.names():
            log = before.find(name)
            if log is not None and log.subscribed:
                await memory.subscribe(name, partial(self._downstream.reset, name))
                self._counters.broker_resets += 1

    def _on_forgotten(self, log: ChannelLog, ended: tuple[int, int]) -> None:
        """The file is to forget the channel with the next commit; its blocks go by age."""
        if (stored := self._logs.forget(log)) is not None:
            self._gone.append(stored.id)
            self._tending.forgotten(stored.id)
        place, generation = ended
        self._ended[place] = generation
        self._writer.soon()

    def _now_ms(self) -> int:
        """The time that history ages by: as much later as the clock went on."""
        begin_ms, began = self._clock_begin
        return begin_ms + int((self._clock() - began) * 1000)


def _settle(future: "asyncio.Future[T]", outcome: T) -> None:
    """Whoever waited may be gone."""
    if not future.done():
        future.set_result(outcome)
