"""The admission of a session, the same over every transport: its URL, and the application's word.

Both are judged before there is a stream. An error is then a status, after which an `EventSource`
does not come back. After an error in the stream it would come back every few seconds, for ever.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct

from hub.core.hooks import Admission, Asker, Hooks
from hub.core.identity import Identity
from hub.core.options import Namespaces
from hub.core.registry import NOBODY
from hub.errors import (
    BadRequestError,
    HubError,
    TooManySubscriptionsError,
    UnauthorizedError,
    UnavailableError,
)
from hub.transports.request import Head
from hub.wire.query import SubscriptionQuery


class UrlRules(Struct, frozen=True):
    """Rules for the URL of a session; one per node."""

    namespaces: Namespaces
    max_patterns: int

    def check(self, identity: Identity, query: SubscriptionQuery) -> None:
        """Raise `HubError` where `query` is refused to `identity`, or to every identity."""
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


class AskedVerdict:
    """The application's word on a request that wants to be a session; known once `wait` has ended.

    Args:
        nobody: the error of a request without credentials, raised unless the application knows its
            sender; None where the sender is known already.
    """

    __slots__ = ("_answer", "_channels", "_hooks", "_nobody", "asker", "connection")

    def __init__(
        self,
        hooks: Hooks,
        asker: Asker,
        channels: Sequence[str],
        *,
        nobody: UnauthorizedError | None,
    ) -> None:
        self._hooks = hooks
        self._channels = channels
        self._nobody = nobody
        self._answer: Admission | HubError | None = None
        self.asker = asker
        self.connection = asker.connection or ""

    async def wait(self) -> None:
        """Ask the application; raise nothing but a fault of the hub's own."""
        nobody = self._nobody is not None
        try:
            answer = await self._hooks.admit(self.asker, self._channels, nobody=nobody)
        except HubError as error:
            self._answer = error
        else:
            self._answer = answer

    def admission(self) -> Admission:
        """Return the identity that sends the request; raise `HubError` where the application
        refuses it."""
        answer = self._answer
        if answer is None:
            raise UnavailableError("the application was not asked to the end")
        if isinstance(answer, HubError):
            raise answer
        sender = answer.identity
        if self._nobody is not None and not (sender.subject or sender.subscribe or sender.publish):
            raise self._nobody
        return answer


def identity_or_verdict(
    hooks: Hooks,
    identify: Callable[[], Identity],
    head: Head,
    query: SubscriptionQuery,
    *,
    address: str,
    new_connection: Callable[[], str],
) -> Identity | AskedVerdict:
    """Return the sender's identity, or the verdict to wait for where the application is asked.

    Args:
        identify: finds the identity by the credentials of the request; its `UnauthorizedError`
            counts unless the application may know a peer without credentials.
        new_connection: makes the id of the session.
    """
    nobody: UnauthorizedError | None = None
    try:
        identity = identify()
    except UnauthorizedError as error:
        # The application may know the peer, by a cookie of its own.
        if error.refusal != "no_credentials" or not hooks.asks_connect(NOBODY):
            raise
        identity, nobody = NOBODY, error
    if hooks.asks_connect(identity) or (query.channels and hooks.asks_subscribe(identity)):
        asker = Asker(identity, new_connection(), address, head.headers)
        return AskedVerdict(hooks, asker, query.channels, nobody=nobody)
    return identity
