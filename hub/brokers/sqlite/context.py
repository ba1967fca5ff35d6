"""The settings of the broker on a file, and the parts that a node lends to it."""

from collections.abc import Callable
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from hub.core.counters import Counters
from hub.core.options import Namespaces
from hub.core.ports import Downstream, Monotonic, Spawn


@dataclass(frozen=True, slots=True)
class SqliteOptions:
    """The settings of one broker, as `hub.settings` has them."""

    path: str
    position_ttl_seconds: float
    idempotency_ttl_seconds: float
    idempotency_max_keys: int
    max_channels: int
    history_total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteContext:
    """The parts that a node lends to its broker, and the settings."""

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
