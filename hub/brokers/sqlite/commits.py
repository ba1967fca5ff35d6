"""The next commit of the history file, and the other work of the thread that writes.

That thread asks for one piece of work after another (`hub.brokers.sqlite.writing.WorkSource`). Work
that keeps the file small goes first, then the waiting publications, then the rest.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from hub.brokers.memory import MemoryBroker
from hub.brokers.memory_history import ChannelLog
from hub.brokers.sqlite.commit_group import CommitGroup
from hub.brokers.sqlite.context import SqliteContext
from hub.brokers.sqlite.faults import Fault, FileError, translating_content
from hub.brokers.sqlite.file import HistoryFile
from hub.brokers.sqlite.intake import StoredLogs, Waiting, WaitingPublication, refuse
from hub.brokers.sqlite.layout import Stored, StoredKey, StoredRow
from hub.brokers.sqlite.reading import PageReader
from hub.brokers.sqlite.recent import MOVED_BYTES, Recent
from hub.brokers.sqlite.restoring import Restoring
from hub.brokers.sqlite.tending import Step, Tending
from hub.brokers.sqlite.writing import HistoryWriter, Work
from hub.core.eager import NEXT_TURN, Rest, begin
from hub.core.options import MIB
from hub.core.ports import Appearances
from hub.errors import HubError, NotPublishedError, OutcomeUnknownError

# Publications gather for a commit while each turn of the loop brings more, and no longer than this.
_GATHER_SECONDS = 0.001
# Bytes of one commit at most: an SSD takes so much in some milliseconds, so that no publisher waits
# long for another.
MAX_COMMIT_BYTES = 4 * MIB
# Channels that are told in one turn that another file has begun new epochs.
RESET_AT_ONCE = 200


class Commits:
    """Gives the writing thread its work (`hub.brokers.sqlite.writing.WorkSource`)."""

    def __init__(self, context: SqliteContext) -> None:
        self._context = context
        self.memory: MemoryBroker | None = None
        """None until the file was read for the first time."""
        self._restoring = Restoring(context, on_forgotten=self._on_forgotten)
        self._keys = self._restoring.no_keys()
        self.logs = StoredLogs(1)
        self._clock_begin = (0, 0.0)
        """A time of the file, and the time of `clock` at that moment."""
        self.waiting = Waiting()
        self._gathered = 0
        """How many waited in the last turn of the loop, while publications are gathered."""
        self._gathers_until = 0.0
        self._gone: list[int] = []
        self._ended: dict[int, int] = {}
        self.writer = HistoryWriter(
            context.options.path,
            self,
            clock=context.clock,
            spawn=context.spawn,
            log=context.log,
            counters=context.counters,
        )
        total_bytes = context.options.history_total_bytes
        self.recent = Recent(min(MOVED_BYTES, total_bytes // 16))
        self.pages = PageReader(context.spawn, self.recent, self._on_unreadable, context.log)
        most = self._restoring.max_keys
        self.tending = Tending(total_bytes, self.logs, self.recent, max_keys=most)
        self.appearances: Appearances | None = None
        """Gets the names of channels that appear; None where no session follows them."""

    @property
    def pending(self) -> bool:
        """Whether anything is to be written."""
        return bool(self.waiting or self._gone or self.logs.has_gone_rows)

    def next_work(self, file: HistoryFile) -> Work | None:
        """Return what keeps the file small enough, else a commit, else other upkeep."""
        if self.writer.stopping and not self.pending:
            return None
        if self.tending.checkpoint_due():
            self._context.spawn(self._checkpoint(file))
        coming = min(self.waiting.bytes, MAX_COMMIT_BYTES) if self.pending else None
        if (step := self.tending.urgent(file, self.now_ms(), coming)) is not None:
            return self._tend(step)
        if self.pending:
            return self._commit(file)
        if (step := self.tending.next(file, self.now_ms())) is not None:
            return self._tend(step)
        return None

    def grows(self) -> bool:
        """Return whether to gather publications for one more turn: so few more cost a commit."""
        before, self._gathered = self._gathered, len(self.waiting)
        if self._gathered <= before:
            self._gathered = 0
            return False
        now = self._context.clock()
        if not before:
            self._gathers_until = now + _GATHER_SECONDS
        return now < self._gathers_until

    def refuse(self, error: HubError) -> None:
        self._refuse(self.waiting.all(), error)

    def _refuse(self, tickets: Iterable[WaitingPublication], error: HubError) -> None:
        if isinstance(rest := begin(refuse(tickets, error)), Rest):
            self._context.spawn(rest.run())

    def _commit(self, file: HistoryFile) -> Work | None:
        memory = self.memory
        assert memory is not None  # noqa: S101 - the file was read before anything waits
        now_ms, waiting = self.now_ms(), self.waiting
        batch = CommitGroup(
            memory,
            self._keys,
            self.logs,
            time_ms=int(self._context.wall_clock() * 1000),
            taken_ms=now_ms,
            keys_expire_ms=now_ms + int(self._context.options.idempotency_ttl_seconds * 1000),
        )
        while waiting and batch.bytes < MAX_COMMIT_BYTES and not batch.full:
            if not batch.take(waiting.first()):
                break
            waiting.taken()
        gone, ended = tuple(self._gone), dict(self._ended)
        if not (batch or gone or batch.has_gone_rows):
            # All were answered from remembered keys, and rows that had gone have come again.
            if self.pending:
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
                self.recent.add(commit)
                self.tending.written(len(commit.data), len(commit.made))
                batch.apply()
                return
            fails = OutcomeUnknownError if error.uncertain else NotPublishedError
            self._refuse(batch.fail(), fails(error.message))
            self.writer.not_committed(batch, error)

        return partial(file.commit, commit), done

    def _tend(self, step: Step) -> Work:
        """Return `step` as work of the writing thread, whose result the loop then calls."""
        found: list[Callable[[], object]] = []

        def done(error: FileError | None) -> None:
            if error is not None:
                self.writer.not_done(error, self.recent.step_bytes)
            else:
                found[0]()

        return lambda: found.append(step()), done

    async def _checkpoint(self, file: HistoryFile) -> None:
        """Copy the WAL into the file, beside the thread that writes."""
        try:
            await self.pages.checkpoint(file)
        except FileError as error:
            self._on_unreadable(error)
        finally:
            self.tending.checkpointed()
        self.writer.soon()

    def _on_unreadable(self, error: FileError) -> None:
        """Try the file anew: a page could not be read."""
        passing = error.fault in {Fault.LOCKED, Fault.CLOSED}
        if self.writer.problem is None and not passing:
            self.writer.failed(error)

    def opened(self, file: HistoryFile) -> None:
        self.recent.clear()
        self.pages.use(file)
        self.tending.opened()

    def closed(self) -> None:
        self.pages.forget()

    async def begin(self, file: HistoryFile, stored: Stored) -> None:
        """Know all channels and keys of the file, and only these."""
        wall_ms = int(self._context.wall_clock() * 1000)
        self._clock_begin = (max(wall_ms, stored.clock_ms), self._context.clock())
        now_ms = self.now_ms()

        async def load_keys(after: int, limit: int) -> Sequence[StoredKey]:
            return await self.writer.by_thread(partial(file.load_keys, after, now_ms, limit))

        async def load_rows(after: tuple[int, str], limit: int) -> Sequence[StoredRow]:
            return await self.writer.by_thread(partial(file.load_rows, after, limit))

        with translating_content(file.path):
            known = await self._restoring.known(stored, now_ms, load_keys, load_rows)
        before, self.memory, self._keys = self.memory, known.memory, known.keys
        self.logs, self._gone, self._ended = known.logs, list(known.gone), {}
        self.recent.clear()
        self.tending.begin(known.logs, known.crowded, known.keys, known.keys_stored)
        appearances = self.appearances
        if appearances is not None:
            known.memory.follow(appearances)
        if before is not None:
            self._context.log.warning("history_replaced", path=self._context.options.path)
            await self._reset(before, known.memory)
            if appearances is not None:
                appearances.missed()
        if damaged := len(file.damaged_rows_of_keys):
            path = self._context.options.path
            self._context.log.error("history_damaged", path=path, rows_of_keys=damaged)
        channels, keys = len(stored.channels), len(known.keys)
        self._context.log.info(
            "history_opened", path=self._context.options.path, channels=channels, keys=keys
        )

    async def _reset(self, before: MemoryBroker, memory: MemoryBroker) -> None:
        """Tell all subscribers of the epochs that another file has begun."""
        for number, name in enumerate(before.names(), 1):
            log = before.find(name)
            if log is not None and log.subscribed:
                await memory.subscribe(name, partial(self._context.downstream.reset, name))
                self._context.counters.broker_resets += 1
            if number % RESET_AT_ONCE == 0:
                # Nothing is committed meanwhile: the file is not taken up yet.
                await NEXT_TURN

    def _on_forgotten(self, log: ChannelLog, ended: tuple[int, int]) -> None:
        """Have the next commit delete the channel from the file; its blocks expire by age."""
        if (stored := self.logs.forget(log)) is not None:
            self._gone.append(stored.id)
            self.tending.forgotten(stored.id)
        place, generation = ended
        self._ended[place] = generation
        self.writer.soon()

    def now_ms(self) -> int:
        """Return the time that history ages by: the file's clock, as much later as `clock` went
        on."""
        begin_ms, began = self._clock_begin
        return begin_ms + int((self._context.clock() - began) * 1000)
