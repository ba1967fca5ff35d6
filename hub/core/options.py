"""Limits, and choices per namespace and of the node, as the core takes them.

Plain frozen values: `hub.settings` reads and checks them, the composition root hands them in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hub.errors import BadRequestError

KIB = 1024
MIB = 1024 * KIB


class Overflow(StrEnum):
    """What gives way when a subscription's ring is full. Acts only under congestion."""

    DROP_OLDEST = "drop_oldest"
    LATEST_PER_KEY = "latest_per_key"
    DISCONNECT = "disconnect"


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """What holds for every channel of a namespace."""

    history_size: int = 100
    """Publications kept per channel, 0 to 1,000,000; 0 keeps none."""
    history_ttl_seconds: float = 300
    presence: bool = False
    overflow: Overflow = Overflow.DROP_OLDEST
    allow_raw: bool = False
    """Whether plain Redis PUBLISH may reach the channel, unsequenced."""
    keyed: bool = False
    """Whether the newest publication of each key is kept: the channel's state."""
    state_max_keys: int = 10_000
    """Keys of one channel's state, 1 to 100,000: sorting as many takes 20 ms once."""
    state_ttl_seconds: float = 0
    """How long a row is kept that is not published again; 0: for ever."""

    @property
    def keeps_history(self) -> bool:
        return self.history_size > 0 and self.history_ttl_seconds > 0

    def check_presence(self, channel: str) -> None:
        """Raise `BadRequestError` where `channel`, which has these options, keeps no presence."""
        if not self.presence:
            raise BadRequestError(f"presence is off for {channel!r}")

    def check_keyed(self, channel: str) -> None:
        """Raise `BadRequestError` where `channel`, which has these options, keeps no state."""
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
    """Of single channels, before those of their namespace."""

    def options(self, channel: str) -> ChannelOptions:
        """The options of `channel`: those of what stands before its first `:`."""
        if (own := self.by_channel.get(channel)) is not None:
            return own
        name, colon, _ = channel.partition(":")
        return self.by_name.get(name, self.default) if colon else self.default


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What one session may cost."""

    outbox_max_messages: int = 1000
    """Per subscription."""
    outbox_max_bytes: int = MIB
    """Per session, all its rings together."""
    outbox_max_age_seconds: float = 30
    max_subscriptions: int = 128
    max_patterns: int = 16
    max_pattern_channels: int = 1000
    """That a session is in through patterns: what it has of each is 0.5 KB, and one reply names
    them all. A guess."""
    max_message_bytes: int = 64 * KIB
    """Of one publication's `data`."""
    control_max_bytes: int = 64 * KIB
    """Replies and heartbeats waiting for a peer that does not read; more closes with 4508."""
    inbox_max_commands: int = 256
    """Commands waiting for their turn; more pauses reading from that peer."""
    inbox_max_bytes: int = MIB
    """Payload of publications among them; more pauses reading as well."""


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What a session is told of its node, and what bounds the node."""

    node: str
    version: str
    heartbeat_seconds: float
    max_connections: int
    close_timeout_seconds: float
    tag: str = ""
    """What this node's connections begin with, and no other's."""
