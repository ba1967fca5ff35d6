"""One open file: its lines, and its content at the last look.

A name may lead elsewhere and a file may be emptied under it between any two reads. So an open file
notes its content at each look, and its lines count only while it still begins with that.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from hub.ingest.checkpoint import FilePlace, new_place
from hub.ingest.encoding import Encoding
from hub.ingest.finding import Mark, continues, mark
from hub.ingest.lines import MAX_LINE_BYTES, Line, LineReader

_STEP_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive lines of one file, and the place behind them."""

    file: Path
    before: FilePlace
    lines: tuple[Line, ...]
    after: FilePlace
    size: int
    """The size of the file in bytes."""


class OpenFile:
    """A file that had the name `path` when it was opened.

    Args:
        path: Its name then.
        place: Where to read on; its beginning when None.
        encoding: The encoding of its text; when None its own beginning decides.
        now: Seconds that only rise.
        is_copy: Whether it was made by copying, so that nothing is written to it.
        fd: Its descriptor where it is open already; this object owns it from now on.

    Raises `OSError`.
    """

    def __init__(
        self,
        path: Path,
        place: FilePlace | None = None,
        *,
        encoding: Encoding | None = None,
        now: float = 0.0,
        is_copy: bool = False,
        fd: int | None = None,
    ) -> None:
        self.path = path
        self.real_path = path.resolve()
        """The target of `path` then, where it is a link."""
        self.fd = os.open(path, os.O_RDONLY) if fd is None else fd
        state = self.state()
        self.identity = (state.st_dev, state.st_ino)
        """Device and inode; no other file has them while this one is open."""
        self.place = place or new_place(state.st_ino, state.st_mtime_ns)
        self.written_ns = self.place.written_ns or state.st_mtime_ns
        """The time of the last write while the file had its name."""
        self.is_copy = is_copy
        self.is_lost = False
        """Whether the file was emptied without a copy: then nothing of it can be read."""
        self.changed_at = now
        """The time at which the file last grew or lost its name."""
        self.seen: Mark = self.place.mark
        """The end of the last whole line at the last look."""
        self.size = state.st_size
        """The size in bytes at the last look."""
        self._encoding = encoding
        self._shape = (-1, -1)
        self._shape_at_end: tuple[int, int] | None = None
        self._begin_reading()
        self.look(now)
        self.changed_at = now

    def state(self) -> os.stat_result:
        return os.fstat(self.fd)

    def is_unchanged(self) -> bool:
        """Whether nothing was written to the file since the last look."""
        return _shape(self.state()) == self._shape

    def look(self, now: float) -> bool:
        """Note the bytes that were added; return whether the file still begins with the noted
        content."""
        state = self.state()
        if _shape(state) == self._shape:
            return True
        if not continues(self.fd, self.seen):
            return False
        self.changed_at = now
        self._shape = _shape(state)
        self.size = state.st_size
        end = self._end_of_lines()
        if end > self.seen.offset:
            self.seen = mark(self.fd, end)
        return True

    def keep_name(self) -> None:
        """Note that the file still has its name."""
        self.written_ns = max(self.written_ns, self._shape[1])

    def take(self, most: int, *, final: bool) -> Chunk | None:
        """Return the next lines; None when there are none yet, or the content is gone."""
        shape = self._shape
        if self._shape_at_end not in {None, shape}:
            self._read_again()
        lines = tuple(self.reader.take(most, final=final))
        # The lines count only if the file was not emptied and written anew meanwhile.
        if not continues(self.fd, self.seen) or (lines and self._is_shorter_than(lines[-1].end)):
            self._begin_reading()
            return None
        if not lines:
            self._shape_at_end = shape
            return None
        self._shape_at_end = None
        last, before = lines[-1], self.place
        self.place = self.place_at(last.end, last.number)
        if self.place.mark.offset > self.seen.offset:
            self.seen = self.place.mark
        return Chunk(self.path, before, lines, self.place, self.state().st_size)

    def place_at(self, offset: int, lines: int) -> FilePlace:
        """Return the place at byte `offset`, behind `lines` lines."""
        done = frozenset(start for start in self.place.done if start >= offset)
        return replace(
            self.place,
            mark=mark(self.fd, offset),
            lines=lines,
            done=done,
            written_ns=self.written_ns,
        )

    def close(self) -> None:
        os.close(self.fd)

    def _begin_reading(self) -> None:
        self.reader = LineReader(
            self.fd,
            offset=self.place.mark.offset,
            number=self.place.lines,
            encoding=self._encoding,
        )

    def _read_again(self) -> None:
        """Read an unfinished line again, because it may have changed."""
        if self.size < self.reader.read_to:
            self.reader.restart()
        else:
            self.reader.reread()

    def _is_shorter_than(self, end: int) -> bool:
        return self.state().st_size < end

    def _end_of_lines(self) -> int:
        """Return the byte behind the last line end; `seen` where there is no newer one.

        An unfinished line is left out, because its writer may still change it. The end of a line
        that is longer than allowed is not searched.
        """
        first = max(self.seen.offset, self.size - MAX_LINE_BYTES)
        end = self.size
        while end > first:
            begin = max(first, end - _STEP_BYTES)
            found = os.pread(self.fd, end - begin, begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
        return self.seen.offset


def _shape(state: os.stat_result) -> tuple[int, int]:
    return state.st_size, state.st_mtime_ns
