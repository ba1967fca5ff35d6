"""Who gets a session: what `/ws` and `/sse` ask before they open one.

Origin, room on the node, credentials, the query and the grants for the channels in it, in
this order, in one place.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hub.auth.policy import Credentials, Policy
from hub.core.commands import Subscribe
from hub.core.engine import Engine
from hub.core.identity import Identity
from hub.core.publication import Position
from hub.core.session import Session
from hub.transports.head import RequestHead
from hub.wire.query import SubscriptionQuery, parse_query


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who may come in, and what their URL subscribes to."""

    identity: Identity
    query: SubscriptionQuery
    since: Mapping[str, Position]


class Admission:
    """One per node."""

    def __init__(self, engine: Engine, policy: Policy) -> None:
        self._engine = engine
        self._policy = policy

    def check_door(self, head: RequestHead) -> None:
        """Refuse before anything is opened: `ForbiddenError` or `UnavailableError`."""
        headers = head.headers
        self._policy.check_origin(
            headers.get("origin"), headers.get("host"), headers.get("sec-fetch-site")
        )
        self._engine.check_open()

    def admit(self, head: RequestHead, *, max_channels: int) -> Admitted:
        """Read credentials and query; raise `HubError` where either does not hold."""
        query = parse_query(head.query, max_channels=max_channels)
        identity = self._policy.identify(
            Credentials(
                authorization=head.headers.get("authorization"),
                api_key=head.headers.get("x-api-key"),
                token=query.token,
            )
        )
        for channel in query.channels:
            identity.check_subscribe(channel)
        return Admitted(identity, query, query.resume_from(head.headers.get("last-event-id")))

    def subscribe(self, session: Session, admitted: Admitted) -> None:
        """Carry out the subscriptions of the URL."""
        query = admitted.query
        for channel in query.channels:
            since = admitted.since.get(channel)
            self._engine.submit(
                session, Subscribe(None, channel, since, query.last, query.fill, in_url=True)
            )


NOBODY = Identity()
"""Of a session that is opened only to be told why it is closed."""
