"""The place of an ingestion, in a file that is always whole.

The id is part of every idempotency key. It is drawn at random for each file and saved before the
first line is sent: a key made of inode and byte would come again when a truncated or recreated file
reuses both, and the hub would take an equal line for a repetition.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Generator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hub.errors import SettingsError
from hub.ingest.finding import Mark

_ID_BYTES = 12
FORGOTTEN_SECONDS = 30 * 24 * 3600.0
"""A file that has been gone for so long is not expected back. A guess."""


@dataclass(frozen=True, slots=True)
class FilePlace:
    """A place in one file."""

    id: str
    mark: Mark
    lines: int
    """The number of lines before the place."""
    done: frozenset[int] = frozenset()
    """The starts of lines behind the place that have an outcome all the same."""
    written_ns: int = 0
    """The time of the last write while the file had its name; 0 where it is not known."""


def new_place(inode: int, written_ns: int = 0) -> FilePlace:
    """Return the beginning of a file that was not read before."""
    mark = Mark(inode, 0, sha256().hexdigest())
    return FilePlace(secrets.token_hex(_ID_BYTES), mark, 0, written_ns=written_ns)


class Checkpoint(BaseModel):
    """The content of the checkpoint's file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(default=1, ge=1, le=1)
    file: str
    channel: str
    id: str = Field(min_length=1, max_length=100)
    inode: int
    offset: int = Field(ge=0)
    digest: str
    lines: int = Field(ge=0)
    done: list[int] = Field(default=[], max_length=1000)
    settled: bool
    """False where lines behind `offset` that are not in `done` may have been sent."""
    saved_at: float
    """Seconds since 1970 UTC."""
    written_ns: int = Field(default=0, ge=0)
    """The same as that of the place, in nanoseconds since 1970 UTC."""

    @property
    def place(self) -> FilePlace:
        mark = Mark(self.inode, self.offset, self.digest)
        return FilePlace(self.id, mark, self.lines, frozenset(self.done), self.written_ns)


def default_path(file: Path, channel: str, url: str) -> Path:
    """Return a path in the user's state directory, one for each file, channel and hub.

    It is not beside the file, whose directory may be read-only or swept, and whose name a rotation
    or a pattern may match. The hub's address is part of it, because another hub has received
    nothing yet. Raises `SettingsError` for a user without a home directory.
    """
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    except RuntimeError:
        raise SettingsError("there is no home folder to keep its place in: --checkpoint") from None
    digest = sha256(f"{file}\0{channel}\0{url.rstrip('/')}".encode()).hexdigest()[:16]
    return state / "hub" / "ingest" / f"{file.name[:100]}-{digest}.json"


def clear_forgotten(folder: Path, *, now: float) -> list[str]:
    """Remove the checkpoints in `folder` whose files have long been gone; return those files.

    `now` is in seconds since 1970 UTC. A checkpoint that is in use, cannot be read or cannot be
    removed stays as it is.
    """
    forgotten: list[str] = []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValidationError, SettingsError):
            if _is_forgotten(path, now):
                with locked(path):
                    # Another process may have used it since.
                    if _is_forgotten(path, now):
                        file = Checkpoint.model_validate_json(path.read_bytes()).file
                        path.unlink()
                        _lock_of(path).unlink()
                        forgotten.append(file)
    return forgotten


def _is_forgotten(path: Path, now: float) -> bool:
    known = Checkpoint.model_validate_json(path.read_bytes())
    return now - known.saved_at > FORGOTTEN_SECONDS and not os.path.lexists(known.file)


def load(path: Path, *, channel: str) -> Checkpoint | None:
    """Return the saved checkpoint; None when there is none.

    Raises:
        SettingsError: The file cannot be read, is no checkpoint, or belongs to another channel. A
            new beginning without being asked would publish everything again.
    """
    try:
        known = Checkpoint.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no checkpoint"
        raise SettingsError(f"checkpoint {path}: {why}; remove it to begin anew") from None
    if known.channel != channel:
        raise SettingsError(f"checkpoint {path} is of channel {known.channel}, not of {channel}")
    return known


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the saved checkpoint; after a crash the old or the new one is whole. Raises
    `OSError`."""
    # One name, because `locked` lets nobody else save: a kill leaves at most this one behind.
    temporary = path.with_name(f".{path.name}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(checkpoint.model_dump_json().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)  # the new name is on the disk only now
    finally:
        os.close(directory)


@contextlib.contextmanager
def locked(path: Path) -> Generator[None]:
    """Make the directory, and keep every other process from using this checkpoint.

    The lock ends with the process, however the process ends. Raises `SettingsError`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = _open_locked(path)
    except OSError as error:
        raise SettingsError(f"checkpoint {path}: {error.strerror}; see --checkpoint") from None
    try:
        yield
    finally:
        os.close(fd)


def _lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _open_locked(path: Path) -> int:
    """Open and lock the lock's file; open it again where it was removed in between."""
    lock = _lock_of(path)
    while True:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(fd, path)
            if lock.exists() and os.path.samestat(os.fstat(fd), lock.stat()):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SettingsError(f"checkpoint {path} is in use by another `hub ingest`") from None
