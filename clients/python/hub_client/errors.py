"""Every error the client raises on purpose, as one tree.

`code` is the hub's stable error code, or one of the client's own (named in its class);
`retryable` says whether the same thing may succeed later without being changed.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

UNAUTHORIZED_CLOSE: Final = 4401


class HubClientError(Exception):
    """The root: catching it catches whatever this package raises on purpose."""

    code = "client"
    retryable = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __reduce__(self) -> tuple[object, ...]:
        """Pickled as it is: task queues and process pools send errors to other processes."""
        return _restored, (type(self), self.message), self.__dict__


def _restored(kind: type[HubClientError], message: str) -> HubClientError:
    """Without `__init__`, whose arguments differ; the attributes follow by pickle."""
    error = kind.__new__(kind)
    error.args = (message,)
    return error


class CommandError(HubClientError):
    """The hub answered a command with an error."""

    def __init__(
        self, code: str, message: str, *, retryable: bool = False, retry_after_seconds: float = 0.0
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds
        """When the hub asked to try again; 0 where it did not say."""

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class RejectedError(HubClientError):
    """The hub will not serve this client unchanged, so the client does not come back.

    `close_code` is the WebSocket close code, or the one that belongs to the HTTP status; 1015 with
    the code `untrusted_certificate` where the hub's certificate was not trusted.
    """

    def __init__(self, message: str, *, close_code: int, code: str = "rejected") -> None:
        super().__init__(message)
        self.close_code = close_code
        self.code = code

    def __str__(self) -> str:
        return f"{self.code} ({self.close_code}): {self.message}"


class UnauthorizedError(RejectedError):
    """The token does not hold (close code 4401 or HTTP 401)."""


class LoggedOutError(UnauthorizedError):
    """There will be no token any more: an application's token function raises this to stop.

    The client then ends as if the hub had refused it for good. `HubClient.connect` begins again.
    """

    def __init__(self, message: str = "logged out") -> None:
        super().__init__(message, close_code=UNAUTHORIZED_CLOSE, code="logged_out")


class ConnectionLostError(HubClientError):
    """The connection ended before the command's reply came: its outcome is unknown."""

    code = "connection_lost"
    retryable = True


class CommandTimeoutError(HubClientError, TimeoutError):
    """No reply within the command's time-out: its outcome is unknown."""

    code = "timeout"
    retryable = True


class NotConnectedError(CommandTimeoutError):
    """No connection within the command's time-out: it was not sent and did not happen."""

    code = "not_connected"


class ClosedError(HubClientError):
    """The client is closed, or was not entered with `async with`."""

    code = "closed"


class AlreadySubscribedError(HubClientError):
    """This client holds a subscription to the channel already (one connection, one each)."""

    code = "already_subscribed"


class ProtocolError(HubClientError):
    """What arrived is not what the wire contract promises."""

    code = "protocol"
    retryable = True


class PublishError(HubClientError):
    """A publication has failed; which of its three kinds says whether it happened."""

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class PublishRefusedError(PublishError):
    """The hub refused it: it did not happen, and will not without a change."""


class NotPublishedError(PublishError):
    """Every attempt failed and none can have reached the broker: it did not happen.

    Besides the hub's codes `circuit_open` (the hub has failed for a while, nothing was tried),
    `overloaded` (too much waits in this process), `closed` (the publisher is closed) and
    `untrusted_certificate` (the hub shows one that this process does not trust).
    """


class OutcomeUnknownError(PublishError):
    """Every attempt failed and at least one may have reached the broker.

    Publishing again with the same `idempotency_key` within 5 minutes is harmless.
    """

    def __init__(
        self, code: str, message: str, *, idempotency_key: str, retryable: bool = True
    ) -> None:
        super().__init__(code, message, retryable=retryable)
        self.idempotency_key = idempotency_key


# Close codes that tell this client it did something wrong, besides 44xx: RFC 6455 section
# 7.4.1 (protocol error, wrong data, policy, message too big, extension). Coming back with
# the same behaviour would only repeat them.
_OUR_FAULT = frozenset({1002, 1003, 1007, 1008, 1009, 1010})
_CODE_OF_CLOSE: Mapping[int, str] = MappingProxyType(
    {
        4400: "bad_request",
        4401: "unauthorized",
        4403: "forbidden",
        4413: "too_large",
        4429: "rate_limited",
    }
)


def forbids_reconnect(close_code: int) -> bool:
    """Whether a client closed with `close_code` must not come back unchanged."""
    return 4400 <= close_code <= 4499 or close_code in _OUR_FAULT


def rejection(close_code: int, reason: str) -> RejectedError:
    """The typed error for a close code that `forbids_reconnect`."""
    kind = UnauthorizedError if close_code == UNAUTHORIZED_CLOSE else RejectedError
    code = _CODE_OF_CLOSE.get(close_code, "rejected")
    return kind(reason or "the hub closed the connection", close_code=close_code, code=code)


HIDDEN = "********"
_SECRET_NAME = re.compile(
    r"pass|pwd|secret|token|credential|auth|signature|key$|^(sig|jwt|pin|code)$", re.IGNORECASE
)


def whole_url(url: str) -> str:
    """`url` without a user's name and password, and with `HIDDEN` in place of other secrets.

    A password that was not escaped may hold what ends the host of a URL, so all up to the last
    `@` is left out, whatever stands before it.
    """
    base, *rest = re.split("([?#&])", re.sub("(?<=//).*@", "", url))
    marks, pairs = rest[::2], rest[1::2]
    return base + "".join(mark + _shown(pair) for mark, pair in zip(marks, pairs, strict=True))


def _shown(pair: str) -> str:
    """Of a query or fragment; what has no name may be anything."""
    name, equals, value = pair.partition("=")
    if not equals:
        return HIDDEN if pair else ""
    return f"{name}={HIDDEN}" if value and _SECRET_NAME.search(name) else pair
