"""The application beside the hub: plain ASGI, called by the connection itself.

The application answers what the table of routes does not have. Its requests are HTTP only; it
has to serve WebSockets of its own elsewhere. It may take any time to answer. Its peer's silence and
its peer's refusal to read have the connection's deadlines.
"""

import asyncio
import re
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import unquote

from hub.transports.asgi_types import ASGIApp, Message, Scope
from hub.transports.http.dispatch import Call
from hub.transports.http.ports import Log

# Bytes of a body that the application has not asked for; more stop the reading.
_WAITING_BYTES = 64 * 1024
_NO_BODY = frozenset({204, 304})
# RFC 9110 sections 5.1 and 5.5.
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_LINE_ENDS = re.compile(rb"[\r\n\0]")
_HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding"})


class PeerGoneError(OSError):
    """Raised by `send` once the peer has gone (ASGI 2.4)."""


class ApplicationTransport(Protocol):
    """The connection, as far as an application's answer uses it."""

    def write(self, data: bytes) -> bool:
        """Write; return whether the peer takes more."""
        ...

    def finished(self, call: "ApplicationCall", *, close: bool) -> None: ...

    def body_taken(self) -> None: ...

    def abort(self) -> None: ...


class Application:
    """The application and the state that its requests share, which its lifespan has made."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        server: tuple[str, int],
        state: dict[str, Any],
        log: Log,
        scheme: str = "http",
    ) -> None:
        """`scheme` is that of requests of which no trusted proxy tells one."""
        self.app = app
        self.server = server
        self.scheme = scheme
        self.state = state
        self.log = log

    def begin(self, call: Call, carrier: ApplicationTransport) -> "ApplicationCall":
        return ApplicationCall(call, self, carrier)


class ApplicationCall(Call):
    """One request of the application's and its answer."""

    def __init__(self, call: Call, application: Application, carrier: ApplicationTransport) -> None:
        super().__init__(call.request)
        self.foreign = True
        self.expects = call.expects
        self.answer = call.answer
        self._application = application
        self._carrier = carrier
        self._body = bytearray()
        self._ended = False
        self._handed_over = False
        """The application has the whole body."""
        self._gone = False
        self._peer_done = False
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._head: Message | None = None
        self._started = False
        self._sent_whole = False
        self._chunked = False
        self._close = False
        self._left: int | None = None
        """Bytes of the declared length that are not sent yet."""

    # -- calls of the connection -------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        self._body += data
        self.size += len(data)
        self._changed.set()

    @property
    def is_full(self) -> bool:
        return len(self._body) > _WAITING_BYTES

    def ended(self) -> None:
        """Note that the body is whole."""
        self._ended = True
        self._changed.set()

    def peer_ended(self) -> None:
        """Note that the peer sends nothing more; it may wait for the answer."""
        self._peer_done = True
        self._changed.set()

    def lost(self) -> None:
        """Note that the connection is gone."""
        self._gone = True
        self._changed.set()
        self._writable.set()

    def writable(self) -> None:
        """Note that the peer takes more."""
        self._writable.set()

    # -- the application ---------------------------------------------------------------------

    async def run(self) -> None:
        """Have the application answer; an exception of it is logged and ends the connection."""
        application = self._application
        try:
            await application.app(self._scope(), self._receive, self._send)
        except PeerGoneError:
            # An application that does not catch this has made no mistake.
            pass
        except Exception:
            application.log.exception("application_failed", method=self.request.method)
        if self._started and not self._sent_whole:
            # Half an answer that ends as if it were whole would be a lie.
            self._carrier.abort()
        elif not (self._started or self._gone):
            await self._send({"type": "http.response.start", "status": 500, "headers": []})
            await self._send({"type": "http.response.body", "body": b"Internal Server Error"})
        self._carrier.finished(self, close=self._close)

    def _scope(self) -> Scope:
        request, application = self.request, self._application
        path = request.path
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": request.version,
            "method": request.method,
            "scheme": request.scheme or application.scheme,
            "path": unquote(path.decode("latin-1"), errors="surrogateescape"),
            "raw_path": path,
            "query_string": request.query,
            "root_path": "",
            "headers": request.raw_headers or [],
            "client": (request.address, 0) if request.address else None,
            "server": application.server,
            "state": application.state.copy(),
            "extensions": {},
        }

    async def _receive(self) -> Message:
        if self.expects and not (self._body or self._ended):
            self._carrier.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.expects = False
        while not (self._body or self._ended or self._is_alone()):
            self._changed.clear()
            await self._changed.wait()
        if self._handed_over:
            await self._until_gone()
        if self._gone or self._handed_over or not (self._body or self._ended):
            return {"type": "http.disconnect"}
        body, more = bytes(self._body), not self._ended
        self._body.clear()
        self._handed_over = not more
        if more:
            # This may bring more of the body, and its end: the next call returns them.
            self._carrier.body_taken()
        return {"type": "http.request", "body": body, "more_body": more}

    def _is_alone(self) -> bool:
        """Return whether the peer sends nothing more, though it may still read."""
        return self._gone or self._peer_done

    async def _until_gone(self) -> None:
        """Wait for the end of the peer, as an application that streams does beside its writing."""
        while not (self._is_alone() or self._sent_whole):
            self._changed.clear()
            await self._changed.wait()

    async def _send(self, message: Message) -> None:
        if self._gone:
            raise PeerGoneError("the peer has gone")
        if message["type"] == "http.response.start":
            self._head = message
            return
        if message["type"] != "http.response.body" or self._head is None or self._sent_whole:
            raise RuntimeError(f"the application sent {message['type']!r} out of its turn")
        body, more = bytes(message.get("body", b"")), bool(message.get("more_body", False))
        data = b"" if self._started else self._begin(self._head, None if more else len(body))
        self._started = True
        data += self._part(body, more=more)
        self._sent_whole = not more
        if self._sent_whole:
            self._changed.set()
        if data and not self._carrier.write(data):
            self._writable.clear()
            await self._writable.wait()
            if self._gone and more:
                raise PeerGoneError("the peer has gone")

    def _begin(self, head: Message, length: int | None) -> bytes:
        """Return the head of the answer; `length` is known where its first part is its only one.

        The connection decides on the framing of the body and on its own end (RFC 9112 sections 6
        and 9), whatever fields the application sends.
        """
        status, request = int(head["status"]), self.request
        self.expects = False
        given = [(bytes(name).lower(), bytes(value)) for name, value in head.get("headers", ())]
        _check_head(status, given)
        dropped = _HOP_BY_HOP
        if status == HTTPStatus.NO_CONTENT:
            # RFC 9110 section 8.6.
            dropped |= {b"content-length"}
        fields = [field for field in given if field[0] not in dropped]
        self._close = (b"connection", b"close") in given or not request.keep_alive
        names = {name for name, _ in fields}
        if b"date" not in names:
            fields.append((b"date", formatdate(usegmt=True).encode()))
        self._left = next((int(value) for name, value in fields if name == b"content-length"), None)
        if request.method == "HEAD" or status in _NO_BODY:
            self._left = 0
        elif self._left is None:
            fields += self._frame(length)
        if self._close or not self.complete:
            self._close = True
            fields.append((b"connection", b"close"))
        elif request.version == "1.0":
            fields.append((b"connection", b"keep-alive"))
        lines = [b"%b: %b" % field for field in fields]
        first = f"HTTP/1.1 {status} {_phrase(status)}".encode()
        return b"\r\n".join([first, *lines]) + b"\r\n\r\n"

    def _frame(self, length: int | None) -> list[tuple[bytes, bytes]]:
        """Return the fields that frame a body for which the application gave no length."""
        if length is not None:
            self._left = length
            return [(b"content-length", b"%d" % length)]
        if self.request.version == "1.1":
            self._chunked = True
            return [(b"transfer-encoding", b"chunked")]
        self._close = True
        return []

    def _part(self, body: bytes, *, more: bool) -> bytes:
        if self._chunked:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return chunk if more else chunk + b"0\r\n\r\n"
        if self._left is None:
            return body
        part = body[: self._left]
        self._left -= len(part)
        if not more and self._left and self.request.method != "HEAD":
            # Less than the declared length: the peer must not take the next answer for the rest.
            self._close = True
        return part


