"""Settings of the durable broker, its URL `sqlite:///path`, and the directory of its file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from structlog.typing import FilteringBoundLogger

from hub.core.counters import Counters
from hub.core.options import Namespaces
from hub.core.ports import Downstream, Monotonic, Spawn
from hub.errors import SettingsError
from hub.observe.log_levels import BROKER


@dataclass(frozen=True, slots=True)
class SqliteOptions:
    """As `hub.settings` has them."""

    path: str
    position_ttl_seconds: float
    idempotency_ttl_seconds: float
    idempotency_max_keys: int
    max_channels: int
    history_total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteContext:
    """What one broker and its parts are made with."""

    downstream: Downstream
    """Gets each publication of a subscribed channel, in order, once it is durable."""
    namespaces: Namespaces
    clock: Monotonic
    wall_clock: Callable[[], float]
    """Seconds since 1970 UTC."""
    spawn: Spawn
    log: FilteringBoundLogger
    counters: Counters
    options: SqliteOptions


SCHEME = "sqlite:"


def is_sqlite(url: str) -> bool:
    """Whether it names a file, well formed."""
    try:
        path_of(url)
    except ValueError:
        return False
    return True


def path_of(url: str) -> str:
    """The absolute path; raise `ValueError` for anything but `sqlite:///path`.

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


def make_directory(url: str, log: FilteringBoundLogger) -> None:
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
    log.info("history_directory_made", subsystem=BROKER, path=str(directory))
