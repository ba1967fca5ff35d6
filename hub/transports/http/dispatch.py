"""The way of a request to its answer: host, path, origin, method, credentials, body, handler.

The checks that all routes share are made here, in this order. Both carriers of requests use them,
the hub's own connection and somebody else's ASGI server. Nothing is raised: a refusal is an answer.
"""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

from hub.auth.proxies import FIELDS
from hub.core.eager import Rest, begin, in_turns
from hub.core.ports import UndecidedError
from hub.errors import (
    BadRequestError,
    ExpectationFailedError,
    HubError,
    MethodNotAllowedError,
    NotFoundError,
    RequestTimeoutError,
    TooLargeError,
    UnavailableError,
)
from hub.transports.http.answer import Answer, cross_origin, problem
from hub.transports.http.bodies import check_declared, plain
from hub.transports.http.known import KnownHead, KnownHeads, fields_of
from hub.transports.http.parameters import read_query
from hub.transports.http.ports import HttpDeps
from hub.transports.http.routes import Access, PathItem, Route, RouteTable, StreamKind
from hub.transports.http.wrong_paths import WrongPaths
from hub.transports.request import Request, credentials_of, has_body

_ALLOWED_HEADERS = (
    "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Traceparent, X-API-Key, "
    "X-Message-History, X-Message-Key, X-Message-Tags, X-Message-TTL"
)
# The time for which a browser may remember a preflight: below the browsers' own upper limits
# (Chromium takes 7,200 s, Firefox 86,400), so that a changed allow list holds within minutes.
_PREFLIGHT_SECONDS = 600
# Fields of a head that are judged each time, however well the rest of it is known.
_JUDGED = frozenset({"content-encoding", "expect", "origin", "sec-fetch-site"})
# And those for which a head is not even known by its bytes.
_READ_EACH_TIME = _JUDGED | FIELDS | {"cookie", "transfer-encoding"}
# A body that no route wants is read and thrown away, so that the connection can go on.
_IGNORED_BODY_BYTES = 64 * 1024


class Call:
    """One request on its way to its answer; as with `Request`, the defaults are the class's."""

    route: Route | None = None
    answer: Answer | None = None
    """The answer, once it is decided: before the handler is called only a refusal or preflight."""
    admission: Coroutine[Any, Any, object] | None = None
    """A coroutine to wait for before the body may be read."""
    foreign = False
    """The application beside the hub answers."""
    origin: str | None = None
    """The origin of the page that may read the answer."""
    expects = False
    """The peer waits for `100 Continue` before it sends the body."""
    complete = False
    """The whole request is here."""
    size = 0
    """Bytes of the body so far."""
    reserved = 0
    """Bytes of it that `BodyBudget` counts."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.parts: list[bytes] = []

    @property
    def pattern(self) -> str:
        """The route's path with its places: the path itself may hold names and tokens."""
        return "" if self.route is None else self.route.path

    @property
    def stream(self) -> StreamKind | None:
        """The kind of stream that the connection is to become; None for any other request.

        The table answers HEAD with the row of GET, and gives no connection away for it.
        """
        return None if self.route is None or self.request.method != "GET" else self.route.stream

    @property
    def is_for_probes(self) -> bool:
        """Whether the request is answered where there is no room for a connection."""
        return self.route is not None and self.route.access is Access.ANYBODY

    @property
    def ends_with_its_peer(self) -> bool:
        """Whether the work is for the peer alone, as that of a poll is and a publication is not."""
        return self.route is not None and self.route.ends_with_its_peer


