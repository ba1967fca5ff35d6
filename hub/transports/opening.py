"""The opening of a session over every transport: its checks, and its first write.

The dispatcher has checked host and origin, as for every request. Room on the node, the query,
credentials and the grants for the channels in the query are checked here, in this order. A refusal
before there is a stream is raised, for a status. A WebSocket with a wrong token or query gets a
close code instead, because a browser cannot read the status of a refused handshake. Where an
identity has to be found elsewhere, `UndecidedError` is raised once: its caller waits, and tries
again.

Transports bring the head of the request and the link to the peer. They write no part of a session's
stream themselves.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct

from hub.auth.credentials import Credentials
from hub.auth.policy import Policy
from hub.core.commands import InUrl, Subscribe, SubscribePattern
from hub.core.hooks import Hooks
from hub.core.identity import Identity
from hub.core.ports import Dialect, UndecidedError
from hub.core.publication import Position
from hub.core.pushes import Goodbye
from hub.core.registry import SessionRegistry
from hub.core.session.link import Link
from hub.errors import (
    BadRequestError,
    HubError,
)
from hub.transports.admission import UrlRules, identity_or_verdict
from hub.transports.request import Head, OnRefused, credentials_of
from hub.transports.sse import SseConnection, response_head
from hub.transports.websocket import WebSocketConnection
from hub.transports.websocket_options import WebSocketOptions
from hub.wire.codes import close_code
from hub.wire.query import MAX_CHANNELS, SubscriptionQuery, is_memorable, of_pattern, parse_query
from hub.wire.websocket import accept_handshake, close_frame, offered_token

# Header fields with credentials or with a position.
_PROVES = frozenset({"authorization", "cookie", "x-api-key", "last-event-id"})
_MAX_STRANGERS = 256
_NOTHING_GIVEN: Mapping[str, bytes] = {}


@dataclass(frozen=True, slots=True)
class Dialects:
    """The dialects of sessions, made once by the composition root."""

    websocket: Callable[[int | None], Dialect]
    """Makes the dialect for an agreed deflate window."""
    text: Dialect
    """Native pushes, one on a line: for ASGI servers, which make the frames themselves."""
    sse: Dialect
    sse_several: Dialect


class Admitted(Struct, frozen=True):
    """An admitted identity, and the subscriptions of its URL."""

    identity: Identity
    query: SubscriptionQuery
    subscriptions: Sequence[InUrl]
    connection: str | None = None
    """The id that the application was asked about; None where it was not asked."""
    given: bytes | None = None
    """The application's data for the welcome, as JSON."""


class Judged(Struct, frozen=True):
    """A handshake whose address was checked and counted, and whose head holds as far as is known.

    Its peer may come in, unless `admitted` is None: then it has to wait, or has waited so long that
    it is judged again.
    """

    admitted: Admitted | None = None
    answer: bytes = b""
    """The head of the answer."""
    window_bits: int | None = None
    """The deflate window that was agreed on."""


