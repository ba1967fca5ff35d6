"""The options of a client and of its subscriptions; the defaults suit a back end in the same
region."""

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
    """The bounds of each subscription's queue; `hub_client.feed` describes a full one."""
    command_timeout_seconds: float = 10.0
    """The time from a command to its reply, with the wait for a connection."""
    max_frame_bytes: int = 16 * 1024 * 1024
    """The size of one frame; 100 messages of history at the default payload limit are 6.4 MiB."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of every handshake and request, such as those that a proxy demands."""
    on_state: Callable[[ConnectionState], None] | None = None
    """The client calls it at every change of the connection, for a status line or a log. With None
    the client logs an outage once, as a warning of the logger `hub_client`."""


class _Options(TypedDict, total=False):
    last: int | None
    fill: bool
    filter: Filter | None


class SubscribeOptions(_Options, total=False):
    """The options of a subscription to one channel, as `HubClient.subscribe` describes them."""

    since: Position | str | None
    presence_data: object
    every_ms: int | None
    joined: bool


class SubscribePatternOptions(_Options, total=False):
    """The options of a subscription to a pattern, as `HubClient.subscribe_pattern` describes
    them."""

    since: Positions | None
