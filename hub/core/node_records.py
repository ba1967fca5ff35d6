"""What a node and its broker are like now: one record of each, made once a second or when asked.

A node tells its own to all others, so a field that is new has a default: a node of an earlier
version does not say it. A figure of a broker names the metric that it is exported as.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.core.labels import exported


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
    """Of the last seconds (`hub.core.counters`)."""
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
    broker_away: tuple[str, ...] = ()
    """Servers of the broker that cannot be reached from here, each with the reason ..."""
    broker_away_since_ms: int = 0
    """... and since when the first of them is away, in milliseconds since 1970 UTC; 0 for none."""
    broker_back_ms: int = 0
    """When all of them were back last; 0 where none was ever away."""
    broker_reset_channels: int = 0
    """How many channels with a subscriber here went on in a new epoch since it went away last."""
    leaving: str = ""
    """`draining` or `rebalance` while connections are closed for that."""
    leaving_connections: int = 0
    """How many that closes in all ..."""
    left_connections: int = 0
    """... and has closed."""
    ended_ms: int = 0
    """When it stopped, by its own last word; 0 while it runs."""
    at_ms: int = 0
    """When this was so, in milliseconds since 1970 UTC by the node's clock."""
    worker: int = 0
    """Its number among the processes that share a port on one machine; 0 where it is alone."""


def _gauge(metric: str, about: str) -> Any:
    """A field that is exported as `metric`."""
    return field(default=0, metadata=exported(metric, about))


@dataclass(frozen=True, slots=True)
class BrokerRecord:
    """What a broker outside this process is like now; of one within, all but its history is 0."""

    servers: int = _gauge("hub_broker_servers", "Servers that the broker consists of.")
    refusing_servers: int = _gauge(
        "hub_broker_refusing_servers",
        "Servers whose calls are refused at once because they cannot be reached.",
    )
    """Where calls are refused at once, because they would wait for nothing."""
    deaf_servers: int = _gauge(
        "hub_broker_deaf_servers",
        "Servers that carried no canary for too long: the node is not ready.",
    )
    """From which nothing has been heard for too long."""
    unwritable_servers: int = _gauge(
        "hub_broker_unwritable_servers",
        "Servers that refuse what is published: full, unable to save, or without replicas.",
    )
    """That answer, and refuse what is published: full, or unable to save."""
    canary_age_seconds: float = _gauge(
        "hub_broker_canary_age_seconds",
        "Time since the last canary came back, at the server where it is longest.",
    )
    """Time since the last canary came back, at the server where it is longest."""
    canary_round_trip_seconds: float = _gauge(
        "hub_broker_canary_round_trip_seconds",
        "The newest canary's way from publish to delivery, at the slowest server.",
    )
    """Of the newest one, at the slowest server."""
    pending_calls: int = _gauge(
        "hub_broker_pending_calls", "Calls to the broker that are not answered yet."
    )
    filling_channels: int = _gauge(
        "hub_broker_filling_channels", "Channels for which missing messages are being read."
    )
    """Where something is missing that is being read from history."""
    held_bytes: int = _gauge(
        "hub_broker_held_bytes", "Bytes of messages that wait for missing ones before them."
    )
    """Received, and waiting for that."""
    held_limit_bytes: int = _gauge(
        "hub_broker_held_limit_bytes",
        "Bytes of such messages that may wait (HUB_BROKER_HOLD_BYTES).",
    )
    history_bytes: int = _gauge(
        "hub_history_bytes",
        "Bytes of the history of all channels, in this process or its file.",
    )
    """What history takes of this process' memory, or of its file; of a broker outside 0."""
    history_limit_bytes: int = _gauge(
        "hub_history_limit_bytes",
        "Bytes above which the oldest publications go (HUB_HISTORY_TOTAL_BYTES).",
    )
    state_rows: int = _gauge(
        "hub_state_rows", "Rows of all keyed channels, in this process or its file."
    )
    """Of a broker outside 0."""
    state_row_bytes: int = _gauge("hub_state_row_bytes", "Bytes of memory that these rows take.")
    versions: Mapping[str, int] = field(default_factory=dict)
    """Servers by the version they run."""
