"""The opening of sessions on connections: a stream, or a refusal that the peer understands."""

import asyncio
import random

from hub.core.ports import Dialect, UndecidedError
from hub.core.pushes import Goodbye
from hub.errors import HeadersTooLargeError, HubError, UpgradeRequiredError
from hub.transports.http.answer import Answer, cross_origin, encode, problem
from hub.transports.http.dispatch import Call
from hub.transports.http.routes import StreamKind
from hub.transports.opening import Judged, Openings
from hub.transports.request import Request
from hub.wire.codes import CloseCode, close_code

# The wire contract: a URL stays below 4 KB. More channels are subscribed to by command.
MAX_TARGET_BYTES = 4096
# A plain EventSource that is refused for now comes back within this window. It has no jitter
# of its own, so each gets another moment of it.
_RETRY_MILLISECONDS = (1000, 4000)


def check_target(request: Request) -> None:
    """Raise `HeadersTooLargeError` where a session's URL is longer than the contract says."""
    if (size := len(request.target)) > MAX_TARGET_BYTES:
        raise HeadersTooLargeError(f"URL is {size:,} bytes, limit is {MAX_TARGET_BYTES:,}")


class Streams:
    """Opens sessions on connections; one per node.

    Args:
        sse: encodes a refusal of `/sse`.
    """

    def __init__(self, openings: Openings, *, sse: Dialect) -> None:
        self._openings = openings
        self._sse = sse

    def begin(
        self, stream: StreamKind, call: Call, transport: asyncio.Transport, rest: bytes
    ) -> Answer | bytes | None:
        """Give a session the transport for good; return the answer where it is refused.

        Bytes are the answer and the end of a stream. A request that first has to wait for its
        identity gets an `admission` to wait for, and is not begun. `rest` are the bytes behind it.
        """
        request = call.request
        try:
            return self.open(stream, request, transport, rest)
        except HubError as error:
            if isinstance(error, UndecidedError) and error.may_wait(has_waited=request.has_waited):
                request.has_waited = True
                call.admission = error.wait()
                return None
            return self.refusal(stream, request, error)

    def open(
        self, stream: StreamKind, request: Request, transport: asyncio.Transport, rest: bytes
    ) -> bytes | None:
        """Give a session the transport for good; `rest` are the bytes behind its request.

        Returns the bytes of a stream that ends as it begins. Raises `HubError` where the session is
        refused, an `UndecidedError` where it has to wait. The transport is untouched in all three
        cases.
        """
        check_target(request)
        if stream is StreamKind.SSE:
            self._openings.sse(request, transport, address=request.address)
            return None
        if request.version == "1.0":
            # RFC 9110 section 7.8: the field means nothing there.
            raise UpgradeRequiredError("a WebSocket needs HTTP/1.1, the request is HTTP/1.0")
        opened = self._openings.websocket(request, transport, address=request.address, rest=rest)
        return opened if isinstance(opened, bytes) else None

    def judge(self, stream: StreamKind, request: Request) -> Judged | bytes:
        """Judge a request of HTTP/1.1 as `open` does; return all bytes of a refusal.

        The request is counted as one that begins a session, and is not to be counted again.
        """
        openings, address = self._openings, request.address
        try:
            check_target(request)
            if stream is StreamKind.WEBSOCKET:
                return openings.judge_websocket(request, address)
            return Judged(openings.judge_sse(request, address))
        except HubError as error:
            if isinstance(error, UndecidedError) and error.may_wait(has_waited=False):
                return Judged()
            return encode(self.refusal(stream, request, error), close=True)

    def refusal(self, stream: StreamKind, request: Request, error: HubError) -> Answer:
        """Note a refusal, and return its answer.

        An EventSource never comes back after an answer that is not 200. One that is refused only
        for now therefore gets a stream that names the time to come back, and ends.
        """
        self._openings.on_refused(error, request, request.address)
        headers = request.headers
        origin = headers.get("origin")
        if (
            stream is StreamKind.SSE
            and error.retryable
            and "text/event-stream" in headers.get("accept", "")
        ):
            return self._come_back(error, origin)
        return problem(error, headers=cross_origin(origin))

    def _come_back(self, error: HubError, origin: str | None) -> Answer:
        goodbye = Goodbye(_code(error), error.message, random.randint(*_RETRY_MILLISECONDS))
        return Answer(
            self._sse.encode(goodbye, ""),
            content_type="text/event-stream; charset=utf-8",
            headers=cross_origin(origin),
        )


def _code(error: HubError) -> CloseCode:
    """Return a close code after which clients come back, also for a token that is too early."""
    code = close_code(error.code)
    final = CloseCode.BAD_REQUEST <= code < CloseCode.INTERNAL
    return CloseCode.TRY_AGAIN_LATER if final else code
