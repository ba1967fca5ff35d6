"""`POST /command` and `GET /poll`: sessions that are not a WebSocket."""

from starlette.requests import Request
from starlette.responses import Response

from hub.core.identity import Identity
from hub.core.polling import PollRequest
from hub.errors import BadRequestError, UnauthorizedError
from hub.transports.http.access import bearer_of, credentials_of
from hub.transports.http.answer import json_bytes_answer
from hub.transports.http.body import read_body
from hub.transports.http.paging import query_of
from hub.transports.http.ports import HttpDeps
from hub.wire.query import SubscriptionQuery, parse_query, single

_DEFAULT_WAIT_SECONDS = 25.0  # WIRE.md, long polling


class Sessions:
    """Checks what the peer asks for and hands it to the engine or to the poll transport."""

    def __init__(self, deps: HttpDeps) -> None:
        self._engine = deps.engine
        self._policy = deps.policy
        self._poll = deps.poll
        self._limits = deps.limits

    async def command(self, request: Request) -> Response:
        """The secret of the session's welcome says whose command it is."""
        connection = single(query_of(request), "connection")
        if connection is None:
            raise BadRequestError("connection is missing: POST /command?connection=<connection>")
        secret = bearer_of(request)
        if secret is None:
            raise UnauthorizedError("Authorization: Bearer <secret of the welcome> is missing")
        raw = await read_body(
            request,
            limit=self._limits.max_body_bytes,
            timeout_seconds=self._limits.body_timeout_seconds,
        )
        return json_bytes_answer(await self._engine.command(connection, secret, raw))

    async def poll(self, request: Request) -> Response:
        limits = self._limits
        query = parse_query(request.scope["query_string"], max_channels=limits.max_poll_channels)
        if not (query.channels or query.connection or query.session):
            raise BadRequestError("channel is missing: GET /poll?channel=<channel>")
        wait = _DEFAULT_WAIT_SECONDS if query.wait is None else query.wait
        if wait > limits.max_poll_wait_seconds:
            raise BadRequestError(
                f"wait is {wait:g} seconds, limit is {limits.max_poll_wait_seconds:g}"
            )
        identity = self._identity(request, query)
        return json_bytes_answer(await self._poll(_poll_request(request, query, wait, identity)))

    def _identity(self, request: Request, query: SubscriptionQuery) -> Identity:
        if query.connection is not None:
            # `Authorization` then carries the session's secret, and the session its grants.
            return Identity()
        identity = self._policy.identify(credentials_of(request, query.token))
        for channel in query.channels:
            identity.check_subscribe(channel)
        return identity


def _poll_request(
    request: Request, query: SubscriptionQuery, wait_seconds: float, identity: Identity
) -> PollRequest:
    return PollRequest(
        channels=query.channels,
        since=query.resume_from(request.headers.get("last-event-id")),
        last=query.last,
        wait_seconds=wait_seconds,
        fill=query.fill,
        connection=query.connection,
        secret=bearer_of(request) if query.connection is not None else None,
        session=query.session,
        identity=identity,
        address=request.client.host if request.client is not None else "",
        user_agent=request.headers.get("user-agent", ""),
    )
