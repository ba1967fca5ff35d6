"""A server-sent events session's connection: a response without an end."""

from hub.transports.stream import StreamConnection
from hub.wire.sse import retry

# How long a plain EventSource waits after a cut without a goodbye. The browser default is
# about 3 s; a second is felt less and a node that restarts spreads its goodbyes anyway.
_RETRY_MS = 1000

_HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: text/event-stream; charset=utf-8\r\n"
    # no-transform: a compressing proxy would hold events back until its block is full.
    b"Cache-Control: no-cache, no-store, no-transform\r\n"
    # nginx and what imitates it buffer a response unless told so.
    b"X-Accel-Buffering: no\r\n"
    # The stream ends with the connection: no length and no chunks (RFC 9112 section 6.3).
    b"Connection: close\r\n"
    b"X-Content-Type-Options: nosniff\r\n"
)


def response_head(origin: str | None) -> bytes:
    """The head of the response and the stream's first field.

    `origin` was checked; a page of it may read the stream.
    """
    cors = b""
    if origin is not None:
        cors = b"Access-Control-Allow-Origin: %b\r\nVary: Origin\r\n" % origin.encode("latin-1")
    return _HEAD + cors + b"\r\n" + retry(_RETRY_MS)


class SseConnection(StreamConnection):
    """Whatever the peer sends after its request is ignored."""

    __slots__ = ()

    transport = "sse"

    def data_received(self, data: bytes) -> None:
        pass
