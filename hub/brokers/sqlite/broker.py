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
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import partial
from pathlib import Path
from shutil import disk_usage
from typing import TypeVar

from structlog.typing import FilteringBoundLogger

from hub.brokers.memory import MemoryBroker
from hub.brokers.memory_history import ChannelLog
from hub.brokers.sqlite.faults import Fault, FileError, translated
from hub.brokers.sqlite.file import HistoryFile, Stored, StoredKey, StoredRow
from hub.brokers.sqlite.intake import Batch, StoredLogs
from hub.brokers.sqlite.options import SqliteOptions
from hub.brokers.sqlite.reading import Pages
from hub.brokers.sqlite.restoring import Restoring
from hub.brokers.sqlite.tending import Tending
from hub.brokers.sqlite.waiting import Outcome, Waiting
from hub.core.counters import Counters
from hub.core.options import MIB, Namespaces
from hub.core.ports import (
    PAGE_BYTES,
    Appeared,
    Downstream,
    HistoryPage,
    Monotonic,
    OnOpen,
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
# Between attempts at a file that does not take what it should. Guesses.
FIRST_RETRY_SECONDS = 0.1
MAX_RETRY_SECONDS = 2.0
# A disk that has no more than this beside what was to be written counts as full still.
_ROOM_BYTES = 256 * 1024
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
        self._file: HistoryFile | None = None
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
        self._line = ""
        self._commits = 0
        self._clock_begin = (0, 0.0)
        """A time of the file, and what `clock` said then."""
        self._problem: FileError | None = FileError(Fault.CLOSED, options.path)
        self._recovering = False
        self._uncertain: Batch | None = None
        """A commit that failed and may be in the file all the same."""
        self._waiting = Waiting()
        self._wanted_bytes = 0
        """Of the commit that failed last: a disk must have room for it to count as mended."""
        self._busy = False
        """Whether the one that writes has something to do."""
        self._soon = False
        self._stopping = False
        self._idle: asyncio.Future[None] | None = None
        self._gone: list[int] = []
        self._ended: dict[int, int] = {}
        self._sweeps = 0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="history-writer")
        self._pages = Pages(spawn, self._on_unreadable)
        self._tending = Tending(options.history_total_bytes, self._logs)
        self._appeared: Appeared | None = None

    # -- hub.core.ports.Broker ------------------------------------------------------------------

    async def publish(self, request: PublishRequest) -> PublishResult:
        """Number, write, deliver.

        Raises `NotPublishedError` where the file does not take it, `OutcomeUnknownError` where
        nobody knows whether it did, `ConflictError` and `UnavailableError` as every broker does.
        """
        size = len(request.data)
        if (refusal := self._refusal_of(1, size)) is not None:
            raise refusal
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.add(request, partial(_settle, future))
        self._write_soon()
        began = self._clock()
        outcome = await future
        self._counters.broker_calls.observe(self._clock() - began)
        if isinstance(outcome, HubError):
            # Of its own: others of the same commit may raise theirs at the same time.
            raise copy(outcome)
        return outcome

    async def publish_many(self, requests: Sequence[PublishRequest]) -> Sequence[Outcome]:
        """As `publish` for each, in their order; they share commits."""
        if not requests:
            return []
        size = sum([len(request.data) for request in requests])
        if (refusal := self._refusal_of(len(requests), size)) is not None:
            return [refusal] * len(requests)
        future: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()
        self._waiting.add_many(requests, size, partial(_settle, future))
        self._write_soon()
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
            if (file := self._file) is None:
                raise FileError(Fault.CLOSED, self._options.path)
            return file.clear(stored.id, through)

        try:
            blocks = await self._by_writer(work)
        except FileError as error:
            raise UnavailableError(error.message) from error
        self._tending.cleared(stored, through, blocks)
        log.let_go(through)
        memory.place(log)
        self._write_soon()

    # -- hub.core.ports.Directory ---------------------------------------------------------------

    async def follow(self, appeared: Appeared) -> Sequence[str]:
        """All channels of the file; `appeared` is called when a first publication is written."""
        names = await self._known().follow(appeared)
        self._appeared = appeared
        return names

    def unfollow(self) -> None:
        self._appeared = None
        if self._memory is not None:
            self._memory.unfollow()

    # -- hub.node.broker.NodeBroker -------------------------------------------------------------

    async def start(self) -> None:
        """Open the file; returns also when that fails, and is tried again then."""
        try:
            await self._take_up(await self._by_writer(self._opened))
        except FileError as error:
            self._failed(error)

    async def stop(self) -> None:
        """Write what waits, and let go of the file."""
        if self._stopping:
            return
        self._stopping = True
        loop = asyncio.get_running_loop()
        ends = loop.time() + _STOP_SECONDS
        while self._busy or ((self._waiting or self._gone) and self._problem is None):
            if (left := ends - loop.time()) <= 0:
                self._log.warning("history_left_behind", waiting=len(self._waiting))
                break
            self._idle = loop.create_future()
            self._write_soon()
            await asyncio.wait([self._idle], timeout=left)
        self._waiting.refuse(self._refusal())
        await self._pages.stop()
        if not self._busy:
            await self._by_writer(self._close)
        self._writer.shutdown(wait=False, cancel_futures=True)

    def impaired(self) -> Sequence[str]:
        """Nothing that is so at other nodes: the file is this one's."""
        return ()

    def problems(self) -> Sequence[str]:
        return () if self._problem is None else (self._problem.message,)

    def away(self) -> Sequence[str]:
        """It is this process."""
        return ()

    def record(self) -> BrokerRecord:
        return BrokerRecord(
            unwritable_servers=0 if self._problem is None else 1,
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

    def sweep(self) -> None:
        """Forget what is too old; have the file looked after once a second."""
        if self._memory is None:
            return
        self._memory.sweep()
        self._sweeps += 1
        if self._sweeps % _SWEEPS_A_SECOND == 0:
            self._tending.a_second_passed()
            if not self._busy:
                self._write_soon()

    # -- writing --------------------------------------------------------------------------------

    def _write_soon(self) -> None:
        """At the end of this turn of the loop, so that all that it brings goes together."""
        if not self._busy and not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_soon(self._write_now)

    def _write_now(self) -> None:
        self._soon = False
        self._next()

    def _next(self) -> None:
        """Give the one that writes its next work, if there is any."""
        done = self._stopping and not self._waiting and not self._gone
        if self._busy or done or self._problem is not None or self._file is None:
            self._told_idle()
            return
        if self._tending.checkpoint_due():
            self._spawn(self._checkpoint(self._file))
        coming = min(self._waiting.bytes, MAX_COMMIT_BYTES)
        if (step := self._tending.urgent(self._file, self._now_ms(), coming)) is not None:
            self._tend(step)
        elif self._waiting or self._gone:
            self._commit()
        elif (step := self._tending.next(self._file, self._now_ms())) is not None:
            self._tend(step)
        else:
            self._told_idle()

    def _told_idle(self) -> None:
        if self._idle is not None and not self._idle.done() and not self._busy:
            self._idle.set_result(None)

    def _commit(self) -> None:
        memory, file = self._memory, self._file
        assert memory is not None  # noqa: S101 - the caller has looked
        assert file is not None  # noqa: S101
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
                self._write_soon()
            else:
                self._told_idle()
            return
        commit = batch.commit(self._commits + 1, gone=gone, ended=ended.items())
        self._busy = True

        def done(error: FileError | None) -> None:
            self._busy = False
            if error is None:
                self._commits += 1
                del self._gone[: len(gone)]
                for place, generation in ended.items():
                    if self._ended.get(place) == generation:
                        del self._ended[place]
                self._tending.written(len(commit.data), batch.apply())
            else:
                self._not_committed(batch, error)
            self._next()

        self._write(partial(file.commit, commit), done)

    def _tend(self, step: Callable[[], Callable[[], object]]) -> None:
        """Have the file looked after: `step` is for the one that writes, what it returns for us."""
        self._busy = True

        def done(error: FileError | None) -> None:
            self._busy = False
            if error is not None:
                self._failed(error)
            else:
                found[0]()
            self._next()

        found: list[Callable[[], object]] = []
        self._write(lambda: found.append(step()), done)

    async def _checkpoint(self, file: HistoryFile) -> None:
        """Bring the WAL into the file beside what is written."""
        try:
            await self._pages.checkpoint(file)
        except FileError as error:
            self._on_unreadable(error)
        finally:
            self._tending.checkpointed()
        self._write_soon()

    def _write(self, work: Callable[[], object], done: Callable[[FileError | None], None]) -> None:
        """Run `work` where writing is done, and `done` here."""
        future = asyncio.get_running_loop().run_in_executor(self._writer, work)

        def on_done(finished: asyncio.Future[object]) -> None:
            error = None if finished.cancelled() else finished.exception()
            if error is not None and not isinstance(error, FileError):
                self._log.error("history_writer_failed", exc_info=error)
                error = FileError(Fault.IO, self._options.path, "see the log", uncertain=True)
            done(error)

        future.add_done_callback(on_done)

    async def _by_writer(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    # -- what goes wrong ------------------------------------------------------------------------

    def _not_committed(self, batch: Batch, error: FileError) -> None:
        self._wanted_bytes = batch.bytes
        if error.uncertain:
            self._uncertain = batch
            batch.fail(OutcomeUnknownError(error.message))
        else:
            batch.fail(NotPublishedError(error.message))
        self._failed(error)

    def _failed(self, error: FileError) -> None:
        """Refuse what comes until the file takes something again, and see to it."""
        before, self._problem = self._problem, error
        if before is None or before.fault is not error.fault or not self._recovering:
            self._log.error("history_not_written", reason=error.message, fault=str(error.fault))
        self._counters.broker_call_errors["refused"] += 1
        self._waiting.refuse(NotPublishedError(error.message))
        if not self._recovering and not self._stopping:
            self._recovering = True
            self._spawn(self._recover())

    def _refusal_of(self, count: int, size: int) -> NotPublishedError | None:
        """Why so many more of this size are not taken; None where they are."""
        if self._problem is not None or self._stopping:
            return self._refusal()
        return self._waiting.refusal(count, size)

    def _refusal(self) -> NotPublishedError:
        if self._problem is not None:
            return NotPublishedError(self._problem.message)
        return NotPublishedError("the hub is stopping")

    def _known(self) -> MemoryBroker:
        """Once the file was read; raise `UnavailableError` before."""
        if self._memory is None:
            problem = self._problem
            raise UnavailableError(
                "the history file is not read yet" if problem is None else problem.message
            )
        return self._memory

    def _on_unreadable(self, error: FileError) -> None:
        """A page could not be read."""
        if self._problem is None and error.fault is not Fault.LOCKED:
            self._failed(error)

    async def _recover(self) -> None:
        """Try until the file takes something again."""
        began, delay_seconds = self._clock(), FIRST_RETRY_SECONDS
        try:
            while not self._stopping:
                await asyncio.sleep(delay_seconds)
                delay_seconds = min(delay_seconds * 2, MAX_RETRY_SECONDS)
                if self._busy or self._stopping:
                    continue
                self._busy = True
                try:
                    await self._take_up(await self._by_writer(self._mended))
                except FileError as error:
                    self._failed(error)
                else:
                    away_seconds = round(self._clock() - began, 3)
                    self._log.info("history_written_again", seconds=away_seconds)
                    return
                finally:
                    self._busy = False
        finally:
            self._recovering = False
            self._write_soon()

    def _mended(self) -> Stored | None:
        """What the file says where it had to be opened again, None where it goes on as it is.

        By the one that writes; raises `FileError`.
        """
        path, problem, file = self._options.path, self._problem, self._file
        if problem is not None and problem.fault is Fault.FULL:
            try:
                free = disk_usage(Path(path).parent).free
            except OSError as error:
                raise translated(error, path) from error
            if free < _ROOM_BYTES + 2 * self._wanted_bytes:
                raise FileError(Fault.FULL, path, f"{free:,} bytes are free")
        certain = self._uncertain is None
        if file is not None and certain and problem and problem.fault in {Fault.FULL, Fault.LOCKED}:
            file.check()
            return None
        self._close()
        return self._opened()

    def _opened(self) -> Stored:
        """By the one that writes; raises `FileError`."""
        file = HistoryFile(self._options.path)
        try:
            stored = file.load()
            if self._memory is not None and not self._goes_on(stored):
                # Somebody has put another file there. What was given out meanwhile must not be
                # given out again.
                file.begin_line()
                stored = file.load()
            file.check()
        except BaseException:
            file.close()
            raise
        self._file = file
        return stored

    def _goes_on(self, stored: Stored) -> bool:
        """Whether it is the file that was written here, and stands where it was left."""
        possible = {self._commits} if self._uncertain is None else {
            self._commits, self._commits + 1,
        }  # fmt: skip
        return stored.line == self._line and stored.commits in possible

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            self._pages.forget()
            file.close()

    # -- what the file says ---------------------------------------------------------------------

    async def _take_up(self, stored: Stored | None) -> None:
        """Go on from what the file says."""
        file = self._file
        if stored is not None and file is not None:
            uncertain, self._uncertain = self._uncertain, None
            if self._memory is None or stored.line != self._line:
                await self._begin(file, stored)
            elif stored.commits > self._commits and uncertain is not None:
                self._commits = stored.commits
                uncertain.apply()
            self._pages.use(file)
            self._tending.opened()
        self._problem = None
        self._write_soon()

    async def _begin(self, file: HistoryFile, stored: Stored) -> None:
        """Know all channels and keys of the file, and only these."""
        self._line, self._commits = stored.line, stored.commits
        wall_ms = int(self._wall_clock() * 1000)
        self._clock_begin = (max(wall_ms, stored.clock_ms), self._clock())
        now_ms = self._now_ms()

        async def load_keys(after: int, limit: int) -> Sequence[StoredKey]:
            return await self._by_writer(partial(file.load_keys, after, now_ms, limit))

        async def load_rows(after: tuple[int, str], limit: int) -> Sequence[StoredRow]:
            return await self._by_writer(partial(file.load_rows, after, limit))

        known = await self._restoring.known(stored, now_ms, load_keys, load_rows)
        before, self._memory, self._keys = self._memory, known.memory, known.keys
        self._logs, self._gone, self._ended = known.logs, list(known.gone), {}
        self._tending.begin(known.logs)
        if before is not None:
            self._log.warning("history_replaced", path=self._options.path)
            await self._reset(before, known.memory)
        channels, keys = len(stored.channels), len(known.keys)
        self._log.info("history_opened", path=self._options.path, channels=channels, keys=keys)

    async def _reset(self, before: MemoryBroker, memory: MemoryBroker) -> None:
        """Everybody is told of the epochs that another file has begun."""
        for name in before.names():
            log = before.find(name)
            if log is not None and log.subscribed:
                await memory.subscribe(name, partial(self._downstream.reset, name))
                self._counters.broker_resets += 1
        if self._appeared is not None:
            for name in await memory.follow(self._appeared):
                self._appeared(name)

    def _on_forgotten(self, log: ChannelLog, ended: tuple[int, int]) -> None:
        """The file is to forget the channel with the next commit; its blocks go by age."""
        if (stored := self._logs.forget(log)) is not None:
            self._gone.append(stored.id)
            self._tending.forgotten(stored.id)
        place, generation = ended
        self._ended[place] = generation
        self._write_soon()

    def _now_ms(self) -> int:
        """The time that history ages by: as much later as the clock went on."""
        begin_ms, began = self._clock_begin
        return begin_ms + int((self._clock() - began) * 1000)


def _settle(future: "asyncio.Future[T]", outcome: T) -> None:
    """Whoever waited may be gone."""
    if not future.done():
        future.set_result(outcome)
