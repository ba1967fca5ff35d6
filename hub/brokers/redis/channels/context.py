"""What every part of a shard is handed."""

from collections.abc import Callable
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from hub.brokers.redis.channels.tracker import HoldBudget
from hub.brokers.redis.options import RedisOptions
from hub.core.options import Namespaces
from hub.core.ports import Downstream, Monotonic, Spawn
from hub.core.tally import Tally


@dataclass(frozen=True, slots=True)
class ShardContext:
    namespaces: Namespaces
    options: RedisOptions
    downstream: Downstream
    clock: Monotonic
    wall_clock: Callable[[], float]
    """Seconds since 1970 UTC."""
    spawn: Spawn
    """Runs a coroutine until it ends or the shard stops."""
    log: FilteringBoundLogger
    tally: Tally
    hold_budget: HoldBudget
