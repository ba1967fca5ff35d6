"""WebSocket on the wire: the opening handshake, frames, and the dialects of native pushes.

RFC 6455 sections 4.2 and 5.2, and RFC 7692 for compression. A frame is compressed once and shared
between connections, so compression never uses context from one message to the next. Every
connection must have agreed on `server_no_context_takeover`: a shared frame corrupts a connection
with context takeover silently.

The handshake is a pure function of the headers. It is not the `websockets` library's connection
object, because it is on the way of every connect; the library parses the headers.
"""

import hashlib
import re
import struct
import zlib
from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from functools import lru_cache

from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.headers import build_extension, parse_connection, parse_extension, parse_upgrade

from hub.core.publication import Position
from hub.core.pushes import Push
from hub.errors import BadRequestError, UpgradeRequiredError
from hub.wire import native_pushes

SUBPROTOCOL = "hub"
"""The answered subprotocol, where a client offers it."""
_BEARER = "bearer."
UPGRADE_HEADERS: Mapping[str, str] = {
    # RFC 9110 section 15.5.22: a 426 names the protocol to upgrade to, as an option of the
    # connection too (section 7.8). RFC 6455 section 4.4: and the supported version.
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
}
"""Headers of the answer to `UpgradeRequiredError`."""
# 16 bytes in base64.
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n"
"""The first line of the answer to a handshake that succeeds (RFC 6455 section 4.2.2)."""
_RESPONSE = (
    SWITCHING + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n%b\r\n"
)
"""Formatted with the accept key and the lines of the agreed subprotocol and extension."""
_SUBPROTOCOL_LINE = f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n".encode()
# RFC 6455 section 1.3.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# Empty. Copying it costs two thirds of asking OpenSSL for a new one.
_SHA1 = hashlib.sha1()  # noqa: S324 - the RFC's


def accept_handshake(headers: Mapping[str, str], *, deflate: bool) -> tuple[bytes, int | None]:
    """Accept a handshake; return the head of the 101 response and the agreed deflate window.

    The window is None without compression.

    Args:
        headers: by lower-case name, repeated ones joined by commas.
        deflate: whether compression may be agreed on.

    Raises:
        UpgradeRequiredError: answer with 426 and `UPGRADE_HEADERS`.
        BadRequestError: the key is not 16 bytes in base64.
    """
    _check_upgrade(headers)
    agreed, window_bits = b"", None
    if "sec-websocket-protocol" in headers and SUBPROTOCOL in subprotocols(headers):
        agreed = _SUBPROTOCOL_LINE
    if deflate and (offered := headers.get("sec-websocket-extensions")) is not None:
        extension, window_bits = _negotiate(offered)
        agreed += extension
    return _RESPONSE % (_accept_key(_key(headers)), agreed), window_bits


def subprotocols(headers: Mapping[str, str]) -> list[str]:
    """Return the offered subprotocols in their order (RFC 6455 section 11.3.4)."""
    offered = headers.get("sec-websocket-protocol")
    return [] if offered is None else [name.strip() for name in offered.split(",")]


def offered_token(headers: Mapping[str, str]) -> str | None:
    """Return the token of the subprotocol `bearer.<token>`, which a page offers beside `hub`.

    A page in a browser can set no other header of the handshake.

    Raises:
        BadRequestError: there are two tokens.
    """
    if "sec-websocket-protocol" not in headers:
        return None
    names = subprotocols(headers)
    if SUBPROTOCOL not in names:
        return None
    tokens = [name.removeprefix(_BEARER) for name in names if name.startswith(_BEARER)]
    if len(tokens) > 1:
        raise BadRequestError(f"{len(tokens)} tokens are offered as subprotocols, allowed is one")
    return tokens[0] if tokens else None


def _accept_key(key: str) -> bytes:
    """Return the accept key (RFC 6455 section 4.2.2, item 5.4)."""
    digest = _SHA1.copy()
    digest.update(key.encode() + _GUID)
    return b2a_base64(digest.digest(), newline=False)


def _check_upgrade(headers: Mapping[str, str]) -> None:
    if not _asks_for_websocket(headers.get("connection", ""), headers.get("upgrade", "")):
        raise UpgradeRequiredError("this path speaks WebSocket: connect with ws:// or wss://")
    version = headers.get("sec-websocket-version", "")
    if version != "13":
        raise UpgradeRequiredError(f"Sec-WebSocket-Version is {version[:20]!r}, spoken is 13")


