"""Pages of history from the file, for sessions that return later than memory reaches.

A few connections read side by side; callers that ask for the same page at the same time share it. A
page is bounded in bytes before it is read, so gigabytes of history cost no more than a page each.
Publications that no block of the file has yet are read from the recent commits in memory.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from msgspec import structs
from structlog.typing import FilteringBoundLogger

from hub.brokers.sqlite.connection import checkpoint, connected
from hub.brokers.sqlite.faults import Fault, FileError, translating
from hub.brokers.sqlite.file import HistoryFile
from hub.brokers.sqlite.intake import StoredLog
from hub.brokers.sqlite.layout import PAGE, records
from hub.brokers.sqlite.recent import Recent
from hub.core.ports import HistoryPage, Spawn
from hub.core.publication import Publication

# Reading is for the disk's cache and the interpreter: more threads would only take turns.
READERS = 2
# Damaged publications that are logged. Where there are more, all of the file is in doubt.
_DAMAGED_LOGGED = 1000
# Damaged publications of one page. Above that no gap stands for them: the page is unreadable.
_DAMAGED_AT_MOST = 256

_Asked = tuple[int, int, int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class PageBounds:
    """The bounds of one page of a channel."""

    channel: int
    after: int
    limit: int
    max_bytes: int
    fresh_ms: int
    """Publications taken before this time are too old."""


class FileReader:
    """A connection that reads; one thread at a time has it."""

    def __init__(self, file: HistoryFile) -> None:
        self.file = file
        self._path = path = file.path
        with translating(path):
            self._db = connected(path)

    def page(self, wanted: PageBounds) -> tuple[int | None, bytes]:
        """Return the first offset held, and the blocks that follow `after`."""
        values = {
            "channel": wanted.channel, "after": wanted.after, "limit": wanted.limit,
            "max_bytes": wanted.max_bytes, "fresh_ms": wanted.fresh_ms,
        }  # fmt: skip
        with translating(self._path):
            oldest, raw = self._db.execute(PAGE, values).fetchone()
        return oldest, raw or b""

    def checkpoint(self) -> None:
        """Checkpoint like `HistoryFile.checkpoint`, beside the thread that writes."""
        with translating(self._path):
            checkpoint(self._db)

    def close(self) -> None:
        self._db.close()


class PageReader:
    """Reads pages of history from the file; one per broker.

    Args:
        on_unreadable: gets the error of a page that could not be read.
    """

    def __init__(
        self,
        spawn: Spawn,
        recent: Recent,
        on_unreadable: Callable[[FileError], None],
        log: FilteringBoundLogger,
    ) -> None:
        self._spawn = spawn
        self._recent = recent
        self._on_unreadable = on_unreadable
        self._log = log
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="history-reader")
        self._checkpoints = ThreadPoolExecutor(1, thread_name_prefix="history-checkpoint")
        self._turn = asyncio.Semaphore(READERS)
        self._file: HistoryFile | None = None
        self._path = ""
        self._idle: list[FileReader] = []
        self._damaged: set[tuple[str, int]] = set()
        """Channels and offsets of damaged publications that were logged."""
        self._asked: dict[_Asked, asyncio.Future[HistoryPage]] = {}

    def use(self, file: HistoryFile) -> None:
        """Read from `file` from now on."""
        self._file, self._path = file, file.path

    def forget(self) -> None:
        """Let go of the file, which is about to be closed; called by a thread."""
        self._file = None
        readers, self._idle = self._idle, []
        for reader in readers:
            reader.close()

    async def stop(self) -> None:
        """Return when no page is being read, and no checkpoint made."""
        while self._asked:
            await asyncio.wait(list(self._asked.values()))
        await asyncio.get_running_loop().run_in_executor(self._checkpoints, self.forget)
        self._threads.shutdown(wait=False)
        self._checkpoints.shutdown(wait=False)

    async def read(
        self,
        stored: StoredLog,
        *,
        after: int,
        limit: int,
        max_bytes: int,
        fresh_ms: int,
        wall_ms: int,
    ) -> HistoryPage:
        """Return a page of a channel up to its head of now; raise `FileError`."""
        recent = self._recent
        while True:
            after = max(after, stored.first - 1)
            page = _Page(stored, PageBounds(stored.id, after, limit, max_bytes, fresh_ms), wall_ms)
            first, moves = recent.first(stored.id), recent.moves
            if first is not None and after + 1 >= first:
                found = self._from_recent(page)
                # If no publication of it is too old, those before it in the file count too.
                same = found.oldest == first
                return structs.replace(found, oldest=page.first) if same else found
            found = await self._from_file(page)
            if first is None:
                return found
            if found.publications:
                # Some that were recent may have been moved while the file was read. Example: the
                # page ends at 2, 3 was the first recent one, and is 4 now: 3 is in the file.
                whole = found.last + 1 == recent.first(stored.id)
                return self._filled(stored, page, found) if whole else found
            # All that the file has is too old.
            if moves == recent.moves:
                return self._from_recent(page)

    def _from_recent(self, page: "_Page") -> HistoryPage:
        while True:
            wanted = page.wanted
            oldest, raw = self._recent.page(
                wanted.channel, wanted.after, wanted.limit, wanted.max_bytes, wanted.fresh_ms
            )
            made = page.made("recent commits", oldest, raw)
            if made.publications or not raw:
                return made
            page.wanted = replace(wanted, after=page.seen)

    def _filled(self, stored: StoredLog, page: "_Page", found: HistoryPage) -> HistoryPage:
        """Add recent publications where the page of the file has room for them."""
        wanted, publications = page.wanted, list(found.publications)
        limit = wanted.limit - len(publications)
        room = wanted.max_bytes - sum(each.size_bytes for each in publications)
        if limit and room > 0:
            rest = replace(wanted, after=found.last, limit=limit, max_bytes=room)
            more = self._from_recent(_Page(stored, rest, page.wall_ms))
            for publication in more.publications:
                room -= publication.size_bytes
                if room < 0:
                    break
                publications.append(publication)
        return structs.replace(found, head=stored.log.head, publications=tuple(publications))

    async def _from_file(self, page: "_Page") -> HistoryPage:
        if self._file is None:
            raise FileError(Fault.CLOSED, self._path)
        wanted = page.wanted
        key = (
            wanted.channel, page.empty.head.offset, page.first, wanted.after, wanted.limit,
            wanted.max_bytes, self._recent.moves,
        )  # fmt: skip
        if (future := self._asked.get(key)) is None:
            future = self._asked[key] = asyncio.get_running_loop().create_future()
            # A failure may have no caller left to take it.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._spawn(self._answer(key, future, page))
        return await asyncio.shield(future)

    async def checkpoint(self, file: HistoryFile) -> None:
        """Copy the WAL into the file over a connection of its own."""

        def work() -> None:
            reader = FileReader(file)
            try:
                reader.checkpoint()
            finally:
                reader.close()

        await asyncio.get_running_loop().run_in_executor(self._checkpoints, work)

    async def _answer(
        self, key: _Asked, future: "asyncio.Future[HistoryPage]", page: "_Page"
    ) -> None:
        try:
            async with self._turn:
                work = asyncio.get_running_loop().run_in_executor(self._threads, self._read, page)
                found = await work
        except FileError as error:
            future.set_exception(error)
            self._on_unreadable(error)
        except Exception as error:
            # Cancelled, the future would cancel the tasks of all that wait for it.
            future.set_exception(error)
            raise
        except BaseException:
            future.cancel()
            raise
        else:
            if found.invalid:
                self._note_damage(page.channel, found.invalid)
            future.set_result(found)
        finally:
            del self._asked[key]

    def _note_damage(self, channel: str, offsets: Sequence[int]) -> None:
        """Log each publication that the disk has changed, once."""
        new = [each for each in offsets if (channel, each) not in self._damaged]
        if new and len(self._damaged) < _DAMAGED_LOGGED:
            self._damaged.update((channel, each) for each in new)
            self._log.error("history_damaged", path=self._path, channel=channel, offsets=new)

    def _read(self, page: "_Page") -> HistoryPage:
        """Read a page; called by a thread."""
        file = self._file
        if file is None:
            raise FileError(Fault.CLOSED, self._path)
        reader = self._reader(file)
        try:
            while True:
                oldest, raw = reader.page(page.wanted)
                made = page.made(file.path, oldest, raw)
                if made.publications or not raw:
                    break
                # All publications of the page have expired by themselves: the next ones may not
                # have.
                page.wanted = replace(page.wanted, after=page.seen)
        except BaseException:
            reader.close()
            raise
        if self._file is file:
            self._idle.append(reader)
        else:
            reader.close()
        return made

    def _reader(self, file: HistoryFile) -> FileReader:
        """Return an idle reader of this file, or another one."""
        while self._idle:
            # One of the file before was given back while that was closed.
            if (reader := self._idle.pop()).file is file:
                return reader
            reader.close()
        return FileReader(file)


class _Page:
    """A page that callers wait for."""

    def __init__(self, stored: StoredLog, wanted: PageBounds, wall_ms: int) -> None:
        log = stored.log
        self.wall_ms = wall_ms
        self.channel = log.name
        self.first = stored.first
        self.wanted = wanted
        self.empty = HistoryPage(log.head, log.offset + 1, ())
        self.seen = self._after = wanted.after
        """The last offset that was read."""
        self.damaged: list[int] = []
        """Offsets of publications that are not as they were written."""

    def made(self, path: str, oldest: int | None, raw: bytes) -> HistoryPage:
        """Return the page of the bytes; raise `FileError` for bytes that are no block."""
        if oldest is None:
            return self.empty
        head, wanted = self.empty.head, self.wanted
        found: list[Publication] = []
        room = wanted.max_bytes
        try:
            for publication in records(self.channel, raw, self.damaged):
                self.seen = max(self.seen, publication.offset)
                if not wanted.after < publication.offset <= head.offset:
                    continue
                keep_ms = publication.keep_ms
                if keep_ms is not None and publication.time_ms + keep_ms <= self.wall_ms:
                    continue
                room -= publication.size_bytes
                if (room < 0 and found) or len(found) == wanted.limit:
                    break
                found.append(publication)
        except ValueError as error:
            raise FileError(Fault.CORRUPT, path, str(error)) from error
        if len(self.damaged) > _DAMAGED_AT_MOST:
            many = (
                f"{len(self.damaged)} publications of {self.channel} are not as they were written"
            )
            raise FileError(Fault.CORRUPT, path, many)
        if self.damaged:
            # A changed digit may make a larger offset of one.
            self.seen = max(self.seen, min(max(self.damaged), head.offset))
        if raw and not found and self.seen <= wanted.after:
            raise FileError(Fault.CORRUPT, path, "a block ends before it says")
        invalid = [each for each in self.damaged if self._after < each <= head.offset]
        return HistoryPage(head, max(oldest, self.first), tuple(found), tuple(invalid))
