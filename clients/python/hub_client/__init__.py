"""Python client for the broadcast hub: subscribe, publish, resume, and hear of every gap."""

from hub_client.client import HubClient
from hub_client.errors import (
    AlreadySubscribedError,
    ClosedError,
    CommandError,
    CommandTimeoutError,
    ConnectionLostError,
    HubClientError,
    NotPublishedError,
    OutcomeUnknownError,
    ProtocolError,
    PublishError,
    RejectedError,
    UnauthorizedError,
)
from hub_client.feed import FeedLimits, Subscription
from hub_client.messages import (
    ConnectionState,
    Gap,
    HistoryPage,
    Member,
    Message,
    Position,
    Presence,
    Published,
)
from hub_client.options import ClientOptions
from hub_client.publisher import Publisher, PublishRetry
from hub_client.publishing import Outgoing
from hub_client.timing import ReconnectTiming

__all__ = [
    "AlreadySubscribedError",
    "ClientOptions",
    "ClosedError",
    "CommandError",
    "CommandTimeoutError",
    "ConnectionLostError",
    "ConnectionState",
    "FeedLimits",
    "Gap",
    "HistoryPage",
    "HubClient",
    "HubClientError",
    "Member",
    "Message",
    "NotPublishedError",
    "OutcomeUnknownError",
    "Outgoing",
    "Position",
    "Presence",
    "ProtocolError",
    "PublishError",
    "PublishRetry",
    "Published",
    "Publisher",
    "ReconnectTiming",
    "RejectedError",
    "Subscription",
    "UnauthorizedError",
]
