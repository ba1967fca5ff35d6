"""A file that may grow, be renamed, copied away, truncated or replaced while it is read.

One step at a time in a thread: read lines, or find out what became of the file. What is not
published yet decides: a rotated file is read to its end before the one that took its name, and
what cannot be found any more is told.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hub.ingest.checkpoint import Place, new_place
from hub.ingest.encoding import Encoding
from hub.ingest.finding import continues, find, linked_between, mark, rotations_after
from hub.ingest.lines import Line, LineReader

# Guesses, not measured: a line is seen a quarter of a second after it was written; a writer
# notices within five that its file was renamed.
_POLL_SECONDS = 0.25
_GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines of one file that follow each other, and the place after them."""

    file: Path
    before: Place
    lines: tuple[Line, ...]
    after: Place
    size: int
    """Of the file, in bytes."""


class OpenFile:
    """A file as it was opened, whatever its name becomes."""

    def __init__(
        self, path: Path, place: Place | None = None, *, encoding: Encoding | None = None
    ) -> None:
        """Open it at its beginning, or at `place`; raises `OSError`."""
        self.path = path
        self.real_path = path.resolve()
        """What `path` led to then, where it is a link."""
        self.fd = os.open(path, os.O_RDONLY)
        self.place = place or new_place(self.state().st_ino)
        self.reader = LineReader(
            self.fd,
            offset=self.place.mark.offset,
            number=self.place.lines,
            encoding=encoding,
        )

    def state(self) -> os.stat_result:
        return os.fstat(self.fd)

    def take(self, most: int, *, final: bool) -> Chunk | None:
        """The next lines, None when there are none yet."""
        lines = tuple(self.reader.take(most, final=final))
        if not lines:
            return None
        last, before = lines[-1], self.place
        self.place = self.place_at(last.end, last.number)
        return Chunk(self.path, before, lines, self.place, self.state().st_size)

    def place_at(self, offset: int, lines: int) -> Place:
        """The place at byte `offset`, which `lines` lines stand before."""
        done = frozenset(start for start in self.place.done if start >= offset)
        return Place(self.place.id, mark(self.fd, offset), lines, done)

    def is_as_it_was(self) -> bool:
        """Whether what was read of it is still what it begins with."""
        return continues(self.fd, self.place.mark)

    def close(self) -> None:
        os.close(self.fd)


