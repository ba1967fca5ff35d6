"""The broker of a node, made from the settings: the one place that names concrete brokers.

`hub.settings.parsing.check_broker` has judged `HUB_BROKER` before.

A node that stands alone does not import the Redis client, which takes a third of its start.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hub.admin.rpc import NodeBus, NoOtherNodes
from hub.brokers.idempotency import IdempotencyKeys
from hub.brokers.local.bus import WorkerBus, WorkerRoster
from hub.brokers.local.client import LocalBroker
from hub.brokers.local.link import Connect, WorkerLink
from hub.brokers.memory import MemoryBroker
from hub.brokers.redis.keys import TAG_LENGTH, Keys
from hub.brokers.sqlite.urls import is_sqlite, make_directory, path_of
from hub.core.fanout.presence import LocalRoster
from hub.core.node_records import BrokerRecord
from hub.core.ports import DirectoryBroker, Downstream, Roster
from hub.core.publication import Position
from hub.errors import SettingsError, UnauthorizedError
from hub.node.core import Shared
from hub.node.supervisor.roles import Worker
from hub.observe.log_levels import BROKER
from hub.settings import Settings


class NodeBroker(DirectoryBroker, Protocol):
    """A broker as the node runs and shows it."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def sweep(self) -> None:
        """A part of the housekeeping; called ten to twenty times a second."""
        ...

    def impaired(self) -> Sequence[str]:
        """Return what works at no node, so that no session need go elsewhere."""
        ...

    def problems(self) -> Sequence[str]:
        """Return why the node should get no traffic; empty when it should."""
        ...

    def away(self) -> Sequence[str]:
        """Return the servers of the broker that cannot be reached now, each with the reason."""
        ...

    def record(self) -> BrokerRecord:
        """Return its figures of now, for operators."""
        ...

    def names(self) -> Sequence[str]:
        """Return the channels this node knows."""
        ...

    def held(self, channel: str) -> tuple[Position, int | None] | None:
        """Return a channel's head and how many publications are held, where known here."""
        ...

    def rows_held(self, channel: str) -> tuple[int, int] | None:
        """Return how many rows a keyed channel has, and their bytes, where known here."""
        ...


