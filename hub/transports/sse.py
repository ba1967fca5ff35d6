"""A server-sent events session's connection: a response without an end."""

import asyncio
import time
from email.utils import formatdate
from functools import lru_cache

from hub.transports.stream import StreamConnection
from hub.transports.turns import Lane
from hub.wire.sse import retry

# The wait of a plain EventSource after a cut without a goodbye. The browser default is about 3 s; a
# second is felt less, and a node that restarts spreads its goodbyes anyway.
FIRST_FIELD = retry(1000)
"""The first field of the first block of every stream."""

Headers = list[tuple[bytes, bytes]]

_HEADERS = (
    (b"Content-Type", b"text/event-stream; charset=utf-8"),
    # no-transform: a compressing proxy would hold events back until its block is full.
    (b"Cache-Control", b"no-cache, no-store, no-transform"),
    # nginx and others like it buffer a response unless this field is there.
    (b"X-Accel-Buffering", b"no"),
    (b"X-Content-Type-Options", b"nosniff"),
)


def response_headers(origin: str | None) -> Headers:
    """Return the fields of the response, which a page of `origin`, checked before, may read."""
    if origin is None:
        return list(_HEADERS)
    allowed = (b"Access-Control-Allow-Origin", origin.encode("latin-1"))
    return [*_HEADERS, allowed, (b"Vary", b"Origin")]


def response_head(origin: str | None) -> bytes:
    """Return the whole head of the response, and the stream's first field."""
    now = int(time.time())
    return _head_without_origin(now) if origin is None else _head(origin, now)


def _head(origin: str | None, second: int) -> bytes:
    # The stream ends with the connection: no length and no chunks (RFC 9112 section 6.3).
    date = (b"Date", formatdate(second, usegmt=True).encode())
    headers = [*response_headers(origin), date, (b"Connection", b"close")]
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n" + FIRST_FIELD


@lru_cache(maxsize=1)
def _head_without_origin(second: int) -> bytes:
    """Return the head of all streams of one second that no page of another origin reads."""
    return _head(None, second)


class SseConnection(StreamConnection):
    """The stream of a session; bytes of the peer behind its request are ignored."""

    __slots__ = ("_lane",)

    transport = "sse"

    def __init__(
        self, transport: asyncio.Transport, crowd: Lane, *, address: str, user_agent: str
    ) -> None:
        super().__init__(transport, address=address, user_agent=user_agent)
        self._lane = crowd

    @property
    def _crowd(self) -> Lane:
        return self._lane

    def data_received(self, data: bytes) -> None:
        pass