# Clients send only a handful of values.
@lru_cache(maxsize=64)
def _asks_for_websocket(connection: str, upgrade: str) -> bool:
    try:
        options = {option.lower() for option in parse_connection(connection)}
        protocols = {protocol.lower() for protocol in parse_upgrade(upgrade)}
    except InvalidHeader:
        return False
    return "upgrade" in options and "websocket" in protocols


def _key(headers: Mapping[str, str]) -> str:
    key = headers.get("sec-websocket-key", "")
    if _KEY.fullmatch(key) is None:
        raise BadRequestError("Sec-WebSocket-Key is not 16 bytes in base64")
    return key


# Browsers and libraries send only a handful of offers.
@lru_cache(maxsize=64)
def _negotiate(offered: str) -> tuple[bytes, int | None]:
    """Agree on permessage-deflate without context takeover either way, or on nothing.

    Return the header line of the agreed extension, and the deflate window.
    """
    factory = ServerPerMessageDeflateFactory(
        server_no_context_takeover=True, client_no_context_takeover=True
    )
    try:
        offers = parse_extension(offered)
    except InvalidHeader:
        return b"", None
    for name, parameters in offers:
        if name != factory.name:
            continue
        try:
            agreed, extension = factory.process_request_params(parameters, [])
        except NegotiationError:
            continue
        bits = extension.local_max_window_bits
        # zlib cannot make raw deflate with an 8-bit window.
        if bits >= 9:
            line = f"Sec-WebSocket-Extensions: {build_extension([(name, agreed)])}\r\n"
            return line.encode(), bits
    return b"", None


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
# RFC 7692 sections 7.2.1 and 7.2.2: the end of a flushed deflate block, left off on the wire.
DEFLATE_TAIL = b"\x00\x00\xff\xff"
# zlib's default; per message the memory lives only while it is being compressed.
_LEVEL = 6


def frame(payload: bytes, first_byte: int = _FIN_TEXT) -> bytes:
    """Return one unmasked, final frame."""
    length = len(payload)
    if length < 126:
        return bytes((first_byte, length)) + payload
    if length < 65536:
        return _PACK_16(first_byte, 126, length) + payload
    return _PACK_64(first_byte, 127, length) + payload


def ping_frame(payload: bytes) -> bytes:
    """Return a ping with at most 125 bytes, which the pong repeats."""
    return frame(payload, _FIN_PING)


def pong_frame(payload: bytes) -> bytes:
    """Return the answer to a ping with this payload."""
    return frame(payload, _FIN_PONG)


def echo_frame(payload: bytes) -> bytes:
    """Return the answer to a close frame with this payload (RFC 6455 section 5.5.1)."""
    return frame(payload, _FIN_CLOSE)


def close_reason(reason: str) -> str:
    """Return the part of a reason that fits into a close frame, cut at a whole character."""
    return reason.encode()[:MAX_CLOSE_REASON_BYTES].decode(errors="ignore")


def close_frame(code: int, reason: str) -> bytes:
    """Return a close frame with the part of the reason that fits."""
    return frame(struct.pack("!H", code) + close_reason(reason).encode(), _FIN_CLOSE)


def is_close_frame(data: bytes) -> bool:
    """Return whether `data` is one whole close frame of a client, and nothing else."""
    return len(data) >= 6 and data[0] == _FIN_CLOSE and data[1] == (0x80 | len(data) - 6)


class WebSocketDialect:
    """Native pushes in text frames; one dialect for all connections with the same compression.

    Args:
        window_bits: size of the agreed deflate window, 9 to 15; None without compression.
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


class TextDialect:
    """Native pushes as lines, for other ASGI servers, which frame messages themselves.

    JSON objects hold no line break, so frames can be joined, and split again at each LF.
    """

    name = "text"
    max_channels = 1_000_000
    marks_positions = False
    several = None

    def encode(self, push: Push, epoch: str) -> bytes:  # noqa: ARG002 - the port's shape
        return native_pushes.encode(push) + b"\n"

    def encode_positions(self, positions: Sequence[tuple[str, Position]]) -> bytes:  # noqa: ARG002
        return b""
