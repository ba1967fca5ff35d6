"""One path: its methods, its origin rule, and the two places where errors become answers.

An ASGI application for Starlette's `Route`. It does per path, with a few lookups, what
stacked middleware would do around every request.
"""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hub.errors import HubError, MethodNotAllowedError
from hub.transports.http.access import header
from hub.transports.http.ports import HttpDeps
from hub.transports.http.problem import problem

Handler = Callable[[Request], Awaitable[Response]]

_ALLOWED_HEADERS = (
    "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Traceparent, X-API-Key, "
    "X-Message-Key"
)
# How long a browser may remember a preflight, in seconds: the least of the browsers'
# own upper limits that matters (Chromium takes 7,200, Firefox 86,400), so that a changed
# allow list is felt within minutes.
_PREFLIGHT_SECONDS = 600


class Endpoint:
    """Answers one path by method; HEAD goes where GET goes, the server drops the body."""

    def __init__(
        self, deps: HttpDeps, handlers: Mapping[str, Handler], *, path: str, public: bool = False
    ) -> None:
        """`public` paths answer pages of any origin: nothing there acts or is secret."""
        self._public = public
        self._policy = deps.policy
        self._tally = deps.tally
        self._log = deps.log
        self._path = path
        self._handlers = dict(handlers)
        if "GET" in handlers:
            self._handlers["HEAD"] = handlers["GET"]
        self._allow = ", ".join([*self._handlers, "OPTIONS"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = await self._answer(request)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        origin = header(request, b"origin")
        if origin is None or self._public:
            return await self._handle(request)
        try:
            fetch_site = header(request, b"sec-fetch-site")
            self._policy.check_origin(origin, header(request, b"host"), fetch_site)
        except HubError as error:
            return self._refused(error)
        response = await self._handle(request)
        _allow_origin(response, origin)
        return response

    async def _handle(self, request: Request) -> Response:
        handler = self._handlers.get(request.method)
        try:
            if handler is None:
                return self._other_method(request)
            return await handler(request)
        except HubError as error:
            return self._refused(error)
        except Exception:  # noqa: BLE001 - the edge: whatever else happens is ours, not the peer's
            # The path's pattern, not the path or query: those may hold names and tokens.
            self._log.exception("http_request_failed", method=request.method, path=self._path)
            return self._refused(HubError("something went wrong in the hub; it is in its log"))

    def _refused(self, error: HubError) -> Response:
        self._tally.http_errors[error.code] += 1
        return problem(error)

    def _other_method(self, request: Request) -> Response:
        headers = {"Allow": self._allow}
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers | self._preflight(request))
        self._tally.http_errors["method_not_allowed"] += 1
        error = MethodNotAllowedError(
            f"{request.method[:20]} is not allowed here, only {self._allow}"
        )
        return problem(error, headers=headers)

    def _preflight(self, request: Request) -> dict[str, str]:
        if "access-control-request-method" not in request.headers:
            return {}
        return {
            "Access-Control-Allow-Methods": self._allow,
            "Access-Control-Allow-Headers": _ALLOWED_HEADERS,
            "Access-Control-Max-Age": str(_PREFLIGHT_SECONDS),
        }


def _allow_origin(response: Response, origin: str) -> None:
    headers = response.headers
    headers["Access-Control-Allow-Origin"] = origin
    headers["Access-Control-Expose-Headers"] = "Retry-After"
    headers["Vary"] = "Origin"
