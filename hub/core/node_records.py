"""Records of the present state of a node and of its broker, made once a second or on request.

A node sends its record to all others. A node of an earlier version lacks new fields, so those have
a default. A figure of a broker names the metric that it is exported as.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.core.labels import exported


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """The state of one node."""

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
    """Rate of the last seconds (`hub.core.counters.Rates`)."""
    deliveries_per_second: float = 0.0
    dropped: int = 0
    """Publications that outboxes dropped or conflated."""
    dropped_per_second: float = 0.0
    gaps: int = 0
    """Gap notices sent."""
    gaps_per_second: float = 0.0
    opened: int = 0
    """Connections since the start."""
    closed: int = 0
    """Connections since the start that have ended."""
    transports: Mapping[str, int] = field(default_factory=dict)
    """Connections by transport."""
    latency_p50_ms: float | None = None
    """From the broker's delivery to the last write, of the last seconds; None without traffic."""
    latency_p99_ms: float | None = None
    loop_lag_ms: float = 0.0
    """Delay of the event loop's last timer."""
    outbox_bytes: int = 0
    congested: int = 0
    """Connections whose transport takes no writes now."""
    problems: tuple[str, ...] = ()
    """Reasons for which it should get no traffic, with those of the broker; empty for none."""
    impaired: tuple[str, ...] = ()
    """Faults with which it should still get traffic, because every node has them, such as a Redis
    that takes no publications."""
    broker_servers: int = 0
    """Servers of the broker; 0 where the broker is this process."""
    broker_round_trip_ms: float = 0.0
    """Round trip of the last canary, at the slowest server."""
    broker_away: tuple[str, ...] = ()
    """Servers of the broker that this node cannot reach, each with the reason."""
    broker_away_since_ms: int = 0
    """Time at which the first of them went away, in milliseconds since 1970 UTC; 0 for none."""
    broker_back_ms: int = 0
    """Time at which all of them were last back; 0 where none was ever away."""
    broker_reset_channels: int = 0
    """Channels with a subscriber here that began a new epoch since the broker last went away."""
    leaving: str = ""
    """`draining` or `rebalance` while connections are closed for that."""
    leaving_connections: int = 0
    """The number of connections to close for that."""
    left_connections: int = 0
    """The number of connections that are closed for that already."""
    ended_ms: int = 0
    """Time at which it stopped, by its own last record; 0 while it runs."""
    at_ms: int = 0
    """The time of this record by the node's clock, in milliseconds since 1970 UTC."""
    worker: int = 0
    """Its number among the processes that share a port on one machine; 0 for a single process."""


def _gauge(metric: str, about: str) -> Any:
    """Declare a field that is exported as `metric`."""
    return field(default=0, metadata=exported(metric, about))


@dataclass(frozen=True, slots=True)
class BrokerRecord:
    """The state of the broker. All but its history and rows is 0 for one in this process."""

    servers: int = _gauge("hub_broker_servers", "Servers that the broker consists of.")
    refusing_servers: int = _gauge(
        "hub_broker_refusing_servers",
        "Servers whose calls are refused at once because they cannot be reached.",
    )
    """Servers whose calls are refused at once, because no answer can come."""
    deaf_servers: int = _gauge(
        "hub_broker_deaf_servers",
        "Servers that carried no canary for too long: the node is not ready.",
    )
    """Servers that have sent nothing for too long."""
    unwritable_servers: int = _gauge(
        "hub_broker_unwritable_servers",
        "Servers that refuse publications: full, unable to save, or without replicas.",
    )
    """Servers that answer and refuse publications: full, or unable to save."""
    canary_age_seconds: float = _gauge(
        "hub_broker_canary_age_seconds",
        "Time since the last canary came back, at the server where it is longest.",
    )
    """Time since the last canary came back, at the server where it is longest."""
    canary_round_trip_seconds: float = _gauge(
        "hub_broker_canary_round_trip_seconds",
        "The newest canary's way from publish to delivery, at the slowest server.",
    )
    """Round trip of the newest canary, at the slowest server."""
    pending_calls: int = _gauge(
        "hub_broker_pending_calls", "Calls to the broker that are not answered yet."
    )
    filling_channels: int = _gauge(
        "hub_broker_filling_channels", "Channels for which missing messages are being read."
    )
    """Channels whose missing publications are being read from history."""
    held_bytes: int = _gauge(
        "hub_broker_held_bytes", "Bytes of messages that wait for missing ones before them."
    )
    """Bytes of publications that wait for missing ones."""
    held_limit_bytes: int = _gauge(
        "hub_broker_held_limit_bytes",
        "Bytes of such messages that may wait (HUB_BROKER_HOLD_BYTES).",
    )
    history_bytes: int = _gauge(
        "hub_history_bytes",
        "Bytes of the history of all channels, in this process or its file.",
    )
    """Bytes of history in this process' memory or in its file; 0 for an external broker."""
    history_limit_bytes: int = _gauge(
        "hub_history_limit_bytes",
        "Bytes above which the oldest publications go (HUB_HISTORY_TOTAL_BYTES).",
    )
    state_rows: int = _gauge(
        "hub_state_rows", "Rows of all keyed channels, in this process or its file."
    )
    """0 for an external broker."""
    state_row_bytes: int = _gauge("hub_state_row_bytes", "Bytes of memory that these rows take.")
    versions: Mapping[str, int] = field(default_factory=dict)
    """Servers by the version they run."""
