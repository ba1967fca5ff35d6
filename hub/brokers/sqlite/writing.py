"""The one thread that writes the history file, and the retries while the file takes nothing.

One piece of work is under way at a time. Where the file does not take it, publications are refused
and the file is tried again and again, opened anew where need be: it may be another file by then, or
may hold a commit whose outcome was not known.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import disk_usage
from typing import Protocol, TypeVar

from structlog.typing import FilteringBoundLogger

from hub.brokers.sqlite.commit_group import CommitGroup
from hub.brokers.sqlite.faults import Fault, FileError, translated
from hub.brokers.sqlite.file import HistoryFile
from hub.brokers.sqlite.layout import Stored
from hub.core.counters import Counters
from hub.core.ports import Monotonic, Spawn
from hub.errors import HubError, NotPublishedError

# Between attempts at a file that takes nothing. Guesses.
FIRST_RETRY_SECONDS = 0.1
MAX_RETRY_SECONDS = 2.0
# A disk that has no more room than this beside the bytes to be written still counts as full.
_ROOM_BYTES = 256 * 1024

T = TypeVar("T")

Work = tuple[Callable[[], object], Callable[[FileError | None], None]]
"""A call for the thread, and one for the loop behind it, which gets the error or None."""


class WorkSource(Protocol):
    """The broker: gives the thread its work, and knows the content of the file."""

    def next_work(self, file: HistoryFile) -> Work | None:
        """Return the next work; called when none is under way and the file takes some."""
        ...

    def grows(self) -> bool:
        """Return whether this turn of the loop has brought more to write, and the next may too."""
        ...

    def refuse(self, error: HubError) -> None:
        """Refuse all waiting publications."""
        ...

    async def begin(self, file: HistoryFile, stored: Stored) -> None:
        """Know all of this file, and only that; raises `FileError`."""
        ...

    def opened(self, file: HistoryFile) -> None:
        """Read pages from this file from now on."""
        ...

    def closed(self) -> None:
        """Read no page any more from the file that was opened; called by the thread."""
        ...


class HistoryWriter:
    """Owns the open file and the thread that writes it; one per broker."""

    def __init__(
        self,
        path: str,
        source: WorkSource,
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
        """Whether the thread has work."""
        self._line = ""
        """The line of the file that was read; empty until one was."""
        self._uncertain: CommitGroup | None = None
        """A commit that failed and may be in the file all the same."""
        self._wanted_bytes = 0
        """Bytes of the work that failed last: a disk without room for them is not mended."""
        self._recovering = False
        self._soon = False
        self._idle: asyncio.Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history-writer")

    async def start(self) -> None:
        """Open the file; a failure does not raise: the file is tried again then."""
        try:
            await self._take_up(await self.by_thread(self._opened))
        except Exception as error:  # noqa: BLE001 - a file in a state that nobody has thought of
            self.failed(self._as_file_error(error))

    async def stop(self) -> None:
        """Close the file and end the thread."""
        if not self.busy:
            await self.by_thread(self._close)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def until_idle(self, timeout_seconds: float) -> None:
        """Return when nothing is left to write, or nothing can be written, or after this time."""
        self._idle = asyncio.get_running_loop().create_future()
        self.soon()
        await asyncio.wait([self._idle], timeout=timeout_seconds)

    # -- one piece of work after another ------------------------------------------------------

    @property
    def settled(self) -> bool:
        """Whether no work is under way, and none is about to begin."""
        return not self.busy and not self._soon

    def soon(self) -> None:
        """Begin the next work at the end of this turn of the loop, with all that the turn
        brings."""
        if not self.busy and not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_soon(self._now)

    def _now(self) -> None:
        if self._source.grows():
            asyncio.get_running_loop().call_soon(self._now)
            return
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
            self.busy = False
            then(None if error is None else self._as_file_error(error))
            self._next()

        future.add_done_callback(on_done)

    async def by_thread(self, work: Callable[[], T]) -> T:
        """Return what `work` returns in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # -- failures -----------------------------------------------------------------------------

    def _as_file_error(self, error: BaseException) -> FileError:
        """Return `error`; one that nobody has thought of goes to the log, once while it lasts."""
        if isinstance(error, FileError):
            return error
        detail = f"{error!r}, see the log"
        failed = FileError(Fault.IO, self._path, detail, uncertain=True)
        if self.problem is None or self.problem.message != failed.message:
            self._log.error("history_writer_failed", exc_info=error)
        return failed

    def not_committed(self, batch: CommitGroup, error: FileError) -> None:
        """Note a commit that failed, or whose outcome is not known, and recover."""
        if error.uncertain:
            self._uncertain = batch
        self.not_done(error, batch.bytes)

    def not_done(self, error: FileError, wanted_bytes: int) -> None:
        """Note work that failed, and recover once the disk has so much room."""
        self._wanted_bytes = wanted_bytes
        self.failed(error)

    def failed(self, error: FileError) -> None:
        """Refuse publications until the file takes work again, and begin to recover."""
        before, self.problem = self.problem, error
        if before is None or before.fault is not error.fault or not self._recovering:
            self._log.error("history_not_written", reason=error.message, fault=str(error.fault))
        self._counters.broker_call_errors["refused"] += 1
        self._source.refuse(NotPublishedError(error.message))
        if not self._recovering and not self.stopping:
            self._recovering = True
            self._spawn(self._recover())

    async def _recover(self) -> None:
        """Try the file until it takes work again."""
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
                except Exception as error:  # noqa: BLE001 - as at the start; it is tried again
                    self.failed(self._as_file_error(error))
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
        """Go on from the content of the file."""
        file = self.file
        if stored is not None and file is not None:
            if file.lost_commits:
                self._log.error("history_lost", path=self._path, commits=file.lost_commits)
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
        """Return the content of a file that had to be opened again; None where it goes on as it
        is."""
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
                # Another file has been put there. Offsets that were given out meanwhile must not be
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
        """Return whether it is the file that was written here, and stands where it was left."""
        possible = {self.commits} if self._uncertain is None else {self.commits, self.commits + 1}
        return stored.line == self._line and stored.commits in possible

    def _close(self) -> None:
        file, self.file = self.file, None
        if file is not None:
            self._source.closed()
            file.close()
