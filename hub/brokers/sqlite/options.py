"""Settings of the durable broker, the parts that the node lends it, and its URL `sqlite:///path`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from structlog.typing import FilteringBoundLogger

from hub.core.counters import Counters
from hub.core.options import Namespaces
from hub.core.ports import Downstream, Monotonic, Spawn


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
