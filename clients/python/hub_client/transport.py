"""The border between the client and its transports."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol
from urllib.parse import quote, urlsplit

from hub_client.answer import UNTRUSTED, first_check, untrusted
from hub_client.errors import RejectedError, rejection, whole_url
from hub_client.route import OutboundRoute
from hub_client.timing import asked_seconds

# Whatever an answer to a handshake asks for, in seconds: a client waits, but not for ever.
MAX_ASKED_SECONDS = 300.0
# RFC 6455 section 7.4.1: ended without a close frame; a TLS handshake that failed.
ABNORMAL_CLOSE = 1006
UNTRUSTED_CLOSE = 1015

_CLOSE_OF_STATUS: Mapping[int, int] = MappingProxyType(
    {401: 4401, 403: 4403, 413: 4413, 414: 4413, 431: 4413}
)
# RFC 9110 section 15.5.9, RFC 8470 section 5.2, RFC 6585 section 4: try again later.
_TRANSIENT_STATUS = frozenset({408, 425, 429})


class DisconnectedError(Exception):
    """The connection ended; the error stays within the package."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}".strip())
        self.code = code
        self.reason = reason


class CannotConnectError(Exception):
    """No connection could be made; the error stays within the package.

    `blocked` tells that something on the way refuses this transport, so the next one is worth a try
    at once. `rejected` is set where coming back unchanged is pointless. `asked_seconds` is the
    pause that an answer asked for (Retry-After).
    """

    def __init__(
        self,
        message: str,
        *,
        blocked: bool = False,
        rejected: RejectedError | None = None,
        asked_seconds: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.blocked = blocked
        self.rejected = rejected
        self.asked_seconds = asked_seconds


@dataclass(frozen=True, slots=True)
class Target:
    """The address to connect to, and the credentials."""

    base_url: str
    token: str | None
    max_frame_bytes: int
    subscribe: tuple[Mapping[str, object], ...] = ()
    """Fields of the subscribe commands; a transport may put some into its URL."""
    headers: Mapping[str, str] = field(default_factory=dict)
    route: OutboundRoute = field(default_factory=OutboundRoute)

    @property
    def authorization(self) -> dict[str, str]:
        """All headers of the handshake. The token is a header, because URLs end up in logs."""
        given = dict(self.headers)
        if self.token is not None:
            given["Authorization"] = f"Bearer {self.token}"
        return given


class TransportConnection(Protocol):
    """One open connection."""

    transport: str
    starts_in_reply: bool
    """Whether the reply to a subscribe command has its place in the stream (`Session.connected`).
    """
    streams: bool
    """Whether a proxy may hold the stream back without an end. Then an answer to a command proves
    nothing unless it comes by `receive`."""
    in_url: frozenset[str]
    """The channels that the URL subscribed to."""

    def welcomed(self, connection: str, secret: str) -> None: ...

    async def receive(self) -> bytes:
        """Return the next frame, b"" for a sign of life; raise `DisconnectedError` at the end."""
        ...

    async def send(self, command_id: int, command: bytes) -> bytes | None:
        """Send a command; return its reply where that does not come by `receive`."""
        ...

    async def close(self) -> None:
        """End the connection in bounded time, without raising."""
        ...


class Dialer(Protocol):
    """Open connections of one transport."""

    transport: str

    async def dial(self, target: Target) -> TransportConnection:
        """Open a connection or raise `CannotConnectError`. The caller sets the time-out."""
        ...

    async def close(self) -> None: ...


def refused(
    status: int, detail: str, *, retry_after: str = "", retryable: bool = False
) -> CannotConnectError:
    """Return the error for an HTTP status in answer to a handshake.

    The hub marks some refusals as `retryable`, such as that of a token that is not valid yet.
    """
    text = f"HTTP {status}" + (f": {detail}" if detail else "")
    if status >= 500 or status in _TRANSIENT_STATUS or retryable:
        asked = min(asked_seconds(retry_after, unix_now=time.time()), MAX_ASKED_SECONDS)
        return CannotConnectError(text, asked_seconds=asked)
    close_code = _CLOSE_OF_STATUS.get(status, 4400)
    # A 401 can only be the hub's; anything else may be a proxy's opinion of this transport.
    return CannotConnectError(text, blocked=status != 401, rejected=rejection(close_code, text))


def unreachable(error: Exception) -> CannotConnectError:
    """Return the error for a hub that could not be reached, or whose answer has no known sender."""
    text = str(error)
    if (said := untrusted(text)) is not None:
        rejected = RejectedError(said, close_code=UNTRUSTED_CLOSE, code=UNTRUSTED)
        return CannotConnectError(said, rejected=rejected)
    return CannotConnectError(f"{type(error).__name__}: {text}; {first_check(text)}")


def check_base_url(url: str) -> str:
    """Return `url` without a slash at its end; raise `ValueError` unless it is http or https."""
    if not _names_a_server(url):
        given = whole_url(url)
        without = " without a query or fragment" if re.search("[?#]", given) else ""
        raise ValueError(
            f"hub URL is {given!r}, expected something like http://127.0.0.1:8000{without}"
        )
    return url.rstrip("/")


def _names_a_server(url: str) -> bool:
    """Return whether the URL names a server, also where a library would raise its own error
    later."""
    try:
        parts = urlsplit(url)
        named = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as a port that is no number, or half an IPv6 address
        return False
    return named and url.isprintable() and not re.search("[ ?#]", url)


def public_url(url: str) -> str:
    """Return `url` for error texts: without a user's name and password, and without a query.

    A password that was not escaped may hold a character that ends the host of a URL, so all up to
    the last `@` is left out.
    """
    return re.split("[?#]", re.sub("(?<=//).*@", "", url))[0]


def encode_query(pairs: list[tuple[str, str]]) -> str:
    """Return a query of the hub; a `+` in a channel name is escaped for readers of HTML forms."""
    return "&".join(f"{name}={quote(value, safe=':@~,=')}" for name, value in pairs)
