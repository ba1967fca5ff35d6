"""The hub as an ASGI application, under somebody else's server.

Routes, rules and sessions are the same as behind the hub's own listener
(`hub.transports.connection`). A session costs two tasks here, its own and its reader's, and the
server's framing; behind the hub's own listener it costs none.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from ipaddress import ip_address
from typing import Any

from hub.auth.hosts import one_form
from hub.core.ports import UndecidedError
from hub.core.session.session import Session
from hub.errors import BadRequestError, HubError
from hub.transports.asgi_link import AsgiLink
from hub.transports.asgi_types import Message, Receive, Scope, Send
from hub.transports.connection.proxied import plain_address
from hub.transports.connection.streams import Streams, check_target
from hub.transports.http.answer import Answer, problem
from hub.transports.http.bodies import BodyBudget
from hub.transports.http.dispatch import Call, Dispatcher
from hub.transports.http.routes import StreamKind
from hub.transports.opening import Openings
from hub.transports.request import Request
from hub.transports.sse import FIRST_FIELD, Headers, response_headers
from hub.transports.websocket_options import WebSocketOptions
from hub.wire.codes import CloseCode
from hub.wire.websocket import close_reason


def request_of(scope: Scope, base_path: str = "") -> Request:
    """Return the request of an HTTP or WebSocket scope.

    A server that hands no raw path on gives its decoded one. The path at which the hub is mounted
    is taken from its front. The hub's own base path may follow and need not: mounted at `/live`,
    with `/live` as base path or with none, the hub answers `/live/ws`.
    """
    raw = scope.get("raw_path") or scope.get("path", "").encode("utf-8", "surrogateescape")
    root = scope.get("root_path", "").encode()
    path, base = raw.partition(b"?")[0].removeprefix(root), base_path.encode()
    if path != b"*" and not (path + b"/").startswith(base + b"/"):
        path = base + path
    target = path + b"?" + scope.get("query_string", b"")
    client = scope.get("client")
    request = Request()
    request.method = scope.get("method", "GET")
    request.target = target
    request.version = scope.get("http_version", "1.1")
    request.address = plain_address(tuple(client)) if client else ""
    request.outside = _is_outside(client) or _is_outside(scope.get("server"))
    for name, value in scope["headers"]:
        request.add_header(name, value)
    if "sec-websocket-protocol" not in request.headers and (offered := scope.get("subprotocols")):
        request.add_header(b"sec-websocket-protocol", ", ".join(offered).encode())
    return request


def _is_outside(end: Sequence[object] | None) -> bool:
    """Return whether an end of a connection is an address of the network; a path or a name is none.

    A connection within this machine has both of its ends on loopback.
    """
    try:
        return end is not None and not one_form(ip_address(str(end[0]))).is_loopback
    except ValueError:
        return False


class HttpApplication:
    """Answers the requests of HTTP scopes."""

    def __init__(self, budget: BodyBudget, *, body_timeout_seconds: float) -> None:
        self._budget = budget
        self._body_timeout_seconds = body_timeout_seconds

    async def answer(
        self, dispatcher: Dispatcher, call: Call, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Read the body, call the route's handler and send its answer, unless nobody waits."""
        answer = await self._answer(dispatcher, call, receive)
        if answer is not None:
            await send_answer(answer, scope, send)

    async def _answer(self, dispatcher: Dispatcher, call: Call, receive: Receive) -> Answer | None:
        await dispatcher.admitted(call)
        try:
            if call.answer is None:
                await self._read_body(dispatcher, call, receive)
            answer = dispatcher.run(call)
            if isinstance(answer, Answer):
                return answer
            return await (_unless_left(answer, receive) if call.ends_with_its_peer else answer)
        finally:
            self._budget.release(call)

    async def _read_body(self, dispatcher: Dispatcher, call: Call, receive: Receive) -> None:
        try:
            async with asyncio.timeout(self._body_timeout_seconds):
                more = True
                while more and call.answer is None:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise BadRequestError("the connection ended before the body did")
                    more = message.get("more_body", False)
                    dispatcher.take(call, message.get("body", b""))
                    if more:
                        self._budget.reserve(call)
        except TimeoutError:
            dispatcher.late(call, self._body_timeout_seconds)
        except HubError as error:
            dispatcher.refuse(call, error)


async def _unless_left(work: Coroutine[object, object, Answer], receive: Receive) -> Answer | None:
    """Return the answer; None, and `work` is cancelled, where its peer leaves before.

    The body is read, so the next message can only be the end of the peer.
    """
    answering = asyncio.create_task(work)
    await _first_of(answering, asyncio.create_task(_left(receive)))
    return None if answering.cancelled() else answering.result()


async def _left(receive: Receive) -> None:
    # Awaited here and not by `asyncio.wait`: granian's is no future of the loop's.
    await receive()


async def _first_of(*tasks: asyncio.Task[Any]) -> None:
    """Wait until one of the tasks has ended, and end the others."""
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def send_answer(
    answer: Answer, scope: Scope, send: Send, *, kind: str = "http.response"
) -> None:
    """Send an answer through ASGI; the types of its messages begin with `kind`."""
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    if answer.body:
        headers |= {"Content-Type": answer.content_type, "Content-Length": str(len(answer.body))}
    headers |= answer.headers
    pairs = [(name.lower().encode(), text.encode("latin-1")) for name, text in headers.items()]
    await send({"type": f"{kind}.start", "status": answer.status, "headers": pairs})
    body = b"" if scope.get("method") == "HEAD" else answer.body
    await send({"type": f"{kind}.body", "body": body})


