"""The hub as an ASGI application, under any ASGI server.

For embedding where the server is somebody else's. Every session costs two tasks here, its
own and its reader's, and the server's framing; behind the hub's own listener it costs none
(`hub.transports.front_door`). The session and everything it promises are the same.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.core.ports import MAX_AGENT_CHARACTERS
from hub.core.session import Session
from hub.core.tally import Tally
from hub.errors import HubError
from hub.transports.head import RequestHead
from hub.transports.http.problem import problem
from hub.transports.opening import Openings, cross_origin
from hub.transports.sse import FIRST_FIELD, Headers, response_headers
from hub.transports.websocket import WebSocketOptions
from hub.wire.codes import CloseCode, close_code

# What waits for the server's `send`; behind it the session's outbox decides.
_MAX_WAITING_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class AsgiOptions:
    openings: Openings
    websocket: WebSocketOptions
    tally: Tally


class AsgiLink:
    """Implements `hub.core.ports.Link`: holds a little for the task that sends it."""

    answers_pings = False

    def __init__(self, transport: str, *, address: str, user_agent: str) -> None:
        self.transport = transport
        self.address = address
        self.user_agent = user_agent[:MAX_AGENT_CHARACTERS]
        self.session: Session | None = None
        self.ended: tuple[int, str] | None = None
        self.changed = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()
        self._waiting = bytearray()
        self._blocked = False
        self._taken = 0

    def send(self, data: bytes) -> int:
        if self._blocked or len(self._waiting) >= _MAX_WAITING_BYTES:
            return 0
        self._waiting += data
        self.changed.set()
        return len(data)

    def finish(self, rest: bytes) -> None:
        self._blocked = True
        self._waiting += rest
        self.changed.set()

    async def take(self) -> bytes:
        """What waits, as soon as there is something; b"" when the link has ended."""
        await self.changed.wait()
        self.changed.clear()
        data, self._waiting = bytes(self._waiting), bytearray()
        self._taken += len(data)
        return data

    def sent(self) -> None:
        """The server took what was waiting."""
        if self._blocked and not self._waiting and self.session is not None:
            self._blocked = False
            self.session.on_writable()

    def cork(self) -> None:
        """What waits is gathered anyway."""

    def uncork(self) -> bool:
        return True

    def ping(self, payload: bytes) -> bytes:  # noqa: ARG002 - the port's shape
        return b""

    def acknowledged_bytes(self) -> int:
        # The kernel's count is the server's; what the server has taken stands in for it.
        return self._taken

    def unsent_bytes(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.reading.clear()

    def resume_reading(self) -> None:
        self.reading.set()

    def close(self, code: int, reason: str) -> None:
        self.ended = (code, reason)
        self.changed.set()

    def abort(self) -> None:
        self.close(CloseCode.ABNORMAL, "aborted")


class AsgiSessions:
    """Answers `/ws` and `/sse`; everything else goes to `http`."""

    def __init__(self, options: AsgiOptions, http: ASGIApp) -> None:
        self._options = options
        self._http = http

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] == "websocket" and path == "/ws":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http" and path == "/sse" and scope["method"] == "GET":
            await self._sse(scope, receive, send)
        else:
            await self._http(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = _head(scope)
        await receive()
        link = AsgiLink("websocket", address=_address(scope), user_agent=_user_agent(head))
        try:
            self._options.openings.websocket_over(head, link)
        except HubError as error:
            self._options.tally.refused[error.code] += 1
            # Before `accept` the server turns this into a refused handshake.
            await send({"type": "websocket.close", "code": close_code(error.code)})
            return
        await self._run(link, receive, self._write_messages(link, send))

    async def _write_messages(self, link: AsgiLink, send: Send) -> None:
        await send({"type": "websocket.accept"})
        while True:
            for line in (await link.take()).splitlines():
                await send({"type": "websocket.send", "text": line.decode()})
            if link.ended is not None:
                code, reason = link.ended
                await send({"type": "websocket.close", "code": code, "reason": reason})
                return
            link.sent()

    async def _sse(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = _head(scope)
        link = AsgiLink("sse", address=_address(scope), user_agent=_user_agent(head))
        try:
            self._options.openings.sse_over(head, link)
        except HubError as error:
            self._options.tally.refused[error.code] += 1
            origin = self._options.openings.readable_by(head)
            await problem(error, headers=cross_origin(origin))(scope, receive, send)
            return
        headers = response_headers(head.headers.get("origin"))
        await self._run(link, receive, self._write_stream(link, send, headers))

    async def _write_stream(self, link: AsgiLink, send: Send, headers: Headers) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": FIRST_FIELD, "more_body": True})
        while True:
            if data := await link.take():
                await send({"type": "http.response.body", "body": data, "more_body": True})
            if link.ended is not None:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            link.sent()

    async def _run(
        self, link: AsgiLink, receive: Receive, writing: Coroutine[object, object, None]
    ) -> None:
        """Write until the session ends, read until the peer does; either ends both."""
        reader = asyncio.create_task(self._read(link, receive))
        writer = asyncio.create_task(writing)
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reader, writer):
                task.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)
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
        text = message.get("text")
        if text is None:
            session.close(CloseCode.UNSUPPORTED_DATA, "binary frames are not supported: send text")
            return
        self._options.websocket.command(session, text.encode())


def _head(scope: Scope) -> RequestHead:
    head = RequestHead(method="GET", version="1.1", target=b"?" + scope.get("query_string", b""))
    for name, value in scope["headers"]:
        head.on_header(name, value)
    return head


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _user_agent(head: RequestHead) -> str:
    return head.headers.get("user-agent", "")
