"""A server-sent events session's connection: a response without an end."""

import asyncio
import time
from email.utils import formatdate
from functools import lru_cache

from hub.transports.stream import StreamConnection
from hub.transports.turns import Lane
from hub.wire.sse import retry

# How long a plain EventSource waits after a cut without a goodbye. The browser default is
# about 3 s; a second is felt less and a node that restarts spreads its goodbyes anyway.
FIRST_FIELD = retry(1000)
"""What every stream begins with: a field of its first block."""

Headers = list[tuple[bytes, bytes]]

_HEADERS = (
    (b"Content-Type", b"text/event-stream; charset=utf-8"),
    # no-transform: a compressing proxy would hold events back until its block is full.
    (b"Cache-Control", b"no-cache, no-store, no-transform"),
    # nginx and what imitates it buffer a response unless told so.
    (b"X-Accel-Buffering", b"no"),
    (b"X-Content-Type-Options", b"nosniff"),
)


def response_headers(origin: str | None) -> Headers:
    """Of the stream's response. `origin` was checked; a page of it may read the stream."""
    if origin is None:
        return list(_HEADERS)
    allowed = (b"Access-Control-Allow-Origin", origin.encode("latin-1"))
    return [*_HEADERS, allowed, (b"Vary", b"Origin")]


def response_head(origin: str | None) -> bytes:
    """The whole head of the response, and the stream's first field."""
    now = int(time.time())
    return _head_of_nobody(now) if origin is None else _head(origin, now)


def _head(origin: str | None, second: int) -> bytes:
    # The stream ends with the connection: no length and no chunks (RFC 9112 section 6.3).
    date = (b"Date", formatdate(second, usegmt=True).encode())
    headers = [*response_headers(origin), date, (b"Connection", b"close")]
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n" + FIRST_FIELD


@lru_cache(maxsize=1)
def _head_of_nobody(second: int) -> bytes:
    """What all streams of one second begin with that no page of another origin asks for."""
    return _head(None, second)


class SseConnection(StreamConnection):
    """All that the peer sends after its request is ignored."""

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
