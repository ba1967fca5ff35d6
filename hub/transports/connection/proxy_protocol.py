"""The PROXY protocol: a line or a block in front of a connection that names the client's address.

Written by HAProxy, nginx (stream), AWS and others, in a form to read (version 1) and a binary one
(version 2). The specification is HAProxy's `doc/proxy-protocol.txt`. No I/O: bytes go in, and an
address with the bytes behind it comes out.

    PROXY TCP4 203.0.113.9 10.0.0.7 51234 8000\r\n     the client is 203.0.113.9
    PROXY UNKNOWN\r\n                                  the proxy connects for itself, to probe
"""

import ipaddress
from dataclasses import dataclass

from hub.auth.hosts import one_form
from hub.errors import BadRequestError

_LINE = b"PROXY "
# Section 2.1: the longest line, its end included.
_MAX_LINE_BYTES = 107
# Section 2.2: the signature; then version and command, family, and the length of what follows.
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_BLOCK_HEAD_BYTES = 16
_LOCAL, _PROXY = 0x20, 0x21
_ADDRESS_BYTES = {0x11: 4, 0x21: 16}
# Bytes of addresses and the fields behind them. Proxies send some dozens.
_MAX_BLOCK_BYTES = 2048
MAX_BYTES = _BLOCK_HEAD_BYTES + _MAX_BLOCK_BYTES
"""No header is longer."""


@dataclass(frozen=True, slots=True)
class Header:
    """A whole header."""

    address: str | None
    """The client's; None where the proxy connects for itself, or names no IP address."""
    rest: bytes
    """Bytes behind the header."""


def read(data: bytes) -> Header | None:
    """Read the front of a connection; None where the header is not whole yet.

    Raises `BadRequestError` where it is no such header.
    """
    if data.startswith((_SIGNATURE[: len(data)], _SIGNATURE)):
        return _read_block(data)
    if data.startswith((_LINE[: len(data)], _LINE)):
        return _read_line(data)
    raise BadRequestError("the connection does not begin with a PROXY protocol header")


def _read_line(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, _MAX_LINE_BYTES)
    if end < 0:
        if len(data) >= _MAX_LINE_BYTES:
            raise BadRequestError("the PROXY protocol line is too long")
        return None
    rest = data[end + 2 :]
    match data[:end].decode("latin-1").split(" "):
        case ["PROXY", "UNKNOWN", *_]:
            return Header(None, rest)
        case ["PROXY", "TCP4" | "TCP6" as family, source, destination, *ports]:
            version = 4 if family == "TCP4" else 6
            addresses = [_ip(text, version) for text in (source, destination)]
            if len(ports) == 2 and None not in addresses and all(map(_is_port, ports)):
                return Header(addresses[0], rest)
    raise BadRequestError("the PROXY protocol line cannot be read")


def _ip(text: str, version: int) -> str | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    if found.version != version or "%" in text:  # a zone is the proxy's own, and any text
        return None
    return str(one_form(found))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65_535


def _read_block(data: bytes) -> Header | None:
    if len(data) < _BLOCK_HEAD_BYTES:
        return None
    command, family = data[12], data[13]
    size = int.from_bytes(data[14:16])
    if command not in {_LOCAL, _PROXY}:
        raise BadRequestError("the PROXY protocol block is of an unknown version or command")
    if size > _MAX_BLOCK_BYTES:
        raise BadRequestError(f"the PROXY protocol block is over {_MAX_BLOCK_BYTES:,} bytes")
    ends = _BLOCK_HEAD_BYTES + size
    if len(data) < ends:
        return None
    rest = data[ends:]
    width = _ADDRESS_BYTES.get(family)
    if command == _LOCAL or width is None:
        # Section 2.2: of a family that is not known the connection's own address counts.
        return Header(None, rest)
    if size < 2 * width + 4:
        raise BadRequestError("the PROXY protocol block is too short for its addresses")
    source = data[_BLOCK_HEAD_BYTES : _BLOCK_HEAD_BYTES + width]
    return Header(str(one_form(ipaddress.ip_address(source))), rest)
