"""A request of any carrier, and the readings of its head that several places need.

The hub's own connection and somebody else's ASGI server both make a `Request`. Whether the
credentials in a head hold is decided by `hub.auth.policy`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from hub.auth.credentials import (
    NO_CREDENTIALS,
    NO_CREDENTIALS_OUTSIDE,
    Credentials,
    OutsideCredentials,
)
from hub.core.hooks import Admission
from hub.core.identity import Identity
from hub.errors import BadRequestError, HubError

if TYPE_CHECKING:
    from hub.transports.opening import Judged

Cut = tuple[bytes, int, int, str | None]
"""A head without the values that may differ: its other bytes, joined; the size of the whole; the
value of `Content-Length`; and that of `Idempotency-Key`, None without one."""

_NOBODY = Identity()
_NOTHING: Mapping[str, Any] = {}
_BEARER = "bearer "
# RFC 9110 section 7.2: host [":" port]. Anything else, a list of two included, is no host.
_HOST = re.compile(r"(?:[A-Za-z0-9._~%!$&'()*+;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)")
# Bytes of a field beside its name and value: a colon, a space and the end of the line.
FIELD_BYTES = 4
# Names of at most this length are decoded once for all requests.
_KNOWN_NAME_BYTES = 64


class Head(Protocol):
    """The head of a request, as far as the opening of a session reads it."""

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name; repeated ones joined by commas (RFC 9110 section 5.2)."""
        ...

    @property
    def query(self) -> bytes:
        """The part of the target behind the `?`, still encoded."""
        ...

    @property
    def has_waited(self) -> bool:
        """Whether the request has waited for the identity of its sender
        (`hub.core.ports.UndecidedError`)."""
        ...

    verdict: "Verdict | None"
    """The application's word on the request; None where it was not asked."""

    judged: "Judged | None"
    """The judgement of the same head by its bytes alone; None without one."""


class Verdict(Protocol):
    """The application's word on a request (`hub.transports.admission`)."""

    connection: str
    """The id of the session, where it is admitted."""

    def admission(self) -> Admission:
        """Return the identity that sends the request; raise `HubError` where the application
        refuses it."""
        ...


OnRefused = Callable[[HubError, Head, str], None]
"""Notes a refusal: the error, the head of the request and the client's address."""


class Request:
    """One request; its body is whole when the route's handler is called.

    Every publication over HTTP makes one, so fields that are seldom set are defaults of the class.
    """

    method = ""
    target = b""
    """Path and query as they came, still encoded."""
    version = "1.1"
    """`1.0` or `1.1`."""
    address = ""
    """The client's address without the port: the peer's own, or the one that a trusted proxy names.
    Empty where there is none."""
    scheme: str | None = None
    """`http` or `https`, as a trusted proxy tells; None where none does."""
    body = b""
    identity = _NOBODY
    """The identity that asks; set where the route's `Access` has judged the credentials."""
    params: Mapping[str, str] = _NOTHING
    """The values of the route's `{name}` segments, decoded."""
    given: Mapping[str, Any] = _NOTHING
    """The route's query parameters by name, read and checked."""
    keep_alive = True
    """Whether the peer wants to send another request on its connection."""
    raw_headers: list[tuple[bytes, bytes]] | None = None
    """The header fields as they came, names in lower case, for an ASGI application."""
    cut: Cut | None = None
    """The head as it may come again, where one read brought all of it."""
    has_waited = False
    """The request has waited for the identity of its sender."""
    outside = False
    """See `hub.auth.credentials.Credentials.outside`."""
    verdict: Verdict | None = None
    """The application's word on the request, once it was asked."""
    judged: "Judged | None" = None
    """The judgement of the same head by `hub.transports.connection.door`; None without one."""
    upgrade = False
    """Whether the request asks for another protocol (RFC 9110 section 7.8)."""

    def __init__(self, headers: dict[str, str] | None = None) -> None:
        self.headers: dict[str, str] = {} if headers is None else headers
        """By lower-case name; repeated ones joined by commas (RFC 9110 section 5.2)."""

    @property
    def path(self) -> bytes:
        return self.target.partition(b"?")[0]

    @property
    def query(self) -> bytes:
        return self.target.partition(b"?")[2]

    def add_header(self, name: bytes, value: bytes) -> None:
        """Add one field as it came; a repeated one is joined to those before it."""
        key, text = str(name, "latin-1").lower(), str(value, "latin-1")
        before = self.headers.get(key)
        self.headers[key] = text if before is None else f"{before}, {text}"


def has_body(request: Request) -> bool:
    """Return whether the head announces a body (RFC 9112 section 6)."""
    length = request.headers.get("content-length", "")
    return "transfer-encoding" in request.headers or length.strip("0") != ""


def credentials_of(request: Head, token: str | None = None) -> Credentials:
    """Return the credentials in the request's headers, and `token` where the query may hold one.

    Publishing and operating take headers only: URLs end up in logs.
    """
    get = request.headers.get
    authorization, api_key, cookie = get("authorization"), get("x-api-key"), get("cookie")
    if cookie is not None and token is None and authorization is None and api_key is None:
        page = get("origin"), get("host"), get("sec-fetch-site")
        kind = OutsideCredentials if _is_outside(request) else Credentials
        return kind(None, None, None, cookie, *page)
    if token is None and authorization is None and api_key is None:
        return NO_CREDENTIALS_OUTSIDE if _is_outside(request) else NO_CREDENTIALS
    return Credentials(authorization, api_key, token)


def _is_outside(request: Head) -> bool:
    return isinstance(request, Request) and request.outside


def bearer_of(request: Request) -> str | None:
    """Return the token behind `Bearer` in `Authorization` (RFC 6750 section 2.1), if any."""
    value = request.headers.get("authorization", "")
    return value[len(_BEARER) :].strip() or None if value.lower().startswith(_BEARER) else None


def text_header(request: Request, name: str) -> str | None:
    """Return a header's value as UTF-8; raise `BadRequestError` where it is not."""
    value = request.headers.get(name)
    if value is None or value.isascii():
        return value
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequestError(f"the header {name} is not UTF-8") from None


# -- the head as bytes ----------------------------------------------------------------------------


def fields_by_name(fields: Sequence[tuple[bytes, bytes]]) -> tuple[dict[str, str], int]:
    """Return a head's fields by lower-case name, and the number of bytes that they took."""
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
    """Decode a name; the same few names come again and again."""
    return str(name, "latin-1").lower()


def refuse_ambiguous(request: Request) -> None:
    """Raise `BadRequestError` for a head that llhttp passes and other readers of HTTP may read
    otherwise."""
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
    """Take the host from a target in absolute form (RFC 9112 section 3.2.2)."""
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
