"""The URL `sqlite:///path` of a history file, and the directory on the way to it.

The settings read it at each start, so it imports nothing but the standard library and errors.
"""

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
    `/data/hub.db`.
    """
    parts = urlsplit(url)
    if f"{parts.scheme}:" != SCHEME or parts.netloc or parts.query or parts.fragment:
        raise ValueError("not of the form sqlite:///path")
    path = unquote(parts.path)
    name = PurePosixPath(path).name
    if not path.startswith("/") or path.endswith("/") or name in {"", ".", ".."} or "\0" in path:
        raise ValueError("no path of a file")
    return "/" + path.lstrip("/")


def make_directory(url: str, log: "FilteringBoundLogger") -> None:
    """Make the directories missing on the way to the history file, for the hub's user alone.

    Nothing is done for the URL of another broker. Raises `SettingsError` where a directory cannot
    be made: a hub that starts all the same would answer every publication with 503. A directory
    that goes away later is waited for.
    """
    if not is_sqlite(url):
        return
    directory = Path(path_of(url)).parent
    if directory.is_dir():
        return
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or error
        raise SettingsError(f"HUB_BROKER: cannot make the directory {directory}: {why}") from None
    log.info("history_directory_made", path=str(directory))
