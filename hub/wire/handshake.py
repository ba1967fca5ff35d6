"""The WebSocket opening handshake, RFC 6455 section 4.2, as a pure function of the headers.

Done here rather than in the library's connection object because it is on the way of every
connect; the parsing of the headers is the library's.
"""

import base64
from collections.abc import Mapping
from functools import lru_cache

from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.headers import build_extension, parse_connection, parse_extension, parse_upgrade
from websockets.utils import accept_key

from hub.errors import BadRequestError, UpgradeRequiredError


def accept(headers: Mapping[str, str], *, deflate: bool) -> tuple[bytes, int | None]:
    """Answer a handshake.

    Args:
        headers: by lower-case name, repeated ones joined by commas.
        deflate: whether compression may be agreed on.

    Returns the 101 response's head and the agreed deflate window, None without compression.

    Raises:
        UpgradeRequiredError: answer with 426 and `Sec-WebSocket-Version: 13`.
        BadRequestError: the key is not 16 bytes in base64.
    """
    _check_upgrade(headers)
    response = (
        "HTTP/1.1 101 Switching Protocols\r\n"
        "Upgrade: websocket\r\n"
        "Connection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(_key(headers))}\r\n"
    )
    window_bits: int | None = None
    if deflate and (offered := headers.get("sec-websocket-extensions")) is not None:
        agreed, window_bits = _negotiate(offered)
        if agreed:
            response += f"Sec-WebSocket-Extensions: {agreed}\r\n"
    return f"{response}\r\n".encode(), window_bits


def _check_upgrade(headers: Mapping[str, str]) -> None:
    try:
        connection = {option.lower() for option in parse_connection(headers.get("connection", ""))}
        upgrade = {option.lower() for option in parse_upgrade(headers.get("upgrade", ""))}
    except InvalidHeader:
        connection, upgrade = set(), set()
    if "upgrade" not in connection or "websocket" not in upgrade:
        raise UpgradeRequiredError("this path speaks WebSocket: connect with ws:// or wss://")
    version = headers.get("sec-websocket-version", "")
    if version != "13":
        raise UpgradeRequiredError(f"Sec-WebSocket-Version is {version[:20]!r}, spoken is 13")


def _key(headers: Mapping[str, str]) -> str:
    key = headers.get("sec-websocket-key", "")
    try:
        raw = base64.b64decode(key, validate=True)
    except ValueError:  # not base64, or not even ASCII
        raw = b""
    if len(raw) != 16:
        raise BadRequestError("Sec-WebSocket-Key is not 16 bytes in base64")
    return key


# Browsers and libraries each send one of a handful of offers.
@lru_cache(maxsize=64)
def _negotiate(offered: str) -> tuple[str, int | None]:
    """Agree on permessage-deflate without context takeover either way, or on nothing."""
    factory = ServerPerMessageDeflateFactory(
        server_no_context_takeover=True, client_no_context_takeover=True
    )
    try:
        offers = parse_extension(offered)
    except InvalidHeader:
        return "", None
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
            return build_extension([(name, agreed)]), bits
    return "", None
