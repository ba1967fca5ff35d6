"""`POST /command`, `GET /poll`, and the rows of `/ws` and `/sse`."""

from collections.abc import Coroutine
from typing import Any

from hub.admin.sessions import Poll, SendCommand
from hub.core.commands import PollRequest
from hub.core.hooks import Admission, Hooks
from hub.core.identity import Identity
from hub.errors import BadRequestError, UnauthorizedError, UpgradeRequiredError
from hub.transports.admission import AskedVerdict, identity_or_verdict
from hub.transports.http.answer import Answer
from hub.transports.http.parameters import Parameter, documented, header, text
from hub.transports.http.ports import HttpDeps
from hub.transports.http.routes import Access, Route, StreamKind, access_of
from hub.transports.http.schemas import BOOLEAN, CHANNEL, NUMBER, STRING, Json, array, ok, ref
from hub.transports.request import Request, bearer_of, credentials_of
from hub.wire.query import MAX_EVERY_MS, MAX_LAST, SubscriptionQuery, parse_query

_DEFAULT_WAIT_SECONDS = 25.0  # The wire contract, long polling
# A poll's answer comes within its wait, and the rest of its work within this time.
_POLL_EXTRA_SECONDS = 30.0


class SessionRoutes:
    """Checks requests of sessions, and hands them to the node or to the poll transport."""

    def __init__(self, deps: HttpDeps) -> None:
        self._node = deps.node
        self._policy = deps.policy
        self._poll = deps.poll
        self._limits = deps.limits
        self._hooks = deps.hooks
        self._new_connection = deps.new_connection
        self._rules = deps.url_rules

    def routes(self) -> tuple[Route, ...]:
        limits = self._limits
        return (
            Route(
                method="GET",
                path="/poll",
                # `admits` judges: with `connection` the session's secret counts, not a key.
                access=access_of(Poll),
                admits=self._admit_poll,
                handler=self.poll,
                summary="Wait for pushes",
                parameters=(
                    *_url_parameters(limits.max_poll_channels),
                    *_poll_parameters(limits.max_poll_wait_seconds),
                    *_RESUMING,
                ),
                answers=ok("Pushes, or none after `wait` seconds.", ref("Pushes")),
                answer_seconds=limits.max_poll_wait_seconds + _POLL_EXTRA_SECONDS,
                ends_with_its_peer=True,
            ),
            Route(
                method="POST",
                path="/command",
                access=access_of(SendCommand),
                admits=self._admit_command,
                handler=self.command,
                summary="Send a command for a session",
                parameters=(text("connection", "Of the session's welcome.", must=True),),
                body=ref("Command"),
                body_limit=limits.max_command_bytes,
                answers=ok("The reply.", ref("Reply")),
            ),
            Route(
                method="GET",
                path="/ws",
                access=Access.STREAM,
                stream=StreamKind.WEBSOCKET,
                handler=_not_a_handshake,
                summary="A WebSocket session",
                parameters=_url_parameters(),
                answers={"101": {"description": "Frames of JSON, as PROTOCOL.md has them."}},
            ),
            Route(
                method="GET",
                path="/sse",
                access=Access.STREAM,
                stream=StreamKind.SSE,
                handler=_head_of_a_stream,
                summary="A session as a stream of server-sent events",
                parameters=(
                    *_url_parameters(limits.max_poll_channels),
                    documented("session", BOOLEAN, "A stream without a channel is allowed."),
                    *_RESUMING,
                ),
                answers=ok("Events, as PROTOCOL.md has them.", STRING, "text/event-stream"),
            ),
        )

    # -- /command --------------------------------------------------------------------------------

    def _admit_command(self, request: Request) -> Coroutine[Any, Any, None] | None:
        """Check the secret of the session's welcome, which stands for the session's peer."""
        connection, secret = request.given["connection"], bearer_of(request)
        if secret is None:
            raise UnauthorizedError("Authorization: Bearer <secret of the welcome> is missing")
        return self._node.check_secret(connection, secret)

    async def command(self, request: Request) -> Answer:
        secret = bearer_of(request) or ""
        return Answer(await self._node.command(request.given["connection"], secret, request.body))

    # -- /poll -----------------------------------------------------------------------------------

    def _admit_poll(self, request: Request) -> Coroutine[Any, Any, None] | None:
        query = parse_query(request.query, max_channels=self._limits.max_poll_channels)
        if not (query.channels or query.patterns or query.connection or query.session):
            raise BadRequestError("channel is missing: GET /poll?channel=<channel>")
        longest = self._limits.max_poll_wait_seconds
        if query.wait is not None and query.wait > longest:
            raise BadRequestError(f"wait is {query.wait:g} seconds, limit is {longest:g}")
        request.given = {"query": query}
        if query.connection is not None:
            # `Authorization` then carries the session's secret, and the session its grants.
            request.identity = Identity()
        elif self._hooks is not None:
            return self._ask(self._hooks, request, query)
        else:
            identity = self._policy.identify(credentials_of(request, query.token))
            request.identity = self._checked(identity, query)
        return None

    def _ask(
        self, hooks: Hooks, request: Request, query: SubscriptionQuery
    ) -> Coroutine[Any, Any, None] | None:
        """Ask the application about the session that begins, where it is asked about that."""
        found = identity_or_verdict(
            hooks,
            lambda: self._policy.identify(credentials_of(request, query.token)),
            request,
            query,
            address=request.address,
            new_connection=self._new_connection,
        )
        if isinstance(found, Identity):
            request.identity = self._checked(found, query)
            return None
        return self._asked(found, request, query)

    async def _asked(
        self, verdict: AskedVerdict, request: Request, query: SubscriptionQuery
    ) -> None:
        await verdict.wait()
        admission = verdict.admission()
        request.given = {"query": query, "named": verdict.connection, "admission": admission}
        request.identity = self._checked(admission.identity, query)

    def _checked(self, identity: Identity, query: SubscriptionQuery) -> Identity:
        self._rules.check(identity, query)
        return identity

    async def poll(self, request: Request) -> Answer:
        query: SubscriptionQuery = request.given["query"]
        headers = request.headers
        admission: Admission | None = request.given.get("admission")
        poll_request = PollRequest(
            channels=query.channels,
            patterns=query.patterns,
            since=query.resume_from(headers.get("last-event-id")),
            last=query.last,
            wait_seconds=_DEFAULT_WAIT_SECONDS if query.wait is None else query.wait,
            fill=query.fill,
            filter=None if query.filter is None else query.filter.text.decode(),
            connection=query.connection,
            secret=bearer_of(request) if query.connection is not None else None,
            session=query.session,
            identity=request.identity,
            address=request.address,
            user_agent=headers.get("user-agent", ""),
            state=query.state,
            every_ms=query.every_ms,
            named=request.given.get("named"),
            given=None if admission is None else admission.given,
            of_channels={} if admission is None else admission.of_channels,
        )
        return Answer(await self._poll(poll_request))