class AsgiSessions:
    """Answers `/ws` and `/sse` with sessions, and every other path from the routes.

    Args:
        streams: answers peers that are refused, as behind the hub's own listener.
        base_path: may stand before every path of the hub.
    """

    def __init__(
        self,
        *,
        openings: Openings,
        streams: Streams,
        websocket: WebSocketOptions,
        dispatcher: Dispatcher,
        http: HttpApplication,
        base_path: str,
    ) -> None:
        self._openings = openings
        self._streams = streams
        self._websocket_options = websocket
        self._dispatcher = dispatcher
        self._http = http
        self._base_path = base_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = request_of(scope, self._base_path)
        call = self._dispatcher.open(request)
        stream = None if call.answer is not None or call.route is None else call.route.stream
        if scope["type"] == "websocket":
            if call.admission is not None:
                call.admission.close()
            if (await receive())["type"] != "websocket.connect":
                return  # the peer has left before it was accepted
            if stream is StreamKind.WEBSOCKET:
                await self._websocket(request, scope, receive, send)
            else:
                error = BadRequestError("a WebSocket is at /ws")
                await _refuse_handshake(call.answer or problem(error), scope, send)
        elif stream is StreamKind.SSE and request.method == "GET":
            await self._sse(request, scope, receive, send)
        else:
            await self._http.answer(self._dispatcher, call, scope, receive, send)

    async def _websocket(
        self, request: Request, scope: Scope, receive: Receive, send: Send
    ) -> None:
        link = AsgiLink("websocket", request)
        try:
            check_target(request)
            await _opened(self._openings.websocket_over, request, link)
        except HubError as error:
            answer = self._streams.refusal(StreamKind.WEBSOCKET, request, error)
            await _refuse_handshake(answer, scope, send)
            return
        await self._run(link, receive, self._write_messages(link, send))

    async def _write_messages(self, link: AsgiLink, send: Send) -> None:
        # A browser that offers some fails a connection that takes none.
        await send({"type": "websocket.accept", "subprotocol": link.subprotocol})
        while True:
            data = await link.take()
            for line in data.splitlines():
                await send({"type": "websocket.send", "text": line.decode()})
            link.sent(len(data))
            if link.ended is not None:
                code, reason = link.ended
                ending = {"code": int(code), "reason": close_reason(reason)}
                await send({"type": "websocket.close", **ending})
                return

    async def _sse(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        link = AsgiLink("sse", request)
        try:
            check_target(request)
            await _opened(self._openings.sse_over, request, link)
        except HubError as error:
            answer = self._streams.refusal(StreamKind.SSE, request, error)
            await send_answer(answer, scope, send)
            return
        headers = response_headers(request.headers.get("origin"))
        await self._run(link, receive, self._write_stream(link, send, headers))

    async def _write_stream(self, link: AsgiLink, send: Send, headers: Headers) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": FIRST_FIELD, "more_body": True})
        while True:
            if data := await link.take():
                await send({"type": "http.response.body", "body": data, "more_body": True})
                link.sent(len(data))
            if link.ended is not None:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return

    async def _run(
        self, link: AsgiLink, receive: Receive, writing: Coroutine[object, object, None]
    ) -> None:
        """Write until the session ends and read until the peer ends; the first end stops both.

        An abort stops both too: a peer that takes nothing would keep the writing for ever.
        """
        try:
            await _first_of(
                asyncio.create_task(self._read(link, receive)),
                asyncio.create_task(writing),
                asyncio.create_task(link.aborted.wait()),
            )
        finally:
            if link.session is not None:
                link.session.lost(CloseCode.ABNORMAL, "connection ended")

    async def _read(self, link: AsgiLink, receive: Receive) -> None:
        while True:
            await link.reading.wait()
            message = await receive()
            if message["type"] in ("websocket.disconnect", "http.disconnect"):
                return
            if message["type"] == "websocket.receive" and link.session is not None:
                self._command(link.session, message)

    def _command(self, session: Session, message: Message) -> None:
        text, options = message.get("text"), self._websocket_options
        if text is None:
            session.close(CloseCode.UNSUPPORTED_DATA, "binary frames are not supported: send text")
            return
        try:
            # A half of a surrogate pair is no UTF-8, and the session says so.
            options.command(session, text.encode("utf-8", "surrogatepass"))
        except Exception as error:  # noqa: BLE001 - the border: logged with traceback, neutral to the peer
            options.registry.failed(session, error)


async def _opened(
    opening: Callable[[Request, AsgiLink], None], request: Request, link: AsgiLink
) -> None:
    """Open a session, after the wait that an `UndecidedError` asks for."""
    while True:
        try:
            opening(request, link)
        except UndecidedError as undecided:
            if not undecided.may_wait(has_waited=request.has_waited):
                raise
            await undecided.wait()
            request.has_waited = True
        else:
            return


async def _refuse_handshake(answer: Answer, scope: Scope, send: Send) -> None:
    """Answer a handshake with a status, so that a client knows whether to come back.

    A server without this extension turns a close before `accept` into a 403.
    """
    if "websocket.http.response" in (scope.get("extensions") or {}):
        await send_answer(answer, scope, send, kind="websocket.http.response")
    else:
        await send({"type": "websocket.close", "code": CloseCode.POLICY_VIOLATION})