class FileSource:
    """The lines of the file at `path`, through rotations when `follow` is set.

    Args:
        path: absolute; a regular file.
        place: where to go on; from the beginning when None.
        follow: wait for more at the end.
        tell: takes a sentence for whoever watches.
        grace_seconds: how long a renamed file must be quiet before it counts as ended.
        encoding: of this file and those that take its name; each says its own where None.
    """

    def __init__(
        self,
        path: Path,
        place: Place | None,
        *,
        follow: bool,
        tell: Callable[[str], None],
        grace_seconds: float = _GRACE_SECONDS,
        encoding: Encoding | None = None,
    ) -> None:
        self._path = path
        self._encoding = encoding
        self._follow = follow
        self._tell = tell
        self._grace_seconds = grace_seconds
        self._later: deque[OpenFile] = deque()
        """What comes after the present file, which has lost its name; held open, because a
        further rotation renames them."""
        self._grown_at = time.monotonic()
        self._at_end_of: tuple[int, int] | None = None
        self._ended = False
        self._file = self._open(path) if place is None else self._resume(place)

    def close(self) -> None:
        for file in (self._file, *self._later):
            file.close()

    async def take(self, most: int) -> Chunk | None:
        """Wait for the next lines, at most `most`; None at the end. Raises `OSError`."""
        while not self._ended:
            if chunk := await asyncio.to_thread(self._step, most):
                return chunk
            if not self._ended:
                await asyncio.sleep(_POLL_SECONDS)
        return None

    @property
    def place(self) -> Place:
        """After what was taken last."""
        return self._file.place

    def place_before(self, line: Line) -> Place:
        """The place before a line of the chunk that was taken last."""
        return self._file.place_at(line.start, line.number - 1)

    def _open(self, path: Path, place: Place | None = None) -> OpenFile:
        return OpenFile(path, place, encoding=self._encoding)

    def _resume(self, place: Place) -> OpenFile:
        found = find(self._path, place.mark)
        if found is None:
            self._tell_lost(place)
            return self._open(self._path)
        file = self._open(found, place)
        if found != self._path:
            self._later.extend(self._successors(file))
        return file

    def _step(self, most: int) -> Chunk | None:
        file = self._file
        if self._at_end_of is not None and not self._has_changed(file):
            return self._at_end(file)
        if chunk := file.take(most, final=False):
            self._grown_at = time.monotonic()
            self._at_end_of = None
            return chunk
        self._at_end_of = _shape(file)
        return self._at_end(file)

    def _has_changed(self, file: OpenFile) -> bool:
        """Whether there is something to read; notices that the content is another one."""
        if _shape(file) == self._at_end_of:
            return False
        self._grown_at = time.monotonic()
        if not file.is_as_it_was():
            self._replaced(file)
            return False
        if file.state().st_size < file.reader.read_to:
            file.reader.restart()
        else:
            file.reader.reread()
        return True

    def _at_end(self, file: OpenFile) -> Chunk | None:
        if file is not self._file:
            return None
        if not self._is_over(file):
            return None
        if chunk := file.take(1, final=True):
            return chunk
        self._advance()
        return None

    def _is_over(self, file: OpenFile) -> bool:
        if not self._follow:
            return True
        if not self._later:
            self._notice_renaming(file)
            return False
        # Its writer may go on with it for a while, at the least until the next one is used.
        quiet = time.monotonic() - self._grown_at >= self._grace_seconds
        return quiet and any(each.state().st_size for each in self._later)

    def _notice_renaming(self, file: OpenFile) -> None:
        try:
            named = self._path.stat()
        except FileNotFoundError:
            return  # renamed, and not made again yet
        if not os.path.samestat(named, file.state()):
            self._grown_at = time.monotonic()
            self._later.extend(self._successors(file))

    def _successors(self, file: OpenFile) -> list[OpenFile]:
        """What was written after `file`, oldest first; the last is the one with the name."""
        paths = [
            *rotations_after(self._path, file.state().st_mtime_ns),
            *linked_between(self._path, file.real_path),
            self._path,
        ]
        opened: list[OpenFile] = []
        for path in paths:
            try:
                opened.append(self._open(path))
            except FileNotFoundError:
                if path != self._path:  # which is only not made again yet
                    self._tell(f"{path} went away before it was read")
        seen = [file.state().st_ino]
        return [each for each in opened if not _known(each, seen)]

    def _advance(self) -> None:
        if not self._later:
            self._ended = True
            return
        self._file.close()
        self._file = self._later.popleft()
        self._at_end_of = None
        self._grown_at = time.monotonic()

    def _replaced(self, file: OpenFile) -> None:
        """Truncated, or written anew in its place: perhaps there is a copy of what it was."""
        found = find(self._path, file.place.mark)
        if found is None:
            self._tell_lost(file.place)
            self._later.appendleft(self._open(file.path))
        else:
            copy = self._open(found, file.place)
            self._later.extendleft(reversed([copy, *self._successors(copy)]))
        self._advance()

    def _tell_lost(self, place: Place) -> None:
        self._tell(
            f"{self._path} does not begin with what was read before, and no file beside it "
            f"does: what it held after byte {place.mark.offset:,} (line {place.lines:,}) is not "
            "published"
        )


def _shape(file: OpenFile) -> tuple[int, int]:
    state = file.state()
    return state.st_size, state.st_mtime_ns


def _known(file: OpenFile, seen: list[int]) -> bool:
    """Whether its inode is in `seen`; closed then, and noted otherwise."""
    inode = file.state().st_ino
    if inode in seen:
        file.close()
        return True
    seen.append(inode)
    return False
