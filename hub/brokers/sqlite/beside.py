"""The files beside the history file: the lock of the hub that has it, the WAL, and the WAL's index.

The lock's file also has the number of commits that the history has. It is written behind each
commit, so it is never above what is on the disk. After a power cut it may be below, because nothing
waits for its fsync. A history with fewer commits is an older one, or its WAL has
gone: offsets that were given out must not come again.
"""

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hub.brokers.sqlite.faults import Fault, FileError

# https://www.sqlite.org/fileformat.html: bytes 18 and 19 of a file are 2 where it has a WAL.
_VERSIONS = slice(18, 20)
_NOTE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Note:
    """The state of a history, as the hub that had it noted last."""

    line: str
    commits: int


class HistoryLock:
    """Held as long as the history is open: two hubs would give the same offsets out."""

    def __init__(self, path: str) -> None:
        """Raise `FileError` where another hub holds it, `OSError` where it cannot be made.

        One file may have several names: the lock lies where the history itself does.
        """
        self._file = os.open(
            f"{os.path.realpath(path)}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            if isinstance(error, BlockingIOError):
                raise FileError(Fault.LOCKED, path, "another hub runs on it") from None
            raise

    def noted(self) -> Note | None:
        """Return the last note; None where there is none that can be read."""
        try:
            line, commits = os.pread(self._file, _NOTE_BYTES, 0).decode().split()
            return Note(line, int(commits))
        except (OSError, ValueError):
            return None

    def note(self, line: str, commits: int) -> None:
        """Note the state of the history; a disk without room for it keeps the note before."""
        with suppress(OSError):
            os.pwrite(self._file, f"{line} {commits:020}\n".encode(), 0)

    def close(self) -> None:
        os.close(self._file)


def create(path: str) -> None:
    """Make the file, readable by the hub's user alone; its WAL gets the same rights."""
    if Path(path).exists():
        return
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    sync(str(Path(path).parent))


def refuse_foreign_wal(path: str) -> None:
    """Raise `FileError` where the WAL of another file lies beside a copy.

    `hub backup` makes copies that have no WAL. SQLite would read the pages of one that was left
    there all the same.
    """
    wal = Path(f"{os.path.realpath(path)}-wal")
    with Path(path).open("rb") as file:
        head = file.read(_VERSIONS.stop)
    if head[_VERSIONS] == b"\1\1" and wal.exists() and wal.stat().st_size:
        raise FileError(Fault.FOREIGN, path, f"{wal.name} beside it is of another file: move it")


def identity(path: str) -> tuple[int, int]:
    found = Path(path).stat()
    return found.st_dev, found.st_ino


class FilesOfSqlite:
    """The WAL of an open history and its index, as they were when it was opened.

    Another program that opens the history without them makes its own. With another index than the
    hub's, the two do not see each other's locks: the other program reads pages that the hub is
    writing anew.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._real = os.path.realpath(path)
        self._history = identity(path)
        self._wal, self._index = self._now()

    def check(self) -> None:
        """Raise `FileError` where another file, or none, is at the name of one of them."""
        for was, now, name in zip(
            (self._wal, self._index), self._now(), ("its WAL", "the index of its WAL"), strict=True
        ):
            if was != now:
                detail = f"{name} was moved away or replaced"
                raise FileError(Fault.MISSING, self._path, detail)

    def foreign_index(self) -> tuple[int, int] | None:
        """Return the index that another program has made of this history; None without one.

        That program does not follow the hub's commits. A hub that opened the history with this
        index would write over the commits behind it.
        """
        with suppress(OSError):
            _, index = self._now()
            if index != self._index and identity(self._path) == self._history:
                return index
        return None

    def forget(self, index: tuple[int, int]) -> None:
        """Delete a foreign index: the next hub makes its own from the WAL."""
        with suppress(OSError):
            if self._now()[1] == index:
                Path(f"{self._real}-shm").unlink()

    def _now(self) -> Sequence[tuple[int, int] | None]:
        return [_identity_if_there(f"{self._real}{suffix}") for suffix in ("-wal", "-shm")]


def _identity_if_there(path: str) -> tuple[int, int] | None:
    try:
        return identity(path)
    except FileNotFoundError:
        return None


def sync(path: str) -> None:
    """Wait until a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
