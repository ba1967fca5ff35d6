"""The routes under somebody else's ASGI server: HTTP requests only."""

import asyncio
from inspect import isawaitable

from hub.errors import BadRequestError, HubError
from hub.transports.asgi_types import Receive, Scope, Send
from hub.transports.http.answer import Answer
from hub.transports.http.bodies import BodyBudget
from hub.transports.http.dispatch import Call, Dispatcher
from hub.transports.request import Request


def request_of(scope: Scope, base_path: str = "") -> Request:
    """The request of an HTTP or WebSocket scope.

    The path is the server's decoded one where it hands no raw one on. The place where the hub is
    mounted goes from its front. What the hub's own listener would want before it, `base_path`, may
    stand there and need not: mounted at `/live`, with `/live` as base path or with none, the hub
    answers `/live/ws`.
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
    request.address = str(client[0]) if client else ""
    for name, value in scope["headers"]:
        request.add_header(name, value)
    if "sec-websocket-protocol" not in request.headers and (offered := scope.get("subprotocols")):
        request.add_header(b"sec-websocket-protocol", ", ".join(offered).encode())
    return request


class HttpApplication:
    """Answers the requests of HTTP scopes."""

    def __init__(self, budget: BodyBudget, *, body_timeout_seconds: float) -> None:
        self._budget = budget
        self._body_timeout_seconds = body_timeout_seconds

    async def answer(
        self, dispatcher: Dispatcher, call: Call, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Read the body, have the route answer, write its answer."""
        await send_answer(await self._answer(dispatcher, call, receive), scope, send)

    async def _answer(self, dispatcher: Dispatcher, call: Call, receive: Receive) -> Answer:
        await dispatcher.admitted(call)
        try:
            if call.answer is None:
                await self._read_body(dispatcher, call, receive)
            answer = dispatcher.run(call)
            return await answer if isawaitable(answer) else answer
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


async def send_answer(
    answer: Answer, scope: Scope, send: Send, *, kind: str = "http.response"
) -> None:
    """Write an answer through ASGI; `kind` is what its messages' types begin with."""
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    if answer.body:
        headers |= {"Content-Type": answer.content_type, "Content-Length": str(len(answer.body))}
    headers |= answer.headers
    pairs = [(name.lower().encode(), text.encode("latin-1")) for name, text in headers.items()]
    await send({"type": f"{kind}.start", "status": answer.status, "headers": pairs})
    body = b"" if scope.get("method") == "HEAD" else answer.body
    await send({"type": f"{kind}.body", "body": body})