class Openings:
    """Opens sessions; one per node."""

    def __init__(  # noqa: PLR0913 - made once, of all parts that decide
        self,
        *,
        registry: SessionRegistry,
        policy: Policy,
        dialects: Dialects,
        websocket: WebSocketOptions,
        max_subscriptions: int,
        rules: UrlRules,
        deflate: bool,
        on_refused: OnRefused,
        hooks: Hooks | None = None,
    ) -> None:
        """`deflate` is whether WebSockets may agree on compression; `hooks` ask the application."""
        self._hooks = hooks
        self._registry = registry
        self._policy = policy
        self._dialects = dialects
        self._websocket = websocket
        self._max_subscriptions = max_subscriptions
        self._rules = rules
        self._deflate = deflate
        self.on_refused = on_refused
        self._strangers: dict[tuple[bytes, int], Admitted] = {}
        """Admissions by the query alone, which the policy always decides alike."""

    # -- behind the hub's own listener -------------------------------------------------------

    def websocket(
        self, head: Head, transport: asyncio.Transport, *, address: str, rest: bytes = b""
    ) -> WebSocketConnection | bytes:
        """Answer a handshake; the connection has `transport` from now on.

        `rest` are the bytes behind the head. Returns a farewell where the peer is refused behind
        the handshake. Raises `HubError` where the handshake itself is refused, or where it has to
        wait and has not. The transport is untouched in both cases.
        """
        judged = self.judge_websocket(head, address)
        if isinstance(judged, bytes):
            return judged
        assert judged.admitted is not None  # noqa: S101 - else an error was raised
        connection = WebSocketConnection(
            transport,
            self._websocket,
            deflate=judged.window_bits is not None,
            address=address,
            user_agent=head.headers.get("user-agent", ""),
        )
        dialect = self._dialects.websocket(judged.window_bits)
        self._begin(connection, dialect, judged.admitted, judged.answer)
        if rest:
            connection.data_received(rest)
        return connection

    def judge_websocket(self, head: Head, address: str) -> Judged | bytes:
        """Judge a handshake; raise as `websocket` does.

        Returns a farewell where the peer is refused behind the handshake, which is the only place
        where a browser can read why: the answer to the handshake, a goodbye and a close frame. No
        session is opened for it.
        """
        if (known := head.judged) is not None and known.admitted is not None:
            return known
        self._check_door(head, address)
        answer, window_bits = accept_handshake(head.headers, deflate=self._deflate)
        admitted = self._admit_websocket(head, address)
        if isinstance(admitted, Admitted):
            return Judged(admitted, answer, window_bits)
        code = close_code(admitted.code, admitted.retryable)
        goodbye = Goodbye(code, admitted.message, None)
        told = self._dialects.websocket(window_bits).encode(goodbye, "")
        farewell = answer + told + close_frame(code, admitted.message)
        self._registry.count_turned_away("websocket", code, len(farewell))
        return farewell

    def sse(self, head: Head, transport: asyncio.Transport, *, address: str) -> SseConnection:
        """Answer a `GET /sse`; the connection has `transport` from now on.

        Raises `HubError` where it is refused; the transport is untouched then.
        """
        admitted = self.judge_sse(head, address)
        connection = SseConnection(
            transport,
            self._websocket.turns.crowd,
            address=address,
            user_agent=head.headers.get("user-agent", ""),
        )
        answer = response_head(head.headers.get("origin"))
        self._begin(connection, self._sse_dialect(admitted), admitted, answer)
        return connection

    # -- behind somebody else's server -------------------------------------------------------

    def websocket_over(self, head: Head, link: Link) -> None:
        """Open a session for a server that makes the handshake, and the frames of its lines.

        Raises `HubError` where the handshake is to be refused, or has to wait.
        """
        self._check_door(head, link.address)
        admitted = self._admit_websocket(head, link.address)
        self._begin(link, self._dialects.text, admitted)

    def sse_over(self, head: Head, link: Link) -> None:
        """Open a session whose response head is the server's.

        Raises `HubError` where the request is refused.
        """
        admitted = self.judge_sse(head, link.address)
        self._begin(link, self._sse_dialect(admitted), admitted)

    # -- admission ---------------------------------------------------------------------------

    def admit(
        self,
        head: Head,
        *,
        max_channels: int,
        address: str = "",
        token: str | None = None,
        later_seconds: float | None = None,
    ) -> Admitted:
        """Read credentials and query; raise `HubError` where either does not hold.

        `token` came another way than in the query. A peer without channels in its URL may send one
        by its first command, within `later_seconds`.
        """
        if self._hooks is not None:
            return self._admit(head, max_channels, token, later_seconds, address)
        key = (head.query, max_channels)
        plain = token is None and is_memorable(head.query) and _PROVES.isdisjoint(head.headers)
        if plain and (known := self._strangers.get(key)) is not None:
            return known
        admitted = self._admit(head, max_channels, token, later_seconds)
        if plain and not admitted.identity.awaits_token:
            if len(self._strangers) >= _MAX_STRANGERS:
                self._strangers.clear()
            self._strangers[key] = admitted
        return admitted

    def _admit(
        self,
        head: Head,
        max_channels: int,
        token: str | None,
        later_seconds: float | None,
        address: str = "",
    ) -> Admitted:
        query = parse_query(head.query, max_channels=max_channels)
        if token is not None and query.token not in (None, token):
            raise BadRequestError("two tokens are given: one in the URL, one as a subprotocol")
        credentials = credentials_of(head, token or query.token)
        later_seconds = None if query.channels or query.patterns else later_seconds
        connection, given, of_channels = None, None, _NOTHING_GIVEN
        if self._hooks is None:
            identity = self._policy.identify(credentials, later_seconds=later_seconds)
        elif (verdict := head.verdict) is not None:
            admission, connection = verdict.admission(), verdict.connection
            identity, given = admission.identity, admission.given
            of_channels = admission.of_channels
        else:
            identity = self._ask(self._hooks, head, query, address, credentials, later_seconds)
        self._rules.check(identity, query)
        since = query.resume_from(head.headers.get("last-event-id"))
        subscriptions: tuple[InUrl, ...] = tuple(
            Subscribe(
                None,
                name,
                since.get(name),
                query.last,
                query.fill,
                query.filter,
                in_url=True,
                every_ms=query.every_ms,
                state=query.state,
                judged=True,
                given=of_channels.get(name),
            )
            for name in query.channels
        )
        for pattern in query.patterns:
            subscriptions += (pattern_of(query, pattern, since),)
        return Admitted(identity, query, subscriptions, connection, given)

    def _ask(
        self,
        hooks: Hooks,
        head: Head,
        query: SubscriptionQuery,
        address: str,
        credentials: Credentials,
        later_seconds: float | None,
    ) -> Identity:
        """Return the identity of the sender; raise `UndecidedError` to ask the application."""
        found = identity_or_verdict(
            hooks,
            lambda: self._policy.identify(credentials, later_seconds=later_seconds),
            head,
            query,
            address=address,
            new_connection=self._registry.new_id,
        )
        if isinstance(found, Identity):
            return found
        head.verdict = found
        raise UndecidedError("the application is being asked", found.wait, decides=True)

    def _check_door(self, head: Head, address: str) -> None:
        counted = head.has_waited or head.judged is not None
        self._registry.check_open(None if counted else address)

    def _admit_websocket(self, head: Head, address: str) -> Admitted | HubError:
        try:
            token = offered_token(head.headers)
            admitted = self.admit(
                head,
                max_channels=self._max_subscriptions,
                address=address,
                token=token,
                later_seconds=self._websocket.token_timeout_seconds,
            )
            self._registry.check_subject(admitted.identity.subject, address)
        except HubError as error:
            if isinstance(error, UndecidedError) and error.may_wait(has_waited=head.has_waited):
                raise
            self.on_refused(error, head, address)
            return error
        else:
            return admitted

    def judge_sse(self, head: Head, address: str) -> Admitted:
        """Judge a `GET /sse`; raise as `sse` does."""
        if (known := head.judged) is not None and known.admitted is not None:
            return known.admitted
        self._check_door(head, address)
        most = min(MAX_CHANNELS, self._max_subscriptions)
        admitted = self.admit(head, max_channels=most, address=address)
        query = admitted.query
        if not (query.channels or query.patterns or query.session):
            raise BadRequestError("channel is missing: GET /sse?channel=<channel>")
        self._registry.check_subject(admitted.identity.subject, address)
        return admitted

    def _sse_dialect(self, admitted: Admitted) -> Dialect:
        several = len(admitted.query.channels) > 1 or bool(admitted.query.patterns)
        return self._dialects.sse_several if several else self._dialects.sse

    def _begin(
        self, link: Link, dialect: Dialect, admitted: Admitted | HubError, answer: bytes = b""
    ) -> None:
        """Answer, welcome and subscribe in one write; or answer and say why not."""
        if isinstance(admitted, HubError):
            self._registry.turn_away(link, dialect, admitted, head=answer)
        else:
            self._registry.open(
                link,
                dialect,
                admitted.identity,
                head=answer,
                subscriptions=admitted.subscriptions,
                named=admitted.connection,
                given=admitted.given,
            )


def judge_again(head: Head) -> None:
    """Forget whom the door has admitted: the request waits, and a key may go or a ban come."""
    if head.judged is not None:
        head.judged = Judged()


def pattern_of(
    query: SubscriptionQuery, pattern: str, since: Mapping[str, Position]
) -> SubscribePattern:
    """Return the subscription of a URL's pattern."""
    return SubscribePattern(
        None, pattern, of_pattern(pattern, since), query.last, query.fill, query.filter, in_url=True
    )
