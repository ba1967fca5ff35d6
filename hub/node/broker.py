"""Which broker a node gets: the one place that names concrete ones.

A node that stands alone does not import the Redis client, which takes a third of its start.
"""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from structlog.typing import FilteringBoundLogger

from hub.admin.cluster import NodeBus, NoOtherNodes
from hub.brokers.idempotency import IdempotencyKeys
from hub.brokers.memory import MemoryBroker
from hub.brokers.redis.keys import TAG_LENGTH, Keys
from hub.core.ports import Broker, Downstream, Monotonic, Roster, Spawn
from hub.core.presence import LocalRoster
from hub.core.publication import Position
from hub.core.records import BrokerRecord
from hub.core.tally import Tally
from hub.errors import SettingsError
from hub.settings import Settings

if TYPE_CHECKING:
    from hub.brokers.redis.broker import RedisBroker


class NodeBroker(Broker, Protocol):
    """A broker as the node runs and shows it."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def sweep(self) -> None:
        """A part of the housekeeping; called some twenty times a second."""
        ...

    def impaired(self) -> Sequence[str]:
        """What does not work at any node; no reason to send anybody elsewhere."""
        ...

    def problems(self) -> Sequence[str]:
        """Why the node should get no traffic; empty when it should."""
        ...

    def record(self) -> BrokerRecord:
        """What it is like now, for operators."""
        ...

    def names(self) -> Sequence[str]:
        """Of the channels this node knows."""
        ...

    def held(self, channel: str) -> tuple[Position, int | None] | None:
        """A channel's head and how many publications history holds, where that is known here."""
        ...


class NodeRoster(Roster, Protocol):
    """A roster as the node runs it."""

    def refresh(self, channel: str) -> None:
        """What this node told of a channel may be forgotten: tell it again."""
        ...

    async def start(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a broker is given of the node."""

    downstream: Downstream
    clock: Monotonic
    spawn: Spawn
    log: FilteringBoundLogger
    tally: Tally


def make_broker(settings: Settings, around: Surroundings) -> NodeBroker:
    """The broker that `HUB_BROKER` names; raise `SettingsError` where it names none."""
    if settings.broker.startswith("memory:"):
        return MemoryBroker(
            downstream=around.downstream,
            namespaces=settings.namespaces(),
            clock=around.clock,
            wall_clock=time.time,
            idempotency=IdempotencyKeys(
                ttl_seconds=settings.idempotency_ttl_seconds,
                clock=around.clock,
                max_keys=settings.idempotency_max_keys,
            ),
            position_ttl_seconds=settings.position_ttl_seconds,
            max_channels=settings.max_channels,
            history_total_bytes=settings.history_total_bytes,
        )
    try:
        return _redis_broker(settings, around)
    except SettingsError as error:
        raise SettingsError(f"HUB_BROKER: {error.message}") from None


def _redis_broker(settings: Settings, around: Surroundings) -> "RedisBroker":
    from hub.brokers.redis.broker import RedisBroker  # noqa: PLC0415 - see above
    from hub.brokers.redis.options import RedisOptions  # noqa: PLC0415

    return RedisBroker(
        url=settings.broker,
        downstream=around.downstream,
        namespaces=settings.namespaces(),
        clock=around.clock,
        wall_clock=time.time,
        spawn=around.spawn,
        log=around.log,
        tally=around.tally,
        options=RedisOptions(
            node=settings.node,
            keys=Keys(settings.broker_prefix),
            reconcile_seconds=settings.reconcile_seconds,
            position_ttl_seconds=settings.position_ttl_seconds,
            idempotency_ttl_seconds=settings.idempotency_ttl_seconds,
            max_message_bytes=settings.max_message_bytes,
            hold_total_bytes=settings.broker_hold_bytes,
        ),
    )


def make_tag() -> str:
    """What one run of a node is known by to the others, and its connections begin with."""
    return secrets.token_hex(TAG_LENGTH // 2)


def make_roster(broker: NodeBroker, around: Surroundings, *, tag: str) -> NodeRoster:
    """Who is present where `broker` carries the channels."""
    if isinstance(broker, MemoryBroker):
        return LocalRoster(around.downstream.announce)
    from hub.brokers.redis.broker import RedisBroker  # noqa: PLC0415 - see above
    from hub.brokers.redis.nodes.presence import RedisRoster  # noqa: PLC0415

    assert isinstance(broker, RedisBroker)  # noqa: S101 - there is no third one
    return RedisRoster(broker.shard, tag=tag, spawn=around.spawn, log=around.log)


def make_bus(broker: NodeBroker, around: Surroundings, *, tag: str) -> NodeBus:
    """The way to the nodes that share `broker`."""
    if isinstance(broker, MemoryBroker):
        return NoOtherNodes()
    from hub.brokers.redis.broker import RedisBroker  # noqa: PLC0415 - see above
    from hub.brokers.redis.nodes.bus import RedisNodeBus  # noqa: PLC0415

    assert isinstance(broker, RedisBroker)  # noqa: S101 - there is no third one
    return RedisNodeBus(broker.shard, tag=tag, spawn=around.spawn)
