"""Every error that the client raises on purpose, as one tree.

`code` is the hub's stable error code, or one of the client's own (its class names it); `retryable`
tells whether the same call may succeed later without a change.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

UNAUTHORIZED_CLOSE: Final = 4401


class HubClientError(Exception):
    """The root of all errors that this package raises on purpose."""

    code = "client"
    retryable = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the error with its attributes: task queues and process pools send errors to
        others."""
        return _restored, (type(self), self.message), self.__dict__


def _restored(kind: type[HubClientError], message: str) -> HubClientError:
    """Make an error without `__init__`, whose arguments differ; pickle restores the attributes."""
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
        """The seconds after which the hub asks to try again; 0 where it names none."""

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class RejectedError(HubClientError):
    """The hub refuses this client unchanged, so the client does not come back.

    `close_code` is the WebSocket close code, or the one that belongs to the HTTP status; it is 1015
    with the code `untrusted_certificate` where the hub's certificate was not trusted.
    """

    def __init__(self, message: str, *, close_code: int, code: str = "rejected") -> None:
        super().__init__(message)
        self.close_code = close_code
        self.code = code

    def __str__(self) -> str:
        return f"{self.code} ({self.close_code}): {self.message}"


class UnauthorizedError(RejectedError):
    """The token is not valid (close code 4401 or HTTP 401)."""


class LoggedOutError(UnauthorizedError):
    """A token function raises this where there will be no token any more, such as after a logout.

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
    """No connection within the command's time-out: the command was not sent and did not happen."""

    code = "not_connected"


class ClosedError(HubClientError):
    """The client is closed, or was not entered with `async with`."""

    code = "closed"


class AlreadySubscribedError(HubClientError):
    """This client has a subscription to the channel; it can have one for each channel."""

    code = "already_subscribed"


class ProtocolError(HubClientError):
    """The hub sent something that the protocol does not allow."""

    code = "protocol"
    retryable = True


class PublishError(HubClientError):
    """A publication failed; its subclass tells whether the publication happened."""

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class PublishRefusedError(PublishError):
    """The hub refused the publication: it did not happen, and will not without a change."""


class NotPublishedError(PublishError):
    """Every attempt failed and none can have reached the broker: the publication did not happen.

    The code is the hub's, or `circuit_open` (the hub has failed for a while, so nothing was tried),
    `overloaded` (too many publications wait in this process), `closed` (the publisher is closed) or
    `untrusted_certificate` (this process does not trust the hub's certificate).
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
    """Return a pair of a query or fragment; a pair without a name is hidden."""
    name, equals, value = pair.partition("=")
    if not equals:
        return HIDDEN if pair else ""
    return f"{name}={HIDDEN}" if value and _SECRET_NAME.search(name) else pair
