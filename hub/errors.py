"""Every error that the hub raises on purpose, as one tree.

Each class has a stable `code` (which clients, logs and metrics match) and says whether the same
request may succeed later (`retryable`). `hub.wire.codes` maps codes to HTTP statuses and WebSocket
close codes.
"""

import copy
import math
from typing import Self

# An answer asks nobody to wait longer: what is known now may not hold by then. Guess.
MAX_RETRY_AFTER_SECONDS = 300


# What a peer sent may stand in a message, and the message in an answer: of the same size, whatever
# it was. Longer than any that the hub writes of its own.
_LONGEST_MESSAGE = 1000


class HubError(Exception):
    """An error that the peer, the operator or the broker has to be told about.

    `command_id` is the `id` of the command that failed, once it could be read.
    """

    code = "internal"
    retryable = False
    retry_after_seconds: int | None = None
    refusal = ""
    """The kind of refusal, as the metric `hub_refusals` counts it; empty where kinds are not told
    apart. The message tells it to peers."""

    def __init__(self, message: str, *, command_id: str | int | None = None) -> None:
        if len(message) > _LONGEST_MESSAGE:
            message = f"{message[:_LONGEST_MESSAGE]}... ({len(message):,} characters)"
        super().__init__(message)
        self.message = message
        self.command_id = command_id

    def brief(self, longest_bytes: int) -> Self:
        """Return this error with at most so many bytes of its message, as UTF-8."""
        text = self.message.encode("utf-8", "replace")
        if len(text) <= longest_bytes:
            return self
        shorter = copy.copy(self)
        shorter.message = text[: longest_bytes - 3].decode("utf-8", "ignore") + "..."
        return shorter


class BadRequestError(HubError):
    """The request cannot be understood or names something that is not allowed."""

    code = "bad_request"


class UnauthorizedError(HubError):
    """No credentials, or credentials that are not valid (any more).

    `holds_in_seconds` is for tokens that are not valid yet: the same token will be valid then, so
    this one error may be retried where others of its code may not.
    """

    code = "unauthorized"

    def __init__(
        self, message: str, *, holds_in_seconds: float | None = None, refusal: str = ""
    ) -> None:
        super().__init__(message)
        self.refusal = refusal
        if holds_in_seconds is not None:
            self.retryable = True
            wait = min(max(1.0, holds_in_seconds), MAX_RETRY_AFTER_SECONDS)
            self.retry_after_seconds = math.ceil(wait)


class ForbiddenError(HubError):
    """Valid credentials that do not grant this."""

    code = "forbidden"

    def __init__(self, message: str, *, refusal: str = "") -> None:
        super().__init__(message)
        self.refusal = refusal


class NotFoundError(HubError):
    """There is nothing with that name."""

    code = "not_found"


class MethodNotAllowedError(HubError):
    """The path exists, the method does not."""

    code = "method_not_allowed"


class TooLargeError(HubError):
    """A body, payload, URL or batch is over its limit."""

    code = "too_large"


class TooManySubscriptionsError(HubError):
    """The session has as many subscriptions as it may."""

    code = "too_many_subscriptions"


class RateLimitedError(HubError):
    """A peer is over a limit: at once, within a time, or by its number of connections."""

    code = "rate_limited"
    retryable = True

    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ConflictError(HubError):
    """An idempotency key was used before with other data; or the subscription exists already."""

    code = "conflict"


class NotPublishedError(HubError):
    """The broker did not take the publication; publishing again is safe."""

    code = "not_published"
    retryable = True
    retry_after_seconds = 1


class OutcomeUnknownError(HubError):
    """The broker may or may not have taken the publication: retry with the same key."""

    code = "outcome_unknown"
    retryable = True
    retry_after_seconds = 1


class UnavailableError(HubError):
    """The node or its broker cannot serve this now (draining, full, broker away)."""

    code = "unavailable"
    retryable = True
    retry_after_seconds = 1


class SlowError(HubError):
    """The session reads too slowly and its limits say disconnect."""

    code = "slow"
    retryable = True


class HeartbeatTimeoutError(HubError):
    """No pong came in time."""

    code = "heartbeat_timeout"
    retryable = True


class UpgradeRequiredError(HubError):
    """The request is no WebSocket handshake, or one of a version that the hub does not speak."""

    code = "upgrade_required"


class HeadersTooLargeError(HubError):
    """A request's line and headers are over their limit."""

    code = "headers_too_large"


class MisdirectedRequestError(HubError):
    """The request names a host that this hub does not answer for."""

    code = "misdirected_request"


class UnsupportedMediaTypeError(HubError):
    """The body has a coding that this path does not read."""

    code = "unsupported_media_type"


class ExpectationFailedError(HubError):
    """The request expects something that the hub does not do."""

    code = "expectation_failed"


class RequestTimeoutError(HubError):
    """A request was not whole in time."""

    code = "request_timeout"
    retryable = True


class SettingsError(HubError):
    """A setting has a value that is not allowed; the start ends with this message."""

    code = "settings"


_BY_CODE = {
    each.code: each
    for each in tuple(vars().values())
    if isinstance(each, type) and issubclass(each, HubError)
}


def of_code(code: str, message: str) -> HubError:
    """Return the error that another process reported by its code; an unknown code is an
    `UnavailableError`."""
    return _BY_CODE.get(code, UnavailableError)(message)