class NodeRoster(Roster, Protocol):
    """A roster as the node runs it."""

    def refresh(self, channel: str) -> None:
        """Tell the members of a channel again: the broker may have forgotten them."""
        ...

    async def start(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Brokerage:
    """A broker, and the roster and bus that go with it."""

    broker: NodeBroker
    roster: NodeRoster
    """The presence of members, where the broker carries the channels."""
    bus: NodeBus
    """The way to the nodes that share the broker."""
    look: Callable[[], Awaitable[None]] | None = None
    """Makes the broker learn of channels that this node does not follow, where another process of
    this machine knows them."""


def make_tag() -> str:
    """Return a tag: it names one run of a node, and begins the ids of its connections."""
    return secrets.token_hex(TAG_LENGTH // 2)


def is_all_here(settings: Settings, worker: Worker | None) -> bool:
    """Return whether the broker's content ends with this process, and no other sees it."""
    alone = worker is None or worker.connect is None
    return alone and settings.broker.startswith("memory:")


def make_brokerage(
    settings: Settings,
    shared: Shared,
    *,
    tag: str,
    downstream: Downstream,
    worker: Worker | None = None,
) -> Brokerage:
    """Make the broker that `HUB_BROKER` names, or the way to the broker process of all workers.

    Raises `SettingsError` where it names none that can be used.
    """
    if worker is not None and worker.connect is not None:
        return _of_process(settings, shared, tag, downstream, worker.connect, worker.on_outdated)
    if settings.broker.startswith("memory:"):
        return _memory(settings, shared, downstream)
    if is_sqlite(settings.broker):
        return _sqlite(settings, shared, downstream)
    try:
        return _redis(settings, shared, tag, downstream)
    except SettingsError as error:
        raise SettingsError(f"HUB_BROKER: {error.message}") from None


def _memory(settings: Settings, shared: Shared, downstream: Downstream) -> Brokerage:
    broker = MemoryBroker(
        downstream=downstream,
        namespaces=settings.namespaces(),
        clock=shared.awake,
        wall_clock=shared.wall_clock,
        idempotency=IdempotencyKeys(
            ttl_seconds=settings.idempotency_ttl_seconds,
            clock=shared.awake,
            max_keys=settings.idempotency_max_keys,
        ),
        position_ttl_seconds=settings.position_ttl_seconds,
        max_channels=settings.max_channels,
        history_total_bytes=settings.history_total_bytes,
    )
    return Brokerage(broker, LocalRoster(downstream.announce), NoOtherNodes())


def _of_process(
    settings: Settings,
    shared: Shared,
    tag: str,
    downstream: Downstream,
    connect: Connect,
    on_outdated: Callable[[], None],
) -> Brokerage:
    link = WorkerLink(
        connect,
        tag=tag,
        clock=shared.awake,
        log=shared.log.bind(subsystem=BROKER),
        counters=shared.counters,
        on_outdated=on_outdated,
    )
    broker = LocalBroker(
        link,
        downstream=downstream,
        namespaces=settings.namespaces(),
        spawn=shared.spawn,
        clock=shared.awake,
        counters=shared.counters,
        hold_total_bytes=settings.broker_hold_bytes,
    )
    bus = WorkerBus(link, spawn=shared.spawn)
    return Brokerage(broker, WorkerRoster(link, spawn=shared.spawn), bus, look=broker.look)


def _sqlite(settings: Settings, shared: Shared, downstream: Downstream) -> Brokerage:
    from hub.brokers.sqlite.broker import SqliteBroker  # noqa: PLC0415 - as below
    from hub.brokers.sqlite.context import SqliteContext, SqliteOptions  # noqa: PLC0415

    make_directory(settings.broker, shared.log.bind(subsystem=BROKER))
    context = SqliteContext(
        downstream=downstream,
        namespaces=settings.namespaces(),
        clock=shared.awake,
        wall_clock=shared.wall_clock,
        spawn=shared.spawn,
        log=shared.log.bind(subsystem=BROKER),
        counters=shared.counters,
        options=SqliteOptions(
            path=path_of(settings.broker),
            position_ttl_seconds=settings.position_ttl_seconds,
            idempotency_ttl_seconds=settings.idempotency_ttl_seconds,
            idempotency_max_keys=settings.idempotency_max_keys,
            max_channels=settings.max_channels,
            history_total_bytes=settings.history_total_bytes,
        ),
    )
    broker = SqliteBroker(context)
    return Brokerage(broker, LocalRoster(downstream.announce), NoOtherNodes())


def _redis(settings: Settings, shared: Shared, tag: str, downstream: Downstream) -> Brokerage:
    from hub.brokers.redis.broker import RedisBroker  # noqa: PLC0415 - see above
    from hub.brokers.redis.bus import Proof, RedisNodeBus  # noqa: PLC0415
    from hub.brokers.redis.leases import RedisRoster  # noqa: PLC0415
    from hub.brokers.redis.options import RedisOptions  # noqa: PLC0415

    log = shared.log.bind(subsystem=BROKER)
    broker = RedisBroker(
        url=settings.broker,
        downstream=downstream,
        namespaces=settings.namespaces(),
        clock=shared.awake,
        wall_clock=shared.wall_clock,
        spawn=shared.spawn,
        log=log,
        counters=shared.counters,
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
    roster = RedisRoster(broker.shard, tag=tag, spawn=shared.spawn, log=log)

    def unproved() -> None:
        shared.counters.refusals["node"] += 1
        shared.refusals.refused(
            UnauthorizedError.code,
            address="redis",
            reason="no operator's key proves a message between nodes:"
            " HUB_OPERATOR_KEYS has to be the same at all of them",
            refusal="node",
        )

    keys = [key.get_secret_value() for key in settings.operator_keys]
    proof = Proof(keys, shared.wall_clock)
    bus = RedisNodeBus(broker.shard, tag=tag, spawn=shared.spawn, proof=proof, unproved=unproved)
    return Brokerage(broker, roster, bus)
