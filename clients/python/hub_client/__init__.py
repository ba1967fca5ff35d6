"""Python client for the broadcast hub: subscribe, publish, resume, and hear of every gap."""

from hub_client.breaker import BreakerPolicy
from hub_client.campaign import PublishRetry, Retrying
from hub_client.client import HubClient
from hub_client.collector import Batching
from hub_client.errors import (
    AlreadySubscribedError,
    ClosedError,
    CommandError,
    CommandTimeoutError,
    ConnectionLostError,
    HubClientError,
    LoggedOutError,
    NotConnectedError,
    NotPublishedError,
    OutcomeUnknownError,
    ProtocolError,
    PublishError,
    PublishRefusedError,
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
    State,
)
from hub_client.options import ClientOptions
from hub_client.posting import PublisherOptions
from hub_client.publisher import Publisher
from hub_client.publishing import Outcome, Outgoing
from hub_client.sync_client import SyncHubClient
from hub_client.sync_publisher import SyncPublisher
from hub_client.sync_subscription import SyncSubscription
from hub_client.timing import ReconnectTiming

__all__ = [
    "AlreadySubscribedError",
    "Batching",
    "BreakerPolicy",
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
    "LoggedOutError",
    "Member",
    "Message",
    "NotConnectedError",
    "NotPublishedError",
    "Outcome",
    "OutcomeUnknownError",
    "Outgoing",
    "Position",
    "Presence",
    "ProtocolError",
    "PublishError",
    "PublishRefusedError",
    "PublishRetry",
    "Published",
    "Publisher",
    "PublisherOptions",
    "ReconnectTiming",
    "RejectedError",
    "Retrying",
    "State",
    "Subscription",
    "SyncHubClient",
    "SyncPublisher",
    "SyncSubscription",
    "UnauthorizedError",
]
