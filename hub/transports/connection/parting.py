"""The end of a WebSocket that was refused behind its handshake.

The peer has its farewell and may still be sending: its first commands, and the answer to the close
frame. To end the connection at once would answer these with a reset, and that may cost the peer the
farewell. So its bytes are thrown away until it ends. The connection stays counted, and has the
deadline that it had.
"""

import asyncio
from collections.abc import Callable

from hub.wire.websocket import is_close_frame

# More is not read. Guess: as much as a peer sends before it has read the farewell.
_MAX_IGNORED_BYTES = 64 * 1024


class Parting(asyncio.Protocol):
    """Has the transport of a refused WebSocket from the farewell to the end.

    Args:
        on_lost: called when the connection is gone.
    """

    __slots__ = ("_ignored_bytes", "_on_lost", "_transport")

    def __init__(
        self, transport: asyncio.Transport, on_lost: Callable[[Exception | None], None]
    ) -> None:
        self._transport = transport
        self._on_lost = on_lost
        self._ignored_bytes = 0
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        before = self._ignored_bytes
        self._ignored_bytes += len(data)
        if is_close_frame(data):
            # RFC 6455 section 7.1.1: the server closes first. Behind TLS nothing else tells it.
            self._transport.close()
        elif before <= _MAX_IGNORED_BYTES < self._ignored_bytes:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost(exc)
