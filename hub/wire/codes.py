"""The table of wire numbers: the HTTP status and the close code of each error code.

An error of `hub.errors` has a code and tells whether a retry may help. Only this module maps it to
numbers. The range of a close code has a meaning (clients/PROTOCOL.md). After 44xx, which is the
client's fault, a client must not come back unchanged. After 45xx and the standard codes 1001, 1006,
1011, 1012 and 1013 it comes back with back-off and resumes. A new close code also needs a
meaning in `hub.core.labels.CLOSE_CODE`.
"""

from collections.abc import Mapping
from enum import IntEnum
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from hub.errors import HeadersTooLargeError, RequestTimeoutError, UpgradeRequiredError

# Refusals before a request is complete.
HEADERS_TOO_LARGE: Final = HeadersTooLargeError.code
REQUEST_TIMEOUT: Final = RequestTimeoutError.code
UPGRADE_REQUIRED: Final = UpgradeRequiredError.code


class CloseCode(IntEnum):
    """WebSocket close codes: RFC 6455 section 7.4.1, the IANA registry, and the hub's own."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS = 1005
    """Never sent: stands for a close frame without a code."""
    ABNORMAL = 1006
    """Never sent: stands for an end without a close frame."""
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014

    BAD_REQUEST = 4400
    UNAUTHORIZED = 4401
    FORBIDDEN = 4403
    TOO_LARGE = 4413
    RATE_LIMITED = 4429
    INTERNAL = 4500
    HEARTBEAT_TIMEOUT = 4504
    SLOW = 4508


HTTP_STATUS: Mapping[str, HTTPStatus] = MappingProxyType(
    {
        "bad_request": HTTPStatus.BAD_REQUEST,
        "unauthorized": HTTPStatus.UNAUTHORIZED,
        "forbidden": HTTPStatus.FORBIDDEN,
        "not_found": HTTPStatus.NOT_FOUND,
        "method_not_allowed": HTTPStatus.METHOD_NOT_ALLOWED,
        REQUEST_TIMEOUT: HTTPStatus.REQUEST_TIMEOUT,
        "conflict": HTTPStatus.CONFLICT,
        "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        # Not 403, because credentials would not help: the request names too many channels.
        "too_many_subscriptions": HTTPStatus.BAD_REQUEST,
        "unsupported_media_type": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "misdirected_request": HTTPStatus.MISDIRECTED_REQUEST,
        "expectation_failed": HTTPStatus.EXPECTATION_FAILED,
        UPGRADE_REQUIRED: HTTPStatus.UPGRADE_REQUIRED,
        "rate_limited": HTTPStatus.TOO_MANY_REQUESTS,
        HEADERS_TOO_LARGE: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "internal": HTTPStatus.INTERNAL_SERVER_ERROR,
        "settings": HTTPStatus.INTERNAL_SERVER_ERROR,
        "not_published": HTTPStatus.SERVICE_UNAVAILABLE,
        "outcome_unknown": HTTPStatus.SERVICE_UNAVAILABLE,
        "unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
        # These two end sessions; an answer to a poll may have them.
        "slow": HTTPStatus.SERVICE_UNAVAILABLE,
        "heartbeat_timeout": HTTPStatus.SERVICE_UNAVAILABLE,
    }
)

CLOSE_CODE: Mapping[str, CloseCode] = MappingProxyType(
    {
        "bad_request": CloseCode.BAD_REQUEST,
        "not_found": CloseCode.BAD_REQUEST,
        "method_not_allowed": CloseCode.BAD_REQUEST,
        "conflict": CloseCode.BAD_REQUEST,
        "too_many_subscriptions": CloseCode.BAD_REQUEST,
        "unsupported_media_type": CloseCode.BAD_REQUEST,
        "misdirected_request": CloseCode.BAD_REQUEST,
        "expectation_failed": CloseCode.BAD_REQUEST,
        UPGRADE_REQUIRED: CloseCode.BAD_REQUEST,
        "unauthorized": CloseCode.UNAUTHORIZED,
        "forbidden": CloseCode.FORBIDDEN,
        "too_large": CloseCode.TOO_LARGE,
        HEADERS_TOO_LARGE: CloseCode.TOO_LARGE,
        "rate_limited": CloseCode.RATE_LIMITED,
        "internal": CloseCode.INTERNAL,
        "settings": CloseCode.INTERNAL,
        "heartbeat_timeout": CloseCode.HEARTBEAT_TIMEOUT,
        REQUEST_TIMEOUT: CloseCode.HEARTBEAT_TIMEOUT,
        "slow": CloseCode.SLOW,
        # Neither the peer nor the hub is at fault: the broker or the node needs a moment.
        "not_published": CloseCode.TRY_AGAIN_LATER,
        "outcome_unknown": CloseCode.TRY_AGAIN_LATER,
        "unavailable": CloseCode.TRY_AGAIN_LATER,
    }
)


# For errors that may be retried although others of their code may not: 44xx would end the client.
_RETRYABLE_CLOSE_CODE: Mapping[str, CloseCode] = MappingProxyType(
    {"unauthorized": CloseCode.TRY_AGAIN_LATER}
)


def http_status(code: str) -> HTTPStatus:
    """Return the HTTP status of an error code; 500 for one that is not in the table."""
    return HTTP_STATUS.get(code, HTTPStatus.INTERNAL_SERVER_ERROR)


def status_phrase(status: HTTPStatus) -> str:
    """Return the phrase of a status in RFC 9110. Python before 3.13 has an older one for 413."""
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return "Content Too Large"
    return status.phrase


def close_code(code: str, retryable: bool = False) -> CloseCode:
    """Return the WebSocket close code of an error code; 4500 for one that is not in the table."""
    if retryable and code in _RETRYABLE_CLOSE_CODE:
        return _RETRYABLE_CLOSE_CODE[code]
    return CLOSE_CODE.get(code, CloseCode.INTERNAL)
