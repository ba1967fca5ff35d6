"""What a Redis broker may take: time, memory, names, and how often it asks."""

from dataclasses import dataclass, field

from hub.brokers.redis.keys import Keys
from hub.core.options import KIB, MIB, ChannelOptions


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """All times in seconds. Defaults are guesses where no source is named."""

    node: str = "hub"
    """See `client_name`."""
    keys: Keys = field(default_factory=Keys)
    """The same on all nodes of a hub, and no other hub's on that Redis."""
    command_timeout_seconds: float = 2.0
    """From asking to the answer; then the connection is given up."""
    connect_timeout_seconds: float = 3.0
    """For connecting, TLS, AUTH and loading the library together."""
    subscribe_timeout_seconds: float = 5.0
    backoff_first_seconds: float = 0.1
    backoff_max_seconds: float = 5.0
    max_pending_calls: int = 10_000
    """Asked and not answered; 0.2 s of work for Redis at 57,000 publications/s (measured)."""
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
    """For that; it goes on as before where nobody answers. Less than `command_timeout_seconds`."""
    retire_timeout_seconds: float = 0.5
    """To tell the former master that it has been left."""
    retired_seconds: int = 15
    """The former master takes no calls for so long; sentinels make it a replica after 10 s."""
    cluster_seconds: float = 2.0
    """Between two looks at a cluster's map of slots; at once when a server points elsewhere."""
    locate_timeout_seconds: float = 0.5
    """For the answers to that; where there is none by then, from the first of them on."""
    reconcile_seconds: float = 10.0
    linger_seconds: float = 3.0
    """A channel without sessions stays subscribed so long: reloads come back to it."""
    position_ttl_seconds: float = 7 * 24 * 3600
    idempotency_ttl_seconds: float = 300
    max_message_bytes: int = 64 * KIB
    hold_messages: int = 1000
    """Per channel, received while a hole before them is being filled."""
    hold_bytes: int = MIB
    hold_total_bytes: int = 64 * MIB
    """Of all channels together."""
    batch_size: int = 256
    """Channels per SUBSCRIBE, and heads asked for in one pipeline."""
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
        """What CLIENT LIST shows, such as `hub:<node>:commands`."""
        return f"{self.keys.prefix}:{self.node}:{what}"

    def settings(self, channel: ChannelOptions) -> str:
        """What the library keeps beside a channel (see DEFAULTS in library.lua)."""
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
