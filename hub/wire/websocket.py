"""Native pushes in WebSocket text frames, compressed once for all where that was agreed.

RFC 6455 section 5.2 for the frame, RFC 7692 for compression. Frames are shared between
connections, so compression never uses context from one message to the next: every
connection must have agreed on `server_no_context_takeover` (a shared frame on a connection
with context takeover corrupts silently).
"""

import struct
import zlib
from collections.abc import Sequence

from hub.core.publication import Position
from hub.core.pushes import Push
from hub.wire import native_pushes

_FIN_TEXT = 0x81
_FIN_RSV1_TEXT = 0xC1
_FIN_CLOSE = 0x88
_FIN_PING = 0x89
_FIN_PONG = 0x8A
# RFC 6455 section 5.2: the head of a frame whose length takes two bytes, and eight.
_PACK_16 = struct.Struct("!BBH").pack
_PACK_64 = struct.Struct("!BBQ").pack
# RFC 6455 section 5.5: a control payload is at most 125 bytes; the close code takes 2.
MAX_CLOSE_REASON_BYTES = 123
# RFC 7692 sections 7.2.1 and 7.2.2: what ends a flushed deflate block, left off on the wire.
DEFLATE_TAIL = b"\x00\x00\xff\xff"
# zlib's default; per message the memory lives only while it is being compressed.
_LEVEL = 6


def frame(payload: bytes, first_byte: int = _FIN_TEXT) -> bytes:
    """One unmasked, final frame."""
    length = len(payload)
    if length < 126:
        return bytes((first_byte, length)) + payload
    if length < 65536:
        return _PACK_16(first_byte, 126, length) + payload
    return _PACK_64(first_byte, 127, length) + payload


def ping_frame(payload: bytes) -> bytes:
    """A ping with at most 125 bytes, of which the pong repeats every one."""
    return frame(payload, _FIN_PING)


def pong_frame(payload: bytes) -> bytes:
    """The answer to a ping with this payload."""
    return frame(payload, _FIN_PONG)


def echo_frame(payload: bytes) -> bytes:
    """The answer to a close frame with this payload (RFC 6455 section 5.5.1)."""
    return frame(payload, _FIN_CLOSE)


def close_reason(reason: str) -> str:
    """What of a reason fits into a close frame, cut at a whole character."""
    return reason.encode()[:MAX_CLOSE_REASON_BYTES].decode(errors="ignore")


def close_frame(code: int, reason: str) -> bytes:
    """A close frame with what fits of the reason."""
    return frame(struct.pack("!H", code) + close_reason(reason).encode(), _FIN_CLOSE)


class WebSocketDialect:
    """Made once per agreed compression and shared by all connections that agreed on it.

    Args:
        window_bits: of the agreed deflate window, 9 to 15; None without compression.
        compress_from_bytes: shorter payloads go uncompressed, which RFC 7692 allows per
            message.
    """

    max_channels = 1_000_000
    marks_positions = False
    several = None

    def __init__(self, *, window_bits: int | None = None, compress_from_bytes: int = 0) -> None:
        self.name = "websocket" if window_bits is None else f"websocket+deflate{window_bits}"
        self._window_bits = window_bits
        self._compress_from_bytes = compress_from_bytes

    def encode(self, push: Push, epoch: str) -> bytes:  # noqa: ARG002 - the port's shape
        payload = native_pushes.encode(push)
        if self._window_bits is not None and len(payload) >= self._compress_from_bytes:
            deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -self._window_bits)
            packed = deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)
            if len(packed) < len(payload):
                return frame(packed.removesuffix(DEFLATE_TAIL), _FIN_RSV1_TEXT)
        return frame(payload)

    def encode_positions(self, positions: Sequence[tuple[str, Position]]) -> bytes:  # noqa: ARG002
        return b""
