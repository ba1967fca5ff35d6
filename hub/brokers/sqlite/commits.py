"""The next commit of the history file, and the state in memory that each opened file begins with.

The thread that writes asks for one piece of work after another
(`hub.brokers.sqlite.writing.Source`). Work that keeps the file small goes first, then the waiting
publications, then the rest. The memory broker, the stored logs and the idempotency keys are made
anew from each file that is opened (`Restoring`). Publications stay in the file. The file is read in
parts, so that a file with very many channels never holds the loop for long.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from hub.brokers.idempotency import IdempotencyKeys, lasting_content
from hub.brokers.memory import MemoryBroker
from hub.brokers.memory_history import ChannelLog
from hub.brokers.memory_names import Epochs
from hub.brokers.sqlite.faults import Fault, FileError
from hub.brokers.sqlite.file import HistoryFile
from hub.brokers.sqlite.intake import Batch, StoredLogs, Waiting
from hub.brokers.sqlite.layout import Stored, StoredKey, StoredRow, records
from hub.brokers.sqlite.options import SqliteContext
from hub.brokers.sqlite.reading import Pages
from hub.brokers.sqlite.tending import Step, Tending
from hub.brokers.sqlite.writing import HistoryWriter, Work
from hub.core.options import MIB
from hub.core.ports import Appearances
from hub.core.publication import Position, Publication
from hub.errors import HubError, NotPublishedError, OutcomeUnknownError

# The newest of all channels, for whoever comes back after a short absence.
MEMORY_BYTES = 32 * MIB
# Of rows of state, all of which are in memory too. A guess.
ROWS_BYTES = 256 * MIB
# Some milliseconds each.
_KEYS_AT_A_TIME = 2000
_CHANNELS_AT_A_TIME = 2000

LoadKeys = Callable[[int, int], Awaitable[Sequence[StoredKey]]]
"""At most so many that were made after one of this id, the oldest first."""

LoadRows = Callable[[tuple[int, str], int], Awaitable[Sequence[StoredRow]]]
"""At most so many rows that follow this channel and key."""


@dataclass(frozen=True, slots=True)
class Known:
    """Of a file."""

    memory: MemoryBroker
    keys: IdempotencyKeys
    logs: StoredLogs
    gone: Sequence[int]
    """Channels that are more than may be kept, by id."""


class Restoring:
    """One per broker: makes what the memory broker would be, had it never ended."""

    def __init__(
        self,
        context: SqliteContext,
        *,
        on_forgotten: Callable[[ChannelLog, tuple[int, int]], None],
    ) -> None:
        self._downstream = context.downstream
        self._namespaces = context.namespaces
        self._clock = context.clock
        self._wall_clock = context.wall_clock
        self._options = context.options
        self._on_forgotten = on_forgotten

    async def known(
        self, stored: Stored, now_ms: int, load_keys: LoadKeys, load_rows: LoadRows
    ) -> Known:
        """Everything of a file, whose clock says `now_ms`."""
        keys, logs = self.no_keys(), StoredLogs(stored.next_id)
        memory = self._memory(keys, Epochs(stored.secret, stored.ended))
        # What is more than may be kept was used longest ago.
        excess = max(0, len(stored.channels) - self._options.max_channels)
        now = self._clock()
        for number, channel in enumerate(stored.channels[excess:], 1):
            used_at = now - max(0, now_ms - channel.used_ms) / 1000
            head = Position(channel.epoch, channel.offset)
            log = memory.restore(head, channel.name, used_at)
            logs.add(log, id_=channel.id, oldest=channel.oldest)
            memory.place(log)
            if number % _CHANNELS_AT_A_TIME == 0:
                await asyncio.sleep(0)
        after = 0
        while found := await load_keys(after, _KEYS_AT_A_TIME):
            after = found[-1].id
            for each in found:
                keys.restore(
                    each.publisher,
                    bytes.fromhex(each.scope),
                    each.content,
                    (each.expires_ms - now_ms) / 1000,
                    Position(each.epoch, each.offset),
                )
        await self._restore_rows(logs, now_ms, load_rows)
        gone = [channel.id for channel in stored.channels[:excess]]
        return Known(memory, keys, logs, gone)

    async def _restore_rows(self, logs: StoredLogs, now_ms: int, load_rows: LoadRows) -> None:
        """Those that changed first come first, in each channel."""
        rows: list[tuple[ChannelLog, Publication, int]] = []
        after = (0, "")
        while found := await load_rows(after, _KEYS_AT_A_TIME):
            after = (found[-1].channel, found[-1].key)
            for each in found:
                if (stored := logs.by_id(each.channel)) is not None:
                    found_here = records(stored.log.name, each.data)
                    rows += [(stored.log, row, each.taken_ms) for row in found_here]
        rows.sort(key=lambda each: each[1].offset)
        now = self._clock()
        for number, (log, row, taken_ms) in enumerate(rows, 1):
            log.restore_row(row, now - max(0, now_ms - taken_ms) / 1000)
            if number % _KEYS_AT_A_TIME == 0:
                await asyncio.sleep(0)

    def no_keys(self) -> IdempotencyKeys:
        return IdempotencyKeys(
            ttl_seconds=self._options.idempotency_ttl_seconds,
            clock=self._clock,
            max_keys=self._options.idempotency_max_keys,
            content=lasting_content,
        )

    def _memory(self, keys: IdempotencyKeys, epochs: Epochs) -> MemoryBroker:
        options = self._options
        return MemoryBroker(
            downstream=self._downstream,
            namespaces=self._namespaces,
            clock=self._clock,
            wall_clock=self._wall_clock,
            idempotency=keys,
            position_ttl_seconds=options.position_ttl_seconds,
            max_channels=options.max_channels,
            history_total_bytes=min(MEMORY_BYTES, options.history_total_bytes),
            rows_total_bytes=min(ROWS_BYTES, options.history_total_bytes),
            epochs=epochs,
            on_forgotten=self._on_forgotten,
        )


# In one commit: what an SSD takes in some milliseconds, so that nobody waits long for another.
MAX_COMMIT_BYTES = 4 * MIB
MAX_COMMIT = 10_000


class Commits:
    """One per broker; implements `hub.brokers.sqlite.writing.Source`."""

    def __init__(self, context: SqliteContext) -> None:
        options, clock = context.options, context.clock
        self._downstream = context.downstream
        self._clock = clock
        self._wall_clock = context.wall_clock
        self._spawn = context.spawn
        self._log = context.log
        self._counters = context.counters
        self._options = options
        self.memory: MemoryBroker | None = None
        """None until the file was read for the first time."""
        self._restoring = Restoring(context, on_forgotten=self._on_forgotten)
        self._keys = self._restoring.no_keys()
        self.logs = StoredLogs(1)
        self._clock_begin = (0, 0.0)
        """A time of the file, and what `clock` said then."""
        self.waiting = Waiting()
        self._gone: list[int] = []
        self._ended: dict[int, int] = {}
        self.writer = HistoryWriter(
            options.path,
            self,
            clock=clock,
            spawn=context.spawn,
            log=context.log,
            counters=context.counters,
        )
        self.pages = Pages(context.spawn, self._on_unreadable)
        self.tending = Tending(options.history_total_bytes, self.logs)
        self.appearances: Appearances | None = None
        """Told of channels that appear; None where nobody follows them."""

    @property
    def pending(self) -> bool:
        """Whether anything is to be written."""
        return bool(self.waiting or self._gone)

    def next_work(self, file: HistoryFile) -> Work | None:
        """What keeps the file small enough goes first, then what waits, then the rest."""
        if self.writer.stopping and not self.pending:
            return None
        if self.tending.checkpoint_due():
            self._spawn(self._checkpoint(file))
        coming = min(self.waiting.bytes, MAX_COMMIT_BYTES)
        if (step := self.tending.urgent(file, self.now_ms(), coming)) is not None:
            return self._tend(step)
        if self.waiting or self._gone:
            return self._commit(file)
        if (step := self.tending.next(file, self.now_ms())) is not None:
            return self._tend(step)
        return None

    def refuse(self, error: HubError) -> None:
        self.waiting.refuse(error)

    def _commit(self, file: HistoryFile) -> Work | None:
        memory = self.memory
        assert memory is not None  # noqa: S101 - the file was read before anything waits
        now_ms, waiting = self.now_ms(), self.waiting
        batch = Batch(
            memory,
            self._keys,
            self.logs,
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
                self.writer.soon()
            return None
        commit = batch.commit(self.writer.commits + 1, gone=gone, ended=ended.items())

        def done(error: FileError | None) -> None:
            if error is None:
                self.writer.commits += 1
                del self._gone[: len(gone)]
                for place, generation in ended.items():
                    if self._ended.get(place) == generation:
                        del self._ended[place]
                self.tending.written(len(commit.data), batch.apply())
                return
            fails = OutcomeUnknownError if error.uncertain else NotPublishedError
            batch.fail(fails(error.message))
            self.writer.not_committed(batch, error)

        return partial(file.commit, commit), done

    def _tend(self, step: Step) -> Work:
        """Have the file looked after: `step` is for the one that writes, what it returns for us."""
        found: list[Callable[[], object]] = []

        def done(error: FileError | None) -> None:
            if error is not None:
                self.writer.failed(error)
            else:
                found[0]()

        return lambda: found.append(step()), done

    async def _checkpoint(self, file: HistoryFile) -> None:
        """Bring the WAL into the file beside what is written."""
        try:
            await self.pages.checkpoint(file)
        except FileError as error:
            self._on_unreadable(error)
        finally:
            self.tending.checkpointed()
        self.writer.soon()

    def _on_unreadable(self, error: FileError) -> None:
        """A page could not be read."""
        if self.writer.problem is None and error.fault is not Fault.LOCKED:
            self.writer.failed(error)

    def opened(self, file: HistoryFile) -> None:
        self.pages.use(file)
        self.tending.opened()

    def closed(self) -> None:
        self.pages.forget()

    async def begin(self, file: HistoryFile, stored: Stored) -> None:
        """Know all channels and keys of the file, and only these."""
        wall_ms = int(self._wall_clock() * 1000)
        self._clock_begin = (max(wall_ms, stored.clock_ms), self._clock())
        now_ms = self.now_ms()

        async def load_keys(after: int, limit: int) -> Sequence[StoredKey]:
            return await self.writer.by_thread(partial(file.load_keys, after, now_ms, limit))

        async def load_rows(after: tuple[int, str], limit: int) -> Sequence[StoredRow]:
            return await self.writer.by_thread(partial(file.load_rows, after, limit))

        known = await self._restoring.known(stored, now_ms, load_keys, load_rows)
        before, self.memory, self._keys = self.memory, known.memory, known.keys
        self.logs, self._gone, self._ended = known.logs, list(known.gone), {}
        self.tending.begin(known.logs)
        appearances = self.appearances
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
        if (stored := self.logs.forget(log)) is not None:
            self._gone.append(stored.id)
            self.tending.forgotten(stored.id)
        place, generation = ended
        self._ended[place] = generation
        self.writer.soon()

    def now_ms(self) -> int:
        """The time that history ages by: as much later as the clock went on."""
        begin_ms, began = self._clock_begin
        return begin_ms + int((self._clock() - began) * 1000)
