"""Options of channels, sessions and the node as frozen values, and the channels of the hub itself.

`hub.settings` reads and checks them; the composition root hands them to the core. Only the hub
publishes in the namespace `hub`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hub.errors import BadRequestError

KIB = 1024
MIB = 1024 * KIB
MAX_HISTORY = 1_000_000
"""The most publications that one channel may keep."""
MIN_JOURNAL_BYTES = 8 * MIB
"""The least that notes about connections may take on disk (`hub.archive`): with less, what they
have beside them, such as indexes and a log, takes most of it. A guess, not measured."""


class Overflow(StrEnum):
    """The publication that gives way when a subscription's ring is full, under congestion only."""

    DROP_OLDEST = "drop_oldest"
    LATEST_PER_KEY = "latest_per_key"
    DISCONNECT = "disconnect"


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """Options of every channel of a namespace."""

    history_size: int = 100
    """Publications kept per channel, 0 to 1,000,000; 0 keeps none."""
    history_ttl_seconds: float = 300
    presence: bool = False
    overflow: Overflow = Overflow.DROP_OLDEST
    allow_raw: bool = False
    """Whether plain Redis PUBLISH may reach the channel, unsequenced."""
    keyed: bool = False
    """Whether the channel keeps its state: the newest publication of each key."""
    state_max_keys: int = 10_000
    """Keys of one channel's state, 1 to 100,000. The loop sorts them for a page where more than a
    hundred have expired together since the one before: 10,000 take 4 ms, and 100,000 with long
    names 140 ms (measured)."""
    state_ttl_seconds: float = 0
    """Seconds for which a row is kept that is not published again; 0 for ever."""

    @property
    def keeps_history(self) -> bool:
        return self.history_size > 0 and self.history_ttl_seconds > 0

    def check_presence(self, channel: str) -> None:
        """Raise `BadRequestError` where these options, those of `channel`, keep no presence."""
        if not self.presence:
            raise BadRequestError(f"presence is off for {channel!r}")

    def check_keyed(self, channel: str) -> None:
        """Raise `BadRequestError` where these options, those of `channel`, keep no state."""
        if not self.keyed:
            raise BadRequestError(
                f"{channel!r} keeps no state: its namespace is not keyed (keyed = true)"
            )


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Channel options by namespace, with a default for all others."""

    default: ChannelOptions = field(default_factory=ChannelOptions)
    by_name: Mapping[str, ChannelOptions] = field(default_factory=dict)
    by_channel: Mapping[str, ChannelOptions] = field(default_factory=dict)
    """Options of single channels, which go before those of their namespace."""

    def options(self, channel: str) -> ChannelOptions:
        """Return the options of `channel`. Its namespace is the part before the first `:`."""
        if (own := self.by_channel.get(channel)) is not None:
            return own
        name, colon, _ = channel.partition(":")
        return self.by_name.get(name, self.default) if colon else self.default


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Bounds on one session."""

    outbox_max_messages: int = 1000
    """Per subscription."""
    outbox_max_bytes: int = MIB
    """Per session, of all its rings together."""
    outbox_max_age_seconds: float = 30
    max_subscriptions: int = 128
    max_patterns: int = 16
    max_pattern_channels: int = 1000
    """Channels that a session has through patterns. Each takes 0.5 KB of the session, and one reply
    names them all. A guess."""
    max_message_bytes: int = 64 * KIB
    """Of one publication's `data`."""
    control_max_bytes: int = 64 * KIB
    """Replies and heartbeats that wait for a peer which does not read; more closes with 4508."""
    inbox_max_commands: int = 256
    """Commands that are not done, waiting or under way; more pauses reading from that peer."""
    inbox_max_bytes: int = MIB
    """Payloads and tokens of these commands; more pauses reading too."""


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """The node's description in each welcome, and bounds on the node."""

    node: str
    version: str
    heartbeat_seconds: float
    max_connections: int
    close_timeout_seconds: float
    tag: str = ""
    """Prefix of the ids of this node's connections, which no other node has."""


HUB_NAMESPACE = "hub"
RESERVED_PREFIX = f"{HUB_NAMESPACE}:"
STATS_CHANNEL = "hub:stats"
"""Carries every node's `hub.core.node_records.NodeRecord` once a second, keyed by node name."""
ACCESS_CHANNEL = "hub:access"
"""Carries bans and revoked tokens (`hub.admin.bans`). Only nodes read it."""
ACCESS_OPTIONS = ChannelOptions(history_size=20_000, history_ttl_seconds=30 * 24 * 3600)
"""History holds twice as many entries as may be in force. Nodes publish entries again that are in
its older half."""
STATS_OPTIONS = ChannelOptions(
    history_size=1200, history_ttl_seconds=150, overflow=Overflow.LATEST_PER_KEY
)
"""History holds two minutes of ten nodes, with which a dashboard's charts begin. A slow reader gets
the newest record of each node."""


def is_reserved(channel: str) -> bool:
    """Return whether `channel` is the hub's own: only operators read it, and no peer publishes."""
    return channel.startswith(RESERVED_PREFIX)


def is_kept(channel: str) -> bool:
    """Return whether one of the hub's own channels has a history."""
    return channel == ACCESS_CHANNEL
