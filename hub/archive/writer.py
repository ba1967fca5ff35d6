"""The thread that owns the store: it writes the event loop's rows, and answers its questions.

The loop never waits for the thread. Rows that cannot be written (a full disk, a file of another
program) are counted, and leave a hole in the notes: a missing note must not look like an event that
did not happen. One log line reports the first failure, and one the recovery.
"""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from structlog.typing import FilteringBoundLogger

from hub.archive.store import HOLE, NoteRow, Store

T = TypeVar("T")

# About 500 bytes each in memory: 10 MB, and a second of writing.
MAX_WAITING_ROWS = 20_000
# Rows of one transaction, about a MiB of the log.
_BATCH_ROWS = 2000
# A full disk stays full for a while.
_RETRY_SECONDS = 5.0
_STOP_SECONDS = 5.0
# An operator waits for the answer, and a disk that hangs gives none.
_ASK_SECONDS = 5.0
_TROUBLES = (sqlite3.Error, OSError)

Question = Callable[[Store], Any]
_Asked = tuple[Question, asyncio.Future[Any]]


class Writer:
    """The writer of a node. The event loop owns it, except for the parts marked as the thread's.

    Args:
        on_lost: called in the loop with the number of rows that are lost for good.
    """

    def __init__(
        self,
        path: Path,
        max_bytes: int,
        *,
        log: FilteringBoundLogger,
        on_lost: Callable[[int], None],
        open_store: Callable[[Path, int], Store] = Store,
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._log = log
        self._on_lost = on_lost
        self._open_store = open_store
        self._queue: SimpleQueue[list[NoteRow] | _Asked | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event = asyncio.Event()
        self._lock = threading.Lock()
        self._waiting = 0
        """Rows that are not written yet. Both threads use it, under the lock."""
        self._failing = False
        self._lost = 0
        """Rows lost since writing began to fail."""
        self.bytes = 0
        """Bytes on disk after the last write."""
        # -- used by the thread only -------------------------------------------------------
        self._store: Store | None = None
        self._hole: tuple[int, int] | None = None
        self._retry_at = float("-inf")

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        # An empty batch, so that a path which cannot be written to is reported at once.
        self._queue.put([])
        # A daemon: a disk that hangs must not hold up the end of the process.
        threading.Thread(target=self._run, name="journal", daemon=True).start()

    def put(self, rows: Sequence[NoteRow]) -> None:
        """Queue rows for writing, in their order; lose those for which there is no room."""
        with self._lock:
            room = max(0, MAX_WAITING_ROWS - self._waiting)
            taken = list(rows[:room])
            self._waiting += len(taken)
        for start in range(0, len(taken), _BATCH_ROWS):
            self._queue.put(taken[start : start + _BATCH_ROWS])
        if len(taken) < len(rows):
            left = rows[len(taken) :]
            self.lose(left[0].at_ms, left[-1].at_ms, len(left))

    def lose(self, from_ms: int, to_ms: int, rows: int) -> None:
        """Record that notes of that time are missing."""
        self._on_lost(rows)
        self._queue.put([NoteRow(HOLE, to_ms, first=from_ms, last=to_ms)])
        with self._lock:
            self._waiting += 1

    async def ask(self, question: Callable[[Store], T]) -> T | None:
        """Return the store's answer after all rows queued before; None where it has none."""
        if self._loop is None or self._ended.is_set():
            return None
        answer: asyncio.Future[T | None] = self._loop.create_future()
        self._queue.put((question, answer))
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                return await answer
        except TimeoutError:
            return None

    async def stop(self) -> None:
        """Write the waiting rows, but give up on a disk that hangs."""
        if self._loop is None:
            return
        self._queue.put(None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await self._ended.wait()

    # -- called in the loop for the thread ---------------------------------------------------

    def _report(self, error: str | None, lost: int, size: int) -> None:
        self.bytes = size
        if lost:
            self._lost += lost
            self._on_lost(lost)
        if error is not None and not self._failing:
            self._failing = True
            self._log.warning("journal_not_written", path=str(self._path), reason=error)
        elif error is None and self._failing:
            self._failing = False
            self._log.info("journal_written_again", path=str(self._path), lost=self._lost)
            self._lost = 0

    # -- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (item := self._queue.get()) is not None:
                if isinstance(item, list):
                    self._write(item)
                else:
                    self._answer(*item)
        finally:
            self._close()
            self._call_in_loop(self._ended.set)

    def _write(self, rows: list[NoteRow]) -> None:
        with self._lock:
            self._waiting -= len(rows)
        if time.monotonic() < self._retry_at:
            self._missed(rows, None)
            return
        try:
            store = self._opened()
            hole = self._hole
            if hole is not None:
                rows = [NoteRow(HOLE, hole[1], first=hole[0], last=hole[1]), *rows]
            store.write(rows)
            size = store.bytes
        except Exception as error:  # noqa: BLE001 - the thread goes on after any error
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            self._close()
            self._missed(rows, f"{type(error).__name__}: {error}")
        else:
            self._hole = None
            self._call_in_loop(self._report, None, 0, size)

    def _missed(self, rows: list[NoteRow], error: str | None) -> None:
        ends = [row.at_ms for row in rows] + [int(time.time() * 1000)]
        begins = [row.at_ms for row in rows] + ([] if self._hole is None else [self._hole[0]])
        if begins:
            self._hole = (min(begins), max(ends))
        lost = sum(row.kind != HOLE for row in rows)
        error = error or "it could not be written before"
        self._call_in_loop(self._report, error, lost, self.bytes)

    def _answer(self, question: Question, answer: asyncio.Future[Any]) -> None:
        found = None
        try:
            if time.monotonic() >= self._retry_at:
                found = question(self._opened())
        except Exception as error:  # noqa: BLE001
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            self._close()
            self._call_in_loop(self._report, f"{type(error).__name__}: {error}", 0, self.bytes)
        finally:
            self._call_in_loop(_settle, answer, found)

    def _opened(self) -> Store:
        if self._store is None:
            self._store = self._open_store(self._path, self._max_bytes)
        return self._store

    def _close(self) -> None:
        if self._store is not None:
            with contextlib.suppress(*_TROUBLES):
                self._store.close()
            self._store = None

    def _call_in_loop(self, call: Callable[..., object], *values: object) -> None:
        # The loop may have ended while the disk was slow.
        with contextlib.suppress(RuntimeError):
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call, *values)


def _settle(answer: asyncio.Future[Any], found: object) -> None:
    if not answer.done():
        answer.set_result(found)
