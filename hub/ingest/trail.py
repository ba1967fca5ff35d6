"""The files that had one name in turn, from the one that is read to the newest.

The name is looked at many times a second, also while nothing is read, so that a file which is
renamed again and again, or copied and emptied, is open before it is gone. Files that may have come
and gone between two looks are reported. Blocking, no thread.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from hub.ingest.checkpoint import FilePlace
from hub.ingest.encoding import Encoding
from hub.ingest.finding import (
    Mark,
    Succession,
    continues,
    copies_of,
    find,
    rotations_after,
    succession,
)
from hub.ingest.opened import OpenFile

# A process may open 1,024 files unless set otherwise. A guess.
MAX_HELD = 128
# A rotation renames one file after the other: it is looked at again until nothing moves.
_TRIES = 10
_PAUSE_SECONDS = 0.01
# Files that are done, so that none is read twice. More than a rotation keeps.
_MAX_DONE = 1000


class Trail:
    """The open files, one at least. The first is the one to be read, the last has the name.

    Args:
        path: The name, an absolute path.
        place: Where to go on; None for the beginning of the file that has the name.
        tell: Prints a sentence on stderr.
        encoding: The encoding of all files; when None each file's beginning decides.
        clock: Seconds that only rise.
        max_held: The number of files that are held open at most.

    Raises `OSError`.
    """

    def __init__(
        self,
        path: Path,
        place: FilePlace | None,
        *,
        tell: Callable[[str], None],
        encoding: Encoding | None = None,
        clock: Callable[[], float] = time.monotonic,
        max_held: int = MAX_HELD,
    ) -> None:
        self._path = path
        self._tell = tell
        self._encoding = encoding
        self._clock = clock
        self._max_held = max_held
        self._files: deque[OpenFile] = deque()
        self._done: deque[tuple[tuple[int, int], Mark]] = deque(maxlen=_MAX_DONE)
        self._has_told_of_copies = False
        self._begin(place)
        if self._has_name(self._files[-1]):
            self._note_what_is_beside()

    @property
    def first(self) -> OpenFile:
        return self._files[0]

    @property
    def is_full(self) -> bool:
        """Whether no more files are opened until one is done."""
        return len(self._files) >= self._max_held

    @property
    def goes_on(self) -> bool:
        """Whether a file comes after the first."""
        return len(self._files) > 1

    @property
    def goes_on_with_lines(self) -> bool:
        """Whether a file after the first holds something."""
        return any(each.size for each in list(self._files)[1:])

    def close(self) -> None:
        for file in self._files:
            file.close()

    def advance(self) -> None:
        """Go on with the next file: the first is done."""
        file = self._files.popleft()
        if not file.is_lost:
            self._done.append((file.identity, file.place.mark))
        file.close()

    def look(self, *, follow: bool) -> None:
        """Note added and emptied content and, with `follow`, the file that has the name now."""
        now = self._clock()
        for file in [each for each in self._files if not each.is_lost]:
            was_touched = not file.seen.offset and not file.is_unchanged()
            if not file.look(now):
                self._replaced(file)
            elif was_touched and file is self._files[-1]:
                self._replaced_before_it_was_seen(file)
        if follow and not self.is_full:
            self._follow_name()

    # -- the name -----------------------------------------------------------------------------

    def _begin(self, place: FilePlace | None) -> None:
        found = find(self._path, place.mark) if place else self._path
        if place and not found:
            self._tell_lost(place, size=0)
            after = place.written_ns or time.time_ns()
            self._files.extend(self._open_after(None, after))
        if found:
            self._files.append(self._open(found, place))
        if not self._files:
            self._files.append(self._open(self._path))
        if found and found != self._path:
            self._follow_name()

    def _note_what_is_beside(self) -> None:
        """Note the rotated files that were there before, so that they are not taken for new
        ones."""
        held = {file.identity for file in self._files}
        for path in rotations_after(self._path, 0):
            try:
                file = self._open(path)
            except OSError:
                continue
            if file.identity not in held:
                self._done.append((file.identity, file.seen))
            file.close()

    def _follow_name(self) -> None:
        last = self._files[-1]
        try:
            named = self._path.stat()
        except FileNotFoundError:
            return  # renamed, and not made again yet
        if (named.st_dev, named.st_ino) == last.identity:
            last.keep_name()
        elif after := self._open_after(last, last.written_ns):
            last.changed_at = self._clock()
            self._files.extend(after)

    def _open_after(self, former: OpenFile | None, written_ns: int) -> list[OpenFile]:
        """Open the files that had the name after `former`, oldest first, and the present one.

        Args:
            former: None where it is gone.
            written_ns: The time of the last write to it while it had the name.
        """
        identity, led_to = (former.identity, former.real_path) if former else (None, None)
        for attempt in range(1, _TRIES + 1):
            found = succession(self._path, identity, led_to, written_ns)
            opened, are_all = self._open_new([*found.paths, self._path])
            are_all = are_all and bool(opened) and self._has_name(opened[-1])
            still = found == succession(self._path, identity, led_to, written_ns)
            if attempt == _TRIES or (are_all and still and not found.missing):
                break
            for file in opened:
                file.close()
            time.sleep(_PAUSE_SECONDS)
        if former and opened:
            self._tell_unknown(found)
        return opened

    def _has_name(self, file: OpenFile) -> bool:
        try:
            named = self._path.stat()
        except FileNotFoundError:
            return False
        return file.identity == (named.st_dev, named.st_ino)

    def _open_new(
        self, paths: Sequence[Path], *, are_copies: bool = False
    ) -> tuple[list[OpenFile], bool]:
        """Open the files that are neither held nor done; return whether all paths were there."""
        held = {file.identity for file in self._files}
        opened: list[OpenFile] = []
        are_all = True
        for path in paths:
            try:
                file = self._open(path, is_copy=are_copies)
            except FileNotFoundError:
                are_all = False
                continue
            if file.identity in held or (path != self._path and self._is_done(file)):
                file.close()
            else:
                held.add(file.identity)
                opened.append(file)
        return opened, are_all

    def _is_done(self, file: OpenFile) -> bool:
        """Return whether a file is done. Its inode may be that of another one, so its content
        counts as well."""
        return any(
            identity == file.identity and mark.offset and continues(file.fd, mark)
            for identity, mark in self._done
        )

    def _open(
        self, path: Path, place: FilePlace | None = None, *, is_copy: bool = False
    ) -> OpenFile:
        now = self._clock()
        return OpenFile(path, place, encoding=self._encoding, now=now, is_copy=is_copy)

    # -- other content in the same file -------------------------------------------------------

    def _replaced(self, file: OpenFile) -> None:
        """Look for a copy of the content: the file was emptied, or written anew in its place."""
        index = self._files.index(file)
        fresh = OpenFile(file.path, encoding=self._encoding, now=self._clock(), fd=os.dup(file.fd))
        copy = None if self.is_full else self._copy_of(file)
        between: list[OpenFile] = []
        if index == len(self._files) - 1 and not self.is_full:
            between = self._open_between(copy, file)
        self._tell_replaced(file, copy)
        del self._files[index]
        present: list[OpenFile] = [copy] if copy else []
        if copy or index:
            file.close()
        else:
            # Its place may still be asked for.
            file.is_lost = True
            present = [file]
        for each in reversed([*present, *between, fresh]):
            self._files.insert(index, each)

    def _replaced_before_it_was_seen(self, file: OpenFile) -> None:
        """Look for an unknown copy: the file was empty at the last look, so nothing else tells
        whether it was written, copied and emptied since."""
        self._files.pop()
        for each in self._open_between(None, file):
            self._files.append(each)
        self._files.append(file)

    def _copy_of(self, file: OpenFile) -> OpenFile | None:
        """Return the file that continues `file` as far as it was seen, or at least as far as it was
        read."""
        held = {each.identity for each in self._files}
        for known in (file.seen, file.place.mark):
            for path in copies_of(self._path, known, file.written_ns):
                try:
                    copy = self._open(path, file.place, is_copy=True)
                except FileNotFoundError:
                    continue
                if copy.identity not in held and not self._is_done(copy):
                    return copy
                copy.close()
        return None

    def _open_between(self, copy: OpenFile | None, file: OpenFile) -> list[OpenFile]:
        """Open copies that were made after `copy`, or since the last look at `file` where there is
        none."""
        identity = copy.identity if copy else None
        since = copy.state().st_mtime_ns if copy else file.written_ns
        for attempt in range(1, _TRIES + 1):
            found = succession(self._path, identity, None, since)
            opened, are_all = self._open_new(found.paths, are_copies=True)
            if attempt == _TRIES or (are_all and not found.missing):
                break
            for each in opened:
                each.close()
            time.sleep(_PAUSE_SECONDS)
        self._tell_missing(found)
        return opened

    # -- what cannot be known -----------------------------------------------------------------

    def _tell_unknown(self, found: Succession) -> None:
        self._tell_missing(found)
        if not found.is_certain:
            self._tell(
                f"{self._path} is another file now, and its former one is no longer beside it: "
                "if still others had the name in between, what they held is not published"
            )

    def _tell_missing(self, found: Succession) -> None:
        if found.missing:
            numbers = ", ".join(map(str, found.missing[:10]))
            self._tell(
                f"{self._path} was rotated more than once since it was looked at, and of its "
                f"former files number {numbers} is not there: what it held is not published"
            )

    def _tell_replaced(self, file: OpenFile, copy: OpenFile | None) -> None:
        if copy is None:
            self._tell_lost(file.place, size=file.size)
            return
        if copy.size < file.seen.offset:
            self._tell(
                f"{self._path} was emptied, and its copy {copy.path} lacks the end: "
                f"{file.seen.offset - copy.size:,} bytes of lines are not published"
            )
        if not self._has_told_of_copies:
            self._has_told_of_copies = True
            self._tell(
                f"{self._path} is rotated by copying and emptying it: lines that its writer adds "
                "between the two are in no file, and nobody can count them"
            )

    def _tell_lost(self, place: FilePlace, *, size: int) -> None:
        """Report a loss; `size` is that of the file at the last look, 0 without one."""
        offset = place.mark.offset
        why = f"{self._path} does not begin with what was read before, and no file beside it does"
        rest = f"what it held after byte {offset:,} (line {place.lines:,}) is not published"
        if size > offset:
            self._tell(f"{why}: {rest}, {size - offset:,} bytes at the least")
        else:
            self._tell(f"{why}. If more was written to it, {rest}")
