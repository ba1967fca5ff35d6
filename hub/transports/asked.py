"""What the URL of a session asks for, judged before there is a stream: the same at every door.

What is wrong with it is then a status, which an `EventSource` does not come back after. Told in the
stream, it would: every few seconds, for ever.
"""

from dataclasses import field

from hub.core.identity import Identity
from hub.core.options import Namespaces
from hub.core.values import value
from hub.errors import BadRequestError, TooManySubscriptionsError
from hub.wire.query import SubscriptionQuery


@value(frozen=True, slots=True)
class UrlRules:
    """One per node."""

    namespaces: Namespaces = field(default_factory=Namespaces)
    max_patterns: int = 16

    def check(self, identity: Identity, query: SubscriptionQuery) -> None:
        """Raise `HubError` where `identity` may not have what `query` asks for, or nobody may."""
        for channel in query.channels:
            identity.check_subscribe(channel)
        if query.patterns:
            if len(query.patterns) > self.max_patterns:
                raise TooManySubscriptionsError(f"a session may have {self.max_patterns} patterns")
            for pattern in query.patterns:
                identity.check_pattern(pattern)
        if query.every_ms is not None and query.patterns and not query.channels:
            raise BadRequestError("every_ms is of a channel, not of a pattern")
        if query.state:
            self._check_state(query)

    def _check_state(self, query: SubscriptionQuery) -> None:
        if query.patterns and not query.channels:
            raise BadRequestError("state is of a channel, not of a pattern")
        for channel in query.channels:
            self.namespaces.options(channel).check_keyed(channel)
