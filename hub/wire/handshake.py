"""The WebSocket opening handshake, RFC 6455 section 4.2, as a pure function of the headers.

Done here rather than in the library's connection object because it is on the way of every
connect; the parsing of the headers is the library's.
"""

import hashlib
import re
from binascii import b2a_base64
from collections.abc import Mapping
from functools import lru_cache

from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.headers import build_extension, parse_connection, parse_extension, parse_upgrade

from hub.errors import BadRequestError, UpgradeRequiredError

SUBPROTOCOL = "hub"
"""What is answered where it is among those that are offered."""
_BEARER = "bearer."
UPGRADE_HEADERS: Mapping[str, str] = {
    # RFC 9110 section 15.5.22: a 426 names what to upgrade to, as an option of the connection too
    # (section 7.8). RFC 6455 section 4.4: and the version that is spoken.
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
}
"""Of the answer to `UpgradeRequiredError`."""
# 16 bytes in base64.
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
_RESPONSE = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n"
    b"%b\r\n"
)
"""Of the accepted key, and the lines of what was agreed on."""
_SUBPROTOCOL_LINE = f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n".encode()
# RFC 6455 section 1.3.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# Of nothing yet. To copy it costs two thirds of asking OpenSSL for one.
_SHA1 = hashlib.sha1()  # noqa: S324 - the RFC's


def accept(headers: Mapping[str, str], *, deflate: bool) -> tuple[bytes, int | None]:
    """Answer a handshake.

    Args:
        headers: by lower-case name, repeated ones joined by commas.
        deflate: whether compression may be agreed on.

    Returns the 101 response's head and the agreed deflate window, None without compression.

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
    """Those that are offered, in their order (RFC 6455 section 11.3.4)."""
    offered = headers.get("sec-websocket-protocol")
    return [] if offered is None else [name.strip() for name in offered.split(",")]


def offered_token(headers: Mapping[str, str]) -> str | None:
    """The token in `bearer.<token>` beside `hub`: a browser's page can set no header but this.

    Raises:
        BadRequestError: there are two.
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
    """RFC 6455 section 4.2.2, item 5.4."""
    digest = _SHA1.copy()
    digest.update(key.encode() + _GUID)
    return b2a_base64(digest.digest(), newline=False)


def _check_upgrade(headers: Mapping[str, str]) -> None:
    if not _asks_for_websocket(headers.get("connection", ""), headers.get("upgrade", "")):
        raise UpgradeRequiredError("this path speaks WebSocket: connect with ws:// or wss://")
    version = headers.get("sec-websocket-version", "")
    if version != "13":
        raise UpgradeRequiredError(f"Sec-WebSocket-Version is {version[:20]!r}, spoken is 13")


# Clients each send one of a handful of values.
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


# Browsers and libraries each send one of a handful of offers.
@lru_cache(maxsize=64)
def _negotiate(offered: str) -> tuple[bytes, int | None]:
    """Agree on permessage-deflate without context takeover either way, or on nothing.

    Returns the line that says so, and the window.
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
