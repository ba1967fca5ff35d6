"""A request, whatever carried it: the hub's own connection or somebody else's ASGI server."""

from collections.abc import Mapping
from typing import Any, Protocol

from hub.core.hooks import Admission
from hub.core.identity import Identity

Cut = tuple[bytes, int, int, str | None]
"""A head without the values that may differ: its other bytes, joined; the size of the whole; what
`Content-Length` says; and what `Idempotency-Key` says, None without one."""

_NOBODY = Identity()
_NOTHING: Mapping[str, Any] = {}


class Head(Protocol):
    """What is asked of the head of a request."""

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name; repeated ones joined by commas (RFC 9110 section 5.2)."""
        ...

    @property
    def query(self) -> bytes:
        """What follows the `?`, still encoded."""
        ...

    @property
    def has_waited(self) -> bool:
        """Whether it was asked elsewhere already who sends it (`hub.core.ports.UndecidedError`)."""
        ...

    verdict: "Verdict | None"
    """What the application says of it; None where it was not asked."""


class Verdict(Protocol):
    """What the application was asked about a request (`hub.transports.verdict`)."""

    connection: str
    """The id that the session has if it may be."""

    def admission(self) -> Admission:
        """The identity that sends the request; raise `HubError` where the application refuses
        it."""
        ...


class Request:
    """What a peer asks for. The body is there once the route's handler is called.

    Every publication over HTTP makes one, so what is seldom set stands as a default of the class.
    """

    method = ""
    target = b""
    """Path and query as they came, still encoded."""
    version = "1.1"
    """`1.0` or `1.1`."""
    address = ""
    """Of who asks, without the port: the peer's, or what a trusted proxy tells. Empty where there
    is none."""
    scheme: str | None = None
    """`http` or `https`, as a trusted proxy tells; None where none does."""
    body = b""
    identity = _NOBODY
    """The identity that asks; set where the route's `Access` has judged the credentials."""
    params: Mapping[str, str] = _NOTHING
    """What stands in the places of the route's path, decoded."""
    given: Mapping[str, Any] = _NOTHING
    """The route's query parameters by name, read and checked."""
    keep_alive = True
    """Whether the peer wants to send another request on its connection."""
    raw_headers: list[tuple[bytes, bytes]] | None = None
    """As they came, in lower case, for an application that wants them so."""
    cut: Cut | None = None
    """The head as it may come again, where one read brought all of it."""
    has_waited = False
    """The request has waited for the answer who sends it."""
    verdict: Verdict | None = None
    """What the application says of it, once it was asked."""
    upgrade = False
    """Whether it asks for another protocol (RFC 9110 section 7.8)."""

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
        """Take one field as it came; one that repeats is joined to those before it."""
        key, text = str(name, "latin-1").lower(), str(value, "latin-1")
        before = self.headers.get(key)
        self.headers[key] = text if before is None else f"{before}, {text}"


def has_body(request: Request) -> bool:
    """Whether the head announces a body (RFC 9112 section 6)."""
    length = request.headers.get("content-length", "")
    return "transfer-encoding" in request.headers or length.strip("0") != ""
