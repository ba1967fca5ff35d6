"""What a request's head says: its fields by name, and what of it is refused.

llhttp has read the head. The rules here are those that it leaves to its caller.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from hub.errors import BadRequestError
from hub.transports.request import Request

# RFC 9110 section 7.2: host [":" port]. Anything else, a list of two included, is no host.
_HOST = re.compile(r"(?:[A-Za-z0-9._~%!$&'()*+;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)")
# Of a field beside its name and value: a colon, a space and the end of the line.
FIELD_BYTES = 4
_KNOWN_NAME_BYTES = 64


def fields_by_name(fields: Sequence[tuple[bytes, bytes]]) -> tuple[dict[str, str], int]:
    """A head's fields by lower-case name, and how many bytes they took."""
    headers: dict[str, str] = {}
    size = FIELD_BYTES * len(fields)
    for name, value in fields:
        size += len(name) + len(value)
        key = _lower(name) if len(name) <= _KNOWN_NAME_BYTES else name.decode("latin-1").lower()
        # RFC 9110 section 5.5: white space around a value is no part of it.
        text = value.strip(b" \t").decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers, size


@lru_cache(maxsize=256)
def _lower(name: bytes) -> str:
    """The same few names come again and again."""
    return str(name, "latin-1").lower()


def refuse_ambiguous(request: Request) -> None:
    """Refuse what llhttp lets pass and other readers of HTTP may read otherwise."""
    headers = request.headers
    if request.version not in {"1.0", "1.1"} or request.method == "CONNECT":
        raise BadRequestError(f"{request.method} of HTTP/{request.version} is not spoken here")
    if (coding := headers.get("transfer-encoding")) is not None and (
        coding.lower() != "chunked" or request.version == "1.0"
    ):
        # RFC 9112 sections 6.1 and 6.3.
        raise BadRequestError("Transfer-Encoding may only be chunked, and only in HTTP/1.1")
    host = headers.get("host")
    if (host is None and request.version == "1.1") or (host and not _HOST.fullmatch(host)):
        # RFC 9112 section 3.2.
        raise BadRequestError("the request needs one Host field that is a host")
    if request.target[:1] != b"/":
        _read_absolute(request)


def _read_absolute(request: Request) -> None:
    """RFC 9112 section 3.2.2: a target in absolute form names the host itself."""
    if request.target == b"*" and request.method == "OPTIONS":
        return
    if (found := _ABSOLUTE.match(request.target)) is None:
        raise BadRequestError("the request target is neither a path nor an http URL")
    host = str(found.group(1), "latin-1")
    if not host or not _HOST.fullmatch(host):
        raise BadRequestError("the request target names no host")
    request.headers["host"] = host
    rest = request.target[found.end() :]
    request.target = rest if rest.startswith(b"/") else b"/" + rest
