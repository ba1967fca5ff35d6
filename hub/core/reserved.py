"""Channels of the hub itself: what stands in the namespace `hub` only the hub publishes."""

from hub.core.options import ChannelOptions, Overflow

NAMESPACE = "hub"
_PREFIX = f"{NAMESPACE}:"
STATS_CHANNEL = "hub:stats"
"""Every node's `hub.core.node_records.NodeRecord`, once a second, with its name as the key."""
ACCESS_CHANNEL = "hub:access"
"""Bans and revoked tokens: `hub.admin.bans`. Nodes alone read it."""
ACCESS_OPTIONS = ChannelOptions(history_size=20_000, history_ttl_seconds=30 * 24 * 3600)
"""Twice as many as may be in force; nodes say again what is older than half of that."""
OPTIONS = ChannelOptions(
    history_size=1200, history_ttl_seconds=150, overflow=Overflow.LATEST_PER_KEY
)
"""Two minutes of ten nodes, with which a dashboard's charts begin. A slow reader gets the
newest of each node."""


def is_reserved(channel: str) -> bool:
    """Whether only operators may read `channel`, and nobody may publish on it."""
    return channel.startswith(_PREFIX)


def is_kept(channel: str) -> bool:
    """Whether one of these channels has a history."""
    return channel == ACCESS_CHANNEL