class Dispatcher:
    """Judges and answers requests; one per node."""

    def __init__(self, table: RouteTable, deps: HttpDeps) -> None:
        self._table = table
        self._policy = deps.policy
        self._counters = deps.counters
        self._log = deps.log
        self._on_refused = deps.on_refused
        self._wrong_paths = WrongPaths(table)
        self._has_fallback = deps.fallback is not None
        self._at_once = deps.at_once
        self._proxies = deps.proxies
        self._inflating = asyncio.Lock()
        """Held by the one long body that is inflated: the others wait."""
        self.admitting = 0
        """The number of requests whose identity is being found elsewhere."""
        self.heads = KnownHeads()
        """Heads of publishers that have passed: a publisher repeats its head."""
        deps.policy.when_keys_change(self.heads.forget)

    # -- before the body -----------------------------------------------------------------------

    def open(self, request: Request) -> Call:
        """Judge a request by its head."""
        call = Call(request)
        if self._proxies:
            peer, headers = request.address, request.headers
            request.scheme = self._proxies.scheme(peer, headers)
            request.address = self._proxies.client(peer, headers)
        try:
            # Heads are known of publishers alone, which repeat them.
            if request.method != "POST" or not self._recognise(call, request):
                self._open(call, request)
        except HubError as error:
            if call.admission is not None:
                call.admission.close()
                call.admission = None
            self.refuse(call, error)
        except Exception:  # noqa: BLE001 - the edge: whatever else happens is ours, not the peer's
            call.answer = self._failed(call)
        return call

    def _open(self, call: Call, request: Request) -> None:
        headers = request.headers
        self._policy.check_host(headers.get("host"))
        if "expect" in headers:
            call.expects = _expects(request)
        found = self._table.find(request.path)
        if found is None:
            self._open_elsewhere(call)
            return
        place, request.params = found
        route = call.route = place.routes.get(request.method)
        if not place.public:
            origin, site = headers.get("origin"), headers.get("sec-fetch-site")
            if origin is not None or site is not None:
                call.origin = origin  # a page that is refused may read the reason
                self._policy.check_origin(origin, headers.get("host"), site)
        if route is None:
            self._other_method(call, place)
            return
        try:
            self._judge(call, request, route)
        except UndecidedError as undecided:
            call.admission = self._judge_later(call, request, route, undecided)
        check_declared(headers, route.body_limit or _IGNORED_BODY_BYTES)
        if route.access is Access.PUBLISHER and call.admission is None and not route.query:
            self._remember(request, route)

    def _judge(self, call: Call, request: Request, route: Route) -> None:
        """Find the identity of the sender, and check its rights."""
        self._identify(request, route)
        if route.query:
            request.given = read_query(route.query, request.query, route.names)
        if route.admits is not None:
            call.admission = route.admits(request)

    async def _judge_later(
        self, call: Call, request: Request, route: Route, undecided: UndecidedError
    ) -> None:
        """Wait, and judge as `_judge` does; a request that is undecided still is refused."""
        await undecided.wait()
        self._judge(call, request, route)
        more, call.admission = call.admission, None
        if more is not None:
            await more

    def _open_elsewhere(self, call: Call) -> None:
        """Answer a path that no route has."""
        request = call.request
        if request.method == "OPTIONS" and request.path == b"*":
            # RFC 9110 section 9.3.7: it asks about the server, not about any path.
            self._decide(call, Answer(status=204))
        elif self._has_fallback:
            call.foreign = True
        else:
            raise NotFoundError(self._wrong_paths.nothing_at(request.path))

    def _recognise(self, call: Call, request: Request) -> bool:
        """Return whether such a head has passed, and nothing in this one has to be judged."""
        known = self.heads.passed(request)
        if known is None or not _JUDGED.isdisjoint(request.headers):
            return False
        call.route, request.params, request.identity = known
        check_declared(request.headers, known[0].body_limit)
        return True

    def _remember(self, request: Request, route: Route) -> None:
        if self._lasts(request):
            self.heads.remember_read(request, route)

    def _lasts(self, request: Request) -> bool:
        """Return whether the same head is the same publisher's until keys change.

        A key beside a token does not make the token hold longer: all credentials have to hold.
        """
        both = "authorization" in request.headers and "x-api-key" in request.headers
        return not both and self._policy.lasts(request.identity)

    def open_known(self, known: KnownHead, key: str | None, address: str, body: bytes) -> Call:
        """Return the call of a whole request with a head that has passed."""
        request = Request(fields_of(known, key))
        request.method = known.method
        request.target = known.target
        request.params = known.params
        request.identity = known.identity
        request.address = address
        call = Call(request)
        call.route = known.route
        call.parts.append(body)
        call.size = len(body)
        return call

    def remember(self, call: Call) -> None:
        """Know the head by its bytes from now on, where it may be known at all."""
        request, route = call.request, call.route
        if (
            request.cut is not None
            and route is not None
            and route.access is Access.PUBLISHER
            and not route.query
            and call.answer is None
            and call.admission is None
            and request.keep_alive
            and not request.upgrade
            and request.version == "1.1"
            and _READ_EACH_TIME.isdisjoint(request.headers)
            and self._lasts(request)
        ):
            self.heads.remember(request.cut, request, route)

    def _identify(self, request: Request, route: Route) -> None:
        match route.access:
            case Access.PUBLISHER:
                request.identity = self._policy.identify_publisher(credentials_of(request))
            case Access.READER:
                request.identity = self._policy.identify(credentials_of(request))
            case Access.OPERATOR:
                request.identity = self._policy.check_operator(credentials_of(request))
            case Access.STREAM if has_body(request):
                raise BadRequestError("this request takes no body")

    def _other_method(self, call: Call, place: PathItem) -> None:
        request, headers = call.request, {"Allow": place.allow}
        if request.method == "OPTIONS":
            if "access-control-request-method" in request.headers:
                headers |= {
                    "Access-Control-Allow-Methods": place.allow,
                    "Access-Control-Allow-Headers": _ALLOWED_HEADERS,
                    "Access-Control-Max-Age": str(_PREFLIGHT_SECONDS),
                }
            self._decide(call, Answer(status=204, headers=headers))
            return
        shown = request.method[:20]
        hint = self._wrong_paths.hint(request.path)
        error = MethodNotAllowedError(f"{shown} is not allowed here, only {place.allow}{hint}")
        self._counters.http_errors[error.code] += 1
        self._decide(call, problem(error, headers=headers))

    # -- the body ------------------------------------------------------------------------------

    def take(self, call: Call, data: bytes) -> None:
        """Add a part of the body; refuse a body that is too long."""
        if call.answer is not None:
            return
        call.size += len(data)
        wanted = 0 if call.route is None else call.route.body_limit
        limit = wanted or _IGNORED_BODY_BYTES
        if call.size > limit:
            call.parts.clear()
            self.refuse(call, TooLargeError(f"body is longer than the limit of {limit:,} bytes"))
        elif wanted:
            call.parts.append(data)

    # -- the answer ----------------------------------------------------------------------------

    def run(self, call: Call) -> Answer | Coroutine[Any, Any, Answer]:
        """Answer a whole request: at once, or by a coroutine where something waits."""
        if call.answer is not None:
            return call.answer
        route, request = call.route, call.request
        assert route is not None  # noqa: S101 - a call without a route has its answer
        try:
            if parts := call.parts:
                body = parts[0] if len(parts) == 1 else b"".join(parts)
                coded = "content-encoding" in request.headers
                found = plain(body, request.headers, route.body_limit) if coded else body
                if not isinstance(found, bytes):
                    return self._finish(call, self._inflated(call, route, found))
                request.body = found
            answer = route.handler(request)
            if isinstance(answer, Answer):
                return self._decide(call, answer)
            if not (route.at_once and self._at_once):
                return self._finish(call, answer)
            started = begin(answer)
        except HubError as error:
            return self.refuse(call, error)
        except Exception:  # noqa: BLE001 - the edge, as above
            return self._failed(call)
        if isinstance(started, Rest):
            return self._finish(call, started.run())
        return self._decide(call, started)

    async def _inflated(
        self, call: Call, route: Route, inflating: Generator[None, None, bytes]
    ) -> Answer:
        call.request.body = await in_turns(inflating, self._inflating)
        answer = route.handler(call.request)
        return answer if isinstance(answer, Answer) else await answer

    async def admitted(self, call: Call) -> None:
        """Wait for the call's admission, where it has one."""
        admission, call.admission = call.admission, None
        if admission is None:
            return
        self.admitting += 1
        try:
            await admission
        except HubError as error:
            self.refuse(call, error)
        except Exception:  # noqa: BLE001 - the edge, as above
            call.answer = self._failed(call)
        finally:
            self.admitting -= 1

    async def _finish(self, call: Call, work: Coroutine[Any, Any, Answer]) -> Answer:
        try:
            return self._decide(call, await work)
        except HubError as error:
            return self.refuse(call, error)
        except Exception:  # noqa: BLE001 - the edge, as above
            return self._failed(call)

    def fail(self, call: Call, error: Exception) -> Answer:
        """Return the answer where `error` was raised; called while it is handled."""
        return self.refuse(call, error) if isinstance(error, HubError) else self._failed(call)

    def refuse(self, call: Call, error: HubError) -> Answer:
        """Decide on a problem document."""
        if isinstance(error, NotFoundError) and (call.route is None or call.is_for_probes):
            error = NotFoundError(f"{error.message}{self._wrong_paths.hint(call.request.path)}")
        self._counters.http_errors[error.code] += 1
        self._on_refused(error, call.request, call.request.address)
        return self._decide(call, problem(error))

    def gave_up(self, call: Call, seconds: float) -> Answer:
        """Refuse a call whose handler took too long."""
        return self.refuse(call, UnavailableError(f"no answer within {seconds:g} seconds"))

    def late(self, call: Call, seconds: float) -> Answer:
        """Refuse a call whose body did not come in time."""
        error = RequestTimeoutError(f"the body was not complete after {seconds:g} seconds")
        error.refusal = "slow_request"
        self._counters.refusals[error.refusal] += 1
        return self.refuse(call, error)

    def _failed(self, call: Call) -> Answer:
        # The path's pattern, not the path or query: those may hold names and tokens.
        self._log.exception("http_request_failed", method=call.request.method, path=call.pattern)
        error = HubError("something went wrong in the hub; it is in its log")
        return self.refuse(call, error)

    def _decide(self, call: Call, answer: Answer) -> Answer:
        """Make `answer` the call's own, with the fields for a page that may read it."""
        if call.origin is not None:
            answer.add_headers(cross_origin(call.origin))
        call.answer = answer
        return answer


def _expects(request: Request) -> bool:
    """Return whether the peer waits for `100 Continue` (RFC 9110 section 10.1.1)."""
    expected = request.headers["expect"]
    if request.version == "1.0":
        return False
    if expected.lower() != "100-continue":
        raise ExpectationFailedError(f"Expect is {expected[:40]!r}, met is 100-continue")
    return True
