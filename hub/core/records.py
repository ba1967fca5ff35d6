"""What operators see: immutable snapshots of live state, made only when somebody asks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hub.core.publication import Position
from hub.core.values import value


@dataclass(frozen=True, slots=True)
class SubscriptionRecord:
    channel: str
    position: Position
    """The last offset handed to the peer's transport."""
    state: str
    """`live`, `replaying` or `congested`."""
    outbox_messages: int
    dropped: int


@value(frozen=True, slots=True)
class SessionRecord:
    connection: str
    transport: str
    """`websocket`, `sse` or `poll`."""
    subject: str | None
    address: str
    user_agent: str
    opened_ms: int
    """Milliseconds since 1970 UTC."""
    round_trip_ms: float | None
    sent: int
    """Publications handed to the transport."""
    dropped: int
    """Publications its outbox dropped or conflated."""
    outbox_messages: int
    outbox_bytes: int
    outbox_age_seconds: float
    """Age of the oldest publication it is still owed."""
    subscriptions: tuple[SubscriptionRecord, ...]
    node: str = ""
    """The name of the node that holds it."""


@dataclass(frozen=True, slots=True)
class ChannelRecord:
    channel: str
    position: Position
    subscribers: int
    """Sessions of this node; in a list over all nodes, of all."""
    history: int | None
    """Publications held now; None where only the broker knows."""
    presence: bool
    publications_per_second: float | None = None
    """Since somebody asked before; None where that is not known yet."""


@dataclass(frozen=True, slots=True)
class NodeRecord:
    node: str
    version: str
    started_ms: int
    uptime_seconds: float
    connections: int
    subscriptions: int
    channels: int
    publications: int
    deliveries: int
    draining: bool
    publications_per_second: float = 0.0
    """Of the last seconds (`hub.core.rates`)."""
    deliveries_per_second: float = 0.0
    dropped: int = 0
    """Publications that outboxes dropped or conflated."""
    dropped_per_second: float = 0.0
    gaps: int = 0
    """Gap notices sent."""
    gaps_per_second: float = 0.0
    opened: int = 0
    """Connections since the start ..."""
    closed: int = 0
    """... and those of them that have ended."""
    transports: Mapping[str, int] = field(default_factory=dict)
    """Connections by transport."""
    latency_p50_ms: float | None = None
    """From the broker's delivery to the last write, of the last seconds; None without any."""
    latency_p99_ms: float | None = None
    loop_lag_ms: float = 0.0
    """How late the event loop's timer fired last."""
    outbox_bytes: int = 0
    congested: int = 0
    """Connections whose transport takes no writes now."""
    problems: tuple[str, ...] = ()
    """Why it should get no traffic, the broker's troubles among them; empty when it should."""
    impaired: tuple[str, ...] = ()
    """What does not work although it should get traffic, because it would work at no node: such
    as a Redis that takes no publications."""
    broker_servers: int = 0
    """Servers of the broker; 0 where it is this process."""
    broker_round_trip_ms: float = 0.0
    """Of the last canary, at the server where it took longest."""
    leaving: str = ""
    """`draining` or `rebalance` while connections are closed for that."""
    leaving_connections: int = 0
    """How many that closes in all ..."""
    left_connections: int = 0
    """... and has closed."""
    at_ms: int = 0
    """When this was so, in milliseconds since 1970 UTC by the node's clock."""


@dataclass(frozen=True, slots=True)
class BrokerRecord:
    """What a broker outside this process is like now; of one within, all but its history is 0."""

    servers: int = 0
    refusing_servers: int = 0
    """Where calls are refused at once, because they would wait for nothing."""
    deaf_servers: int = 0
    """From which nothing has been heard for too long."""
    unwritable_servers: int = 0
    """That answer, and refuse what is published: full, or unable to save."""
    canary_age_seconds: float = 0.0
    """Since the last canary came back, at the server where that is longest ago."""
    canary_round_trip_seconds: float = 0.0
    """Of the newest one, at the slowest server."""
    pending_calls: int = 0
    filling_channels: int = 0
    """Where something is missing that is being read from history."""
    held_bytes: int = 0
    """Received, and waiting for that."""
    held_limit_bytes: int = 0
    history_bytes: int = 0
    """What history takes of this process' memory; of a broker outside 0."""
    history_limit_bytes: int = 0
    versions: Mapping[str, int] = field(default_factory=dict)
    """Servers by the version they run."""
