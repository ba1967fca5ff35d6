"""The sources of lines: a file, or stdin.

A file may grow, be renamed, copied away, truncated or replaced while it is read. Each step runs in
a thread: read lines, or find out how the file changed. Another thread looks at the name meanwhile,
because lines may wait long for their turn and for the hub. A rotated file is read to its end before
its successor; content that cannot be found any more is reported.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path

from hub.ingest.checkpoint import FilePlace, new_place
from hub.ingest.encoding import Encoding, without_zeros
from hub.ingest.lines import Line
from hub.ingest.opened import Chunk, OpenFile
from hub.ingest.trail import Trail

# Guesses, not measured: a line is seen a quarter of a second after it was written; a writer
# notices within five that its file was renamed; no rotation of one file is quicker than a look.
_POLL_SECONDS = 0.25
_GRACE_SECONDS = 5.0
_LOOK_SECONDS = 0.05


class FileSource:
    """The lines of the file at `path`, through rotations when `follow` is set.

    Args:
        path: An absolute path of a regular file.
        place: Where to go on; from the beginning when None.
        follow: Whether to wait for more at the end.
        tell: Prints a sentence on stderr.
        grace_seconds: How long a renamed file must be quiet before it counts as ended. The time
            runs from its renaming, so that files which wait for each other wait together.
        encoding: The encoding of all files with the name; when None each file's beginning decides.
        clock: Seconds that only rise.
    """

    def __init__(
        self,
        path: Path,
        place: FilePlace | None,
        *,
        follow: bool,
        tell: Callable[[str], None],
        grace_seconds: float = _GRACE_SECONDS,
        encoding: Encoding | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._follow = follow
        self._grace_seconds = grace_seconds
        self._clock = clock
        self._trail = Trail(path, place, tell=tell, encoding=encoding, clock=clock)
        self._turn = threading.Lock()
        """The lock of the thread that uses the trail, for a step or for a look."""
        self._closing = threading.Event()
        self._looking: threading.Thread | None = None
        self._trouble: OSError | None = None
        self._ended = False

    def close(self) -> None:
        self._closing.set()
        if self._looking is not None:
            self._looking.join()
        self._trail.close()

    async def take(self, most: int) -> Chunk | None:
        """Wait for the next lines, at most `most`; None at the end. Raises `OSError`."""
        if self._looking is None:
            self._looking = threading.Thread(target=self._look_on, daemon=True)
            self._looking.start()
        while not self._ended:
            if chunk := await asyncio.to_thread(self.step, most):
                return chunk
            if not self._ended:
                await asyncio.sleep(_POLL_SECONDS)
        return None

    @property
    def place(self) -> FilePlace:
        """The place behind the lines that were taken last."""
        return self._trail.first.place

    def place_before(self, line: Line) -> FilePlace:
        """Return the place before a line of the chunk that was taken last."""
        with self._turn:
            return self._trail.first.place_at(line.start, line.number - 1)

    def look(self) -> None:
        """Note how the file changed. Raises `OSError`."""
        with self._turn:
            self._trail.look(follow=self._follow)

    def step(self, most: int) -> Chunk | None:
        """Return the next lines; None where there are none yet. Blocks. Raises `OSError`."""
        with self._turn:
            if self._trouble is not None:
                raise self._trouble
            self._trail.look(follow=self._follow)
            while not self._ended:
                file = self._trail.first
                if not file.is_lost and (chunk := file.take(most, final=False)):
                    return chunk
                if not self._is_over(file):
                    return None
                if not file.is_lost and (chunk := file.take(1, final=True)):
                    return chunk
                self._advance()
            return None

    def _look_on(self) -> None:
        while not self._closing.wait(_LOOK_SECONDS):
            try:
                self.look()
            except OSError as error:
                self._trouble = error
                return

    def _advance(self) -> None:
        if self._trail.goes_on:
            self._trail.advance()
        else:
            self._ended = True

    def _is_over(self, file: OpenFile) -> bool:
        if not self._trail.goes_on:
            return not self._follow
        if file.is_lost or file.is_copy or self._trail.is_full or not self._follow:
            return True
        # Its writer may go on with it for a while, at the least until the next one is used.
        quiet = self._clock() - file.changed_at >= self._grace_seconds
        return quiet and self._trail.goes_on_with_lines


_NO_INODE = 0


class StdinSource:
    """Lines that come once and cannot be read again, so that no place is saved.

    Args:
        take_lines: Waits for lines; None stands for one that is too long, [] for the end.
    """

    def __init__(self, take_lines: Callable[[], Awaitable[list[bytes | None]]]) -> None:
        self._take_lines = take_lines
        self._waiting: deque[bytes | None] = deque()
        self._place = new_place(_NO_INODE)
        self._read = 0

    async def take(self, most: int) -> Chunk | None:
        """Wait for the next lines, at most `most`; None at the end."""
        if not self._waiting:
            self._waiting.extend(await self._take_lines())
        if not self._waiting:
            return None
        taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        before = self._place
        lines = tuple(
            self._line(number, data) for number, data in enumerate(taken, start=before.lines + 1)
        )
        self._place = FilePlace(before.id, before.mark, lines[-1].number)
        return Chunk(Path("-"), before, lines, self._place, 0)

    @property
    def place(self) -> FilePlace:
        """The place behind the lines that were taken last."""
        return self._place

    def place_before(self, line: Line) -> FilePlace:
        """Return any place, because none is saved."""
        return FilePlace(self._place.id, self._place.mark, line.number - 1)

    def _line(self, number: int, data: bytes | None) -> Line:
        start = self._read
        self._read += len(data or b"") + 1
        text, zeros = (None, 0) if data is None else without_zeros(data)
        return Line(number, start, self._read, text, zeros)