def _check_head(status: int, fields: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise `ValueError` where the peer could read the head as something else."""
    if status < HTTPStatus.OK:
        raise ValueError(f"status {status} is no answer")
    lengths = set()
    for name, value in fields:
        if not _NAME.fullmatch(name) or _LINE_ENDS.search(value):
            raise ValueError(f"{name[:40]!r} is no name of a field, or its value has more lines")
        if name == b"content-length":
            lengths.add(value)
    if len(lengths) > 1:
        raise ValueError("the application says two lengths")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


class Lifespan:
    """The application's start and stop, by ASGI's lifespan protocol."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self.state: dict[str, Any] = {}
        """State that the application keeps for its requests."""
        self.absent: str | None = None
        """The exception of an application that has no lifespan; None where it has one."""

    async def start(self) -> str | None:
        """Return why the application did not start; None where it did."""
        self._task = asyncio.create_task(self._run())
        if (why := await self._tell("startup")) is not None:
            await self._end(self._task)
        return why

    async def stop(self) -> str | None:
        """Return why the application did not stop in order; None where it did."""
        if self._task is None or self._task.done():
            return None
        try:
            return await self._tell("shutdown")
        finally:
            await self._end(self._task)

    async def _end(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        scope: Scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        await self._app(scope, self._to_app.get, self._from_app.put)

    async def _tell(self, what: str) -> str | None:
        assert self._task is not None  # noqa: S101 - both callers have made it
        await self._to_app.put({"type": f"lifespan.{what}"})
        answer = asyncio.create_task(self._from_app.get())
        await asyncio.wait({answer, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            message = answer.result()
            if message["type"] == f"lifespan.{what}.complete":
                return None
            return str(message.get("message") or message["type"])
        answer.cancel()
        error = None if self._task.cancelled() else self._task.exception()
        if what == "startup" and error is not None:
            # By the ASGI specification such an application has no lifespan, as Django has none.
            self.absent = repr(error)
            return None
        return repr(error) if error is not None else "it ended without an answer"
