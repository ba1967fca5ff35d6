"""Read lines of stdin in constant memory, without blocking an event loop."""

import asyncio
import contextlib
import os
import threading
from collections import deque

from hub.ingest.encoding import HEAD_BYTES, UTF8, Encoding, seen

# The hub's limit for a payload is 64 KiB unless set otherwise; more than this no request holds.
MAX_LINE_BYTES = 1024 * 1024
# One request of lines: the hub takes 1,000 items and 1 MiB, and a text line may grow sixfold
# when it becomes a JSON string (six characters for a control character).
_MAX_BATCH_LINES = 250
_MAX_BATCH_BYTES = 128 * 1024
# A bound, guessed: four requests' worth. The bytes that wait are bounded as well, because a
# thousand lines of the greatest length would be a gigabyte.
_MAX_WAITING_LINES = 1000
_MAX_WAITING_BYTES = 4 * 1024 * 1024
_READ_BYTES = 64 * 1024


class LineSource:
    """Lines of a file descriptor, read by a thread because an event loop cannot wait for files.

    At most `_MAX_WAITING_LINES` lines and about `_MAX_WAITING_BYTES` bytes wait. Beyond them
    reading stops, and with it the writer of the pipe.
    """

    def __init__(self, fd: int, encoding: Encoding | None = None) -> None:
        """Without an `encoding` the first bytes decide."""
        self._fd = fd
        self._splitter = LineSplitter(encoding)
        self._loop = asyncio.get_running_loop()
        self._lines: deque[bytes | None] = deque()
        self._waiting_bytes = 0
        self._ended = False
        self._failure: OSError | None = None
        self._arrived = asyncio.Event()
        self._changed = threading.Condition()
        # A daemon: a read that waits for input must not hold up the end of the process.
        threading.Thread(target=self._read, name="stdin", daemon=True).start()

    async def take(self) -> list[bytes | None]:
        """Return the waiting lines, up to one request's worth; [] at the end.

        None stands for a line that is too long. Raises `OSError` where reading fails, after the
        lines before.
        """
        while True:
            self._arrived.clear()
            with self._changed:
                if self._lines or self._ended:
                    if self._failure is not None and not self._lines:
                        raise self._failure
                    return self._batch()
            await self._arrived.wait()

    def _batch(self) -> list[bytes | None]:
        batch: list[bytes | None] = []
        size = 0
        while self._lines and len(batch) < _MAX_BATCH_LINES:
            size += len(self._lines[0] or b"")
            if batch and size > _MAX_BATCH_BYTES:
                break
            batch.append(self._lines.popleft())
            self._waiting_bytes -= len(batch[-1] or b"")
        self._changed.notify_all()
        return batch

    def _has_room(self) -> bool:
        return len(self._lines) < _MAX_WAITING_LINES and self._waiting_bytes < _MAX_WAITING_BYTES

    def _read(self) -> None:
        try:
            while chunk := os.read(self._fd, _READ_BYTES):
                self._put(self._splitter.feed(chunk))
        except OSError as error:
            self._failure = OSError(error.errno, error.strerror, "stdin")
        self._put(self._splitter.finish(), ended=True)

    def _put(self, lines: list[bytes | None], *, ended: bool = False) -> None:
        for line in lines:
            with self._changed:
                self._changed.wait_for(self._has_room)
                self._lines.append(line)
                self._waiting_bytes += len(line or b"")
            self._wake()
        if ended:
            self._ended = True
            self._wake()

    def _wake(self) -> None:
        # The loop may have ended while a read was under way: then no caller waits any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._arrived.set)


class LineSplitter:
    """Split bytes into UTF-8 lines without their ends, in constant memory; None stands for one too
    long."""

    def __init__(self, encoding: Encoding | None = None) -> None:
        self._encoding = encoding
        self._rest = b""
        self._skipping = False

    def feed(self, chunk: bytes) -> list[bytes | None]:
        self._rest += chunk
        if self._encoding is None:
            self._encoding = seen(self._rest[:HEAD_BYTES], final=False)
        if self._encoding is None:
            return []
        *whole, self._rest = self._split(self._encoding)
        lines = [self._line(line) for line in whole]
        if len(self._rest) > MAX_LINE_BYTES:
            # Whole units, so that the next line's end is found where it is.
            kept = len(self._rest) % self._encoding.unit
            self._rest, self._skipping = self._rest[len(self._rest) - kept :], True
        return lines

    def finish(self) -> list[bytes | None]:
        """Return the last line, where the input does not end with a line's end."""
        ended: list[bytes | None] = []
        if self._encoding is None:
            self._encoding = seen(self._rest[:HEAD_BYTES], final=True) or UTF8
            ended = self.feed(b"")
        return [*ended, *([self._line(self._rest)] if self._rest or self._skipping else [])]

    def _split(self, encoding: Encoding) -> list[bytes]:
        parts = self._rest.split(encoding.newline)
        if encoding.unit == 1:
            return parts
        # The bytes of a line's end also stand across two characters: those parts belong together.
        lines = [parts[0]]
        for part in parts[1:]:
            if len(lines[-1]) % encoding.unit:
                lines[-1] += encoding.newline + part
            else:
                lines.append(part)
        return lines

    def _line(self, line: bytes) -> bytes | None:
        too_long = self._skipping or len(line) > MAX_LINE_BYTES
        self._skipping = False
        return None if too_long else (self._encoding or UTF8).utf8(line)
