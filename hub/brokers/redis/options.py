"""Options of a Redis broker (time, memory, names, intervals), and the parts its node lends it."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from hub.brokers.redis.keys import Keys
from hub.brokers.tracker import HoldBudget
from hub.core.counters import Counters
from hub.core.options import KIB, MIB, ChannelOptions, Namespaces
from hub.core.ports import Downstream, Monotonic, Spawn


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """All times in seconds. Defaults are guesses where no source is named."""

    node: str = "hub"
    """See `client_name`."""
    keys: Keys = field(default_factory=Keys)
    """Names of keys: the same on all nodes of a hub, and on no other hub of that Redis."""
    command_timeout_seconds: float = 2.0
    """From a call to its answer; then the connection is given up."""
    connect_timeout_seconds: float = 3.0
    """For connecting, TLS, AUTH and loading the library together."""
    subscribe_timeout_seconds: float = 5.0
    backoff_first_seconds: float = 0.1
    backoff_max_seconds: float = 5.0
    max_pending_calls: int = 10_000
    """Calls without an answer; 0.2 s of work for Redis at 57,000 publications/s (measured)."""
    max_pending_bytes: int = 32 * MIB
    canary_seconds: float = 2.0
    canary_deadline_seconds: float = 8.0
    """Without a canary for so long the node is not ready: less than 10 s after Redis went."""
    sentinel_seconds: float = 1.0
    """Between two questions to the sentinels."""
    stall_seconds: float = 0.5
    """An answer that took longer may come from a master that was replaced while it was silent: the
    sentinels, or others of the cluster, are asked before it counts. No failover is that quick."""
    confirm_timeout_seconds: float = 1.0
    """For that question; calls go on as before where none of them answers in time. Less than
    `command_timeout_seconds`."""
    retire_timeout_seconds: float = 0.5
    """To tell the former master that it has been left."""
    retired_seconds: int = 15
    """The former master takes no calls for so long; sentinels make it a replica after 10 s."""
    cluster_seconds: float = 2.0
    """Between two looks at a cluster's map of slots; at once when a server points elsewhere."""
    locate_timeout_seconds: float = 0.5
    """For the answers to such a look; where there is none by then, from the first answer on."""
    reconcile_seconds: float = 10.0
    linger_seconds: float = 3.0
    """A channel without sessions stays subscribed so long: reloads come back to it."""
    position_ttl_seconds: float = 7 * 24 * 3600
    idempotency_ttl_seconds: float = 300
    max_message_bytes: int = 64 * KIB
    hold_messages: int = 1000
    """Messages of one channel, received while a hole before them is being filled."""
    hold_bytes: int = MIB
    hold_total_bytes: int = 64 * MIB
    """Bytes of all channels together."""
    batch_size: int = 256
    """Channels per SUBSCRIBE, and those of one turn of the loop."""
    heads_at_once: int = 64
    """Heads asked for in one pipeline: 2 ms to ask, and 2 ms to take the answers (measured)."""
    replies_at_once: int = 200
    """Answers, or messages of pub/sub, that one turn of the loop takes. What has come is read
    without a wait: 3,500 confirmations in one step took 14 ms (measured)."""
    failed_at_once: int = 50
    """Calls that fail in one turn when their connection ends: 30 us each, with their callers."""
    page_size: int = 64
    """Publications per read when filling a hole."""
    page_bytes: int = 64 * KIB
    """... and bytes, or one publication: 2 MiB on their way at most with `concurrent_fills`."""
    concurrent_fills: int = 32
    concurrent_reads: int = 8
    """Pages of history and of presence on their way at a time, of `PAGE_BYTES` each: publications
    go through the same connection, and no more than a MiB is ever before one."""
    use_functions: bool = True
    """False: scripts, as with Redis before 7.0."""

    def client_name(self, what: str) -> str:
        """Return the name for CLIENT LIST, such as `hub:<node>:commands`."""
        return f"{self.keys.prefix}:{self.node}:{what}"

    def settings(self, channel: ChannelOptions) -> str:
        """Return the settings that the library keeps beside a channel (DEFAULTS in library.lua)."""
        size = channel.history_size if channel.keeps_history else 0
        life = channel.state_ttl_seconds and _milliseconds(channel.state_ttl_seconds)
        rows = f" {channel.state_max_keys} {life:.0f}" if channel.keyed else ""
        return (
            f"{size} {_milliseconds(channel.history_ttl_seconds)} "
            f"{_milliseconds(self.position_ttl_seconds)} "
            f"{_milliseconds(self.idempotency_ttl_seconds)}{rows}"
        )


def _milliseconds(seconds: float) -> int:
    return max(int(seconds * 1000), 1)


@dataclass(frozen=True, slots=True)
class ShardContext:
    """The parts that a node lends to each shard; one per broker."""

    namespaces: Namespaces
    options: RedisOptions
    downstream: Downstream
    clock: Monotonic
    wall_clock: Callable[[], float]
    """Seconds since 1970 UTC."""
    spawn: Spawn
    """Runs a coroutine until it ends or the shard stops."""
    log: FilteringBoundLogger
    counters: Counters
    hold_budget: HoldBudget


class Tasks:
    """Runs coroutines by the node's `spawn` until they end or `stop` ends them."""

    def __init__(self, spawn: Spawn) -> None:
        self._spawn = spawn
        self._running: set[asyncio.Task[object]] = set()

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """A `hub.core.ports.Spawn`."""
        self._spawn(self._run(work))

    async def _run(self, work: Coroutine[object, object, None]) -> None:
        if (task := asyncio.current_task()) is not None:
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        await work

    async def stop(self) -> None:
        """Cancel all of them and wait for their end."""
        for task in tuple(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
