"""The one thread that writes the history file, and what is done while the file takes nothing.

One piece of work is under way at a time. Where a file does not take it, publications are refused
and the file is tried again and again, opened anew where need be: it may be another one by then, or
say that a commit whose outcome was not known is in it.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import disk_usage
from typing import Protocol, TypeVar

from structlog.typing import FilteringBoundLogger

from hub.brokers.sqlite.faults import Fault, FileError, translated
from hub.brokers.sqlite.file import HistoryFile
from hub.brokers.sqlite.intake import Batch
from hub.brokers.sqlite.layout import Stored
from hub.core.counters import Counters
from hub.core.ports import Monotonic, Spawn
from hub.errors import HubError, NotPublishedError

# Between attempts at a file that does not take what it should. Guesses.
FIRST_RETRY_SECONDS = 0.1
MAX_RETRY_SECONDS = 2.0
# A disk that has no more than this beside what was to be written counts as full still.
_ROOM_BYTES = 256 * 1024

T = TypeVar("T")

Work = tuple[Callable[[], object], Callable[[FileError | None], None]]
"""What the thread does, and what the loop is told then: None, or what went wrong."""


class Source(Protocol):
    """Has what is to be written, and knows what the file says: the broker."""

    def next_work(self, file: HistoryFile) -> Work | None:
        """Asked when nothing is under way and the file takes something."""
        ...

    def refuse(self, error: HubError) -> None:
        """Nothing that waits is written."""
        ...

    async def begin(self, file: HistoryFile, stored: Stored) -> None:
        """Know all of this file, and only that; raises `FileError`."""
        ...

    def opened(self, file: HistoryFile) -> None:
        """Pages are read from it from now on."""
        ...

    def closed(self) -> None:
        """Called by the thread: no page is read from the file that was opened."""
        ...


class HistoryWriter:
    """One per broker; owns the open file."""

    def __init__(
        self,
        path: str,
        source: Source,
        *,
        clock: Monotonic,
        spawn: Spawn,
        log: FilteringBoundLogger,
        counters: Counters,
    ) -> None:
        self._path = path
        self._source = source
        self._clock = clock
        self._spawn = spawn
        self._log = log
        self._counters = counters
        self.file: HistoryFile | None = None
        self.commits = 0
        self.problem: FileError | None = FileError(Fault.CLOSED, path)
        """Why the file takes nothing; None where it does."""
        self.stopping = False
        self.busy = False
        """Whether the thread has something to do."""
        self._line = ""
        """Of the file that was read; empty until one was."""
        self._uncertain: Batch | None = None
        """A commit that failed and may be in the file all the same."""
        self._wanted_bytes = 0
        """Of the commit that failed last: a disk must have room for it to count as mended."""
        self._recovering = False
        self._soon = False
        self._idle: asyncio.Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history-writer")

    async def start(self) -> None:
        """Open the file; returns also when that fails, and is tried again then."""
        try:
            await self._take_up(await self.by_thread(self._opened))
        except FileError as error:
            self.failed(error)

    async def stop(self) -> None:
        """Let go of the file."""
        if not self.busy:
            await self.by_thread(self._close)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def until_idle(self, timeout_seconds: float) -> None:
        """Returns when there is nothing to write, or nothing can be, or after this time."""
        self._idle = asyncio.get_running_loop().create_future()
        self.soon()
        await asyncio.wait([self._idle], timeout=timeout_seconds)

    # -- one piece of work after another ------------------------------------------------------

    @property
    def settled(self) -> bool:
        """Whether nothing is under way, and nothing about to be."""
        return not self.busy and not self._soon

    def soon(self) -> None:
        """At the end of this turn of the loop, so that all that it brings goes together."""
        if not self.busy and not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_soon(self._now)

    def _now(self) -> None:
        self._soon = False
        self._next()

    def _next(self) -> None:
        """Give the thread its next work, if there is any."""
        if self.busy:
            return
        file, work = self.file, None
        if self.problem is None and file is not None:
            work = self._source.next_work(file)
        if work is not None:
            self.busy = True
            self._run(*work)
        elif self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _run(self, work: Callable[[], object], then: Callable[[FileError | None], None]) -> None:
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)

        def on_done(finished: asyncio.Future[object]) -> None:
            error = None if finished.cancelled() else finished.exception()
            if error is not None and not isinstance(error, FileError):
                self._log.error("history_writer_failed", exc_info=error)
                error = FileError(Fault.IO, self._path, "see the log", uncertain=True)
            self.busy = False
            then(error)
            self._next()

        future.add_done_callback(on_done)

    async def by_thread(self, work: Callable[[], T]) -> T:
        """What `work` returns, done by the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # -- what goes wrong ----------------------------------------------------------------------

    def not_committed(self, batch: Batch, error: FileError) -> None:
        """The file did not take a commit, or it is not known whether it did."""
        self._wanted_bytes = batch.bytes
        if error.uncertain:
            self._uncertain = batch
        self.failed(error)

    def failed(self, error: FileError) -> None:
        """Refuse what comes until the file takes something again, and see to it."""
        before, self.problem = self.problem, error
        if before is None or before.fault is not error.fault or not self._recovering:
            self._log.error("history_not_written", reason=error.message, fault=str(error.fault))
        self._counters.broker_call_errors["refused"] += 1
        self._source.refuse(NotPublishedError(error.message))
        if not self._recovering and not self.stopping:
            self._recovering = True
            self._spawn(self._recover())

    async def _recover(self) -> None:
        """Try until the file takes something again."""
        began, delay_seconds = self._clock(), FIRST_RETRY_SECONDS
        try:
            while not self.stopping:
                await asyncio.sleep(delay_seconds)
                delay_seconds = min(delay_seconds * 2, MAX_RETRY_SECONDS)
                if self.busy or self.stopping:
                    continue
                self.busy = True
                try:
                    await self._take_up(await self.by_thread(self._mended))
                except FileError as error:
                    self.failed(error)
                else:
                    away_seconds = round(self._clock() - began, 3)
                    self._log.info("history_written_again", seconds=away_seconds)
                    return
                finally:
                    self.busy = False
        finally:
            self._recovering = False
            self.soon()

    async def _take_up(self, stored: Stored | None) -> None:
        """Go on from what the file says."""
        file = self.file
        if stored is not None and file is not None:
            uncertain, self._uncertain = self._uncertain, None
            if stored.line != self._line:
                await self._source.begin(file, stored)
                self._line, self.commits = stored.line, stored.commits
            elif stored.commits > self.commits and uncertain is not None:
                self.commits = stored.commits
                uncertain.apply()
            self._source.opened(file)
        self.problem = None
        self.soon()

    # -- by the thread; each raises `FileError` -----------------------------------------------

    def _mended(self) -> Stored | None:
        """What the file says where it had to be opened again, None where it goes on as it is."""
        path, problem, file = self._path, self.problem, self.file
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
        file = HistoryFile(self._path)
        try:
            stored = file.load()
            if self._line and not self._goes_on(stored):
                # Somebody has put another file there. What was given out meanwhile must not be
                # given out again.
                file.begin_line()
                stored = file.load()
            file.check()
        except BaseException:
            file.close()
            raise
        self.file = file
        return stored

    def _goes_on(self, stored: Stored) -> bool:
        """Whether it is the file that was written here, and stands where it was left."""
        possible = {self.commits} if self._uncertain is None else {self.commits, self.commits + 1}
        return stored.line == self._line and stored.commits in possible

    def _close(self) -> None:
        file, self.file = self.file, None
        if file is not None:
            self._source.closed()
            file.close()