def _not_a_handshake(_request: Request) -> Answer:
    raise UpgradeRequiredError("/ws takes a WebSocket handshake")


def _head_of_a_stream(_request: Request) -> Answer:
    """Answer a HEAD of `/sse` with the head of the stream."""
    return Answer(headers={"Content-Type": "text/event-stream; charset=utf-8"})


def _url_parameters(most: int | None = None) -> tuple[Parameter, ...]:
    """Return the parameters of a session's URL; `most` limits its channels where it is given."""
    channels: Json = array(CHANNEL) if most is None else {**array(CHANNEL), "maxItems": most}
    last: Json = {"type": "integer", "minimum": 0, "maximum": MAX_LAST}
    every: Json = {"type": "integer", "minimum": 1, "maximum": MAX_EVERY_MS}
    return (
        documented("channel", channels, "Repeatable."),
        documented("pattern", array(STRING), "Every channel that it matches, such as `prices:*`."),
        documented("since", array(STRING), "`channel=epoch:offset`, repeatable."),
        documented("last", last, "The newest n of each channel first."),
        documented("fill", BOOLEAN, "Refill from history what a slow reader missed."),
        documented("filter", STRING, 'Conditions on tags as JSON, such as `{"league":"nba"}`.'),
        documented("state", BOOLEAN, "Rows of keyed channels first, then what follows them."),
        documented("every_ms", every, "The newest of each key, or of each channel, that often."),
        documented("token", STRING, "The subscriber's, where no header can carry it."),
    )


def _poll_parameters(max_wait_seconds: float) -> tuple[Parameter, ...]:
    wait: Json = {**NUMBER, "maximum": max_wait_seconds, "default": _DEFAULT_WAIT_SECONDS}
    return (
        documented("wait", wait, "Seconds."),
        documented("connection", STRING, "The polling session to go on with."),
        documented("session", BOOLEAN, "Also push `subscribed`; no channel is needed."),
    )


_RESUMING = (
    documented("last_event_id", STRING, "The id of the last event, before `since`."),
    header("Last-Event-ID", STRING, "As `last_event_id`; the header wins."),
)
