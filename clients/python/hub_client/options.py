"""What a client may be told; the defaults suit a backend on the same continent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from hub_client.feed import FeedLimits
from hub_client.messages import ConnectionState, Filter, Position, Positions
from hub_client.timing import ReconnectTiming


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Settings of a `HubClient` beyond its address and token."""

    timing: ReconnectTiming = field(default_factory=ReconnectTiming)
    feed: FeedLimits = field(default_factory=FeedLimits)
    """What may wait for each `async for`; see `hub_client.feed` for what a full one does."""
    command_timeout_seconds: float = 10.0
    """From asking to the reply, the wait for a connection included."""
    max_frame_bytes: int = 16 * 1024 * 1024
    """Of one frame: 100 messages of history at the default payload limit are 6.4 MiB."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every handshake and request, for proxies that want some."""
    on_state: Callable[[ConnectionState], None] | None = None
    """Told of every change of the connection, for a status line or a log of your own. None:
    an outage is logged once, as a warning of the logger `hub_client`."""


class _Options(TypedDict, total=False):
    last: int | None
    fill: bool
    filter: Filter | None


class ChannelOptions(_Options, total=False):
    """Of a subscription to one channel."""

    since: Position | str | None
    presence_data: object
    every_ms: int | None
    joined: bool


class PatternOptions(_Options, total=False):
    """Of a subscription by a pattern."""

    since: Positions | None
