"""Which broker a node gets: the one place that names concrete ones."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from hub.brokers.idempotency import IdempotencyKeys
from hub.brokers.memory import MemoryBroker
from hub.brokers.redis.broker import RedisBroker
from hub.brokers.redis.options import RedisOptions
from hub.core.ports import Broker, Downstream, Monotonic, Spawn
from hub.core.publication import Position
from hub.settings import Settings


class NodeBroker(Broker, Protocol):
    """A broker as the node runs and shows it."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def sweep(self) -> None:
        """A part of the housekeeping; called some twenty times a second."""
        ...

    def problems(self) -> Sequence[str]:
        """Why the node should get no traffic; empty when it should."""
        ...

    def names(self) -> Sequence[str]:
        """Of the channels this node knows."""
        ...

    def held(self, channel: str) -> tuple[Position, int | None] | None:
        """A channel's head and how many publications history holds, where that is known here."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a broker is given of the node."""

    downstream: Downstream
    clock: Monotonic
    spawn: Spawn
    log: FilteringBoundLogger


def make_broker(settings: Settings, around: Surroundings) -> NodeBroker:
    """The broker that `HUB_BROKER` names; raise `SettingsError` where it names none."""
    if settings.broker.startswith("memory:"):
        return MemoryBroker(
            downstream=around.downstream,
            namespaces=settings.namespaces(),
            clock=around.clock,
            wall_clock=time.time,
            idempotency=IdempotencyKeys(
                ttl_seconds=settings.idempotency_ttl_seconds, clock=around.clock
            ),
            position_ttl_seconds=settings.position_ttl_seconds,
            max_channels=settings.max_channels,
        )
    return RedisBroker(
        url=settings.broker,
        downstream=around.downstream,
        namespaces=settings.namespaces(),
        clock=around.clock,
        wall_clock=time.time,
        spawn=around.spawn,
        log=around.log,
        options=RedisOptions(
            node=settings.node,
            reconcile_seconds=settings.reconcile_seconds,
            position_ttl_seconds=settings.position_ttl_seconds,
            idempotency_ttl_seconds=settings.idempotency_ttl_seconds,
            max_message_bytes=settings.max_message_bytes,
        ),
    )
