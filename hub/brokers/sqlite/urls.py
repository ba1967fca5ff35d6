"""The URL `sqlite:///path` of a history file, and the directory on the way to it.

The settings read it at each start, so it imports nothing but the standard library and errors.
"""

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from hub.errors import SettingsError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

SCHEME = "sqlite:"


def is_sqlite(url: str) -> bool:
    """Return whether it names a file and is well formed."""
    try:
        path_of(url)
    except ValueError:
        return False
    return True


def path_of(url: str) -> str:
    """Return the absolute path; raise `ValueError` for anything but `sqlite:///path`.

    A fourth slash, which some libraries ask for, says the same: `sqlite:////data/hub.db` is
    `/data/hub.db`. The text of the error is the cure.
    """
    parts = urlsplit(url)
    if f"{parts.scheme}:" != SCHEME or parts.query or parts.fragment:
        raise ValueError("allowed: sqlite:///path")
    path = unquote(parts.netloc + parts.path)
    if not path.strip("/") or "\0" in path:
        raise ValueError("allowed: sqlite:///path")
    first, name = path.lstrip("/").partition("/")[0], PurePosixPath(path).name
    if not path.startswith("/") or first in {".", "..", "~"}:
        # `sqlite:///./hub.db` and `sqlite://hub.db`, which somebody means for this directory.
        raise ValueError(f"the path is absolute: {_absolute(path.lstrip('/'))}")
    if path.endswith("/") or name in {".", ".."}:
        raise ValueError(f"{path} is a directory: {_file_in(path)}")
    return "/" + path.lstrip("/")


def _file_in(directory: str) -> str:
    return f"{SCHEME}//{directory.rstrip('/')}/history.db"


def _absolute(relative: str) -> str:
    """Return the URL of a path that somebody means from here, or from the home directory."""
    try:
        here = os.path.normpath(Path.cwd() / Path(relative).expanduser())
    except (OSError, RuntimeError):
        return "sqlite:///path"
    return f"{SCHEME}//{here}"


def make_directory(url: str, log: "FilteringBoundLogger") -> None:
    """Make the directories missing on the way to the history file, for the hub's user alone.

    Nothing is done for the URL of another broker. Raises `SettingsError` where a directory cannot
    be made, or stands in the place of the file: a hub that starts all the same would answer every
    publication with 503. A directory that goes away later is waited for.
    """
    if not is_sqlite(url):
        return
    path = Path(path_of(url))
    if path.is_dir():
        cure = f"name a file in it, such as {_file_in(str(path))}"
        raise SettingsError(f"HUB_BROKER: {path} is a directory: {cure}")
    directory = path.parent
    if directory == Path("/"):
        _warn_of_root(path, log)
    if directory.is_dir():
        return
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or error
        raise SettingsError(f"HUB_BROKER: cannot make the directory {directory}: {why}") from None
    log.info("history_directory_made", path=str(directory))


def _warn_of_root(path: Path, log: "FilteringBoundLogger") -> None:
    """Say that `sqlite:///hub.db` is `/hub.db`: other programs take three slashes for a relative
    path.

    Raises `SettingsError` where the file cannot be made there.
    """
    cure = f"the path is absolute; for this directory write {_absolute(path.name)}"
    if not path.exists() and not os.access("/", os.W_OK):
        raise SettingsError(f"HUB_BROKER: cannot make the file {path}: {cure}")
    log.warning("history_in_root", path=str(path), message=cure)
