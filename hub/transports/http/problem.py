"""Errors as `application/problem+json` (RFC 9457).

`code` is what clients match on. `type` is `about:blank`, which by section 4.2.1 makes the
title the status phrase: the code already says what a type URI would.
"""

from collections.abc import Mapping
from functools import lru_cache

import orjson

from hub.auth.policy import BEARER_CHALLENGE
from hub.errors import HubError, UnsupportedMediaTypeError
from hub.transports.http.answer import Answer
from hub.wire.codes import REQUEST_TIMEOUT, UPGRADE_REQUIRED, http_status, status_phrase
from hub.wire.websocket import UPGRADE_HEADERS

MEDIA_TYPE = "application/problem+json"
# Where a retryable error does not say when: soon, because back-off is the client's work.
_DEFAULT_RETRY_AFTER_SECONDS = 1


def problem_fields(error: HubError) -> dict[str, object]:
    """The problem document of `error`, as it also stands in the answer to a batch."""
    return _fields(error.code, error.message, error.retryable)


def _fields(code: str, message: str, retryable: bool) -> dict[str, object]:
    status = http_status(code)
    return {
        "type": "about:blank",
        "title": status_phrase(status),
        "status": status.value,
        "detail": message,
        "code": code,
        "retryable": retryable,
    }


# Whoever is refused by the thousand is told the same each time. Messages have 1,000 characters at
# most, so these are half a megabyte at most.
@lru_cache(maxsize=128)
def _body(code: str, message: str, retryable: bool) -> bytes:
    return orjson.dumps(_fields(code, message, retryable))


def problem_headers(error: HubError) -> dict[str, str]:
    """The header fields that belong to `error`, whatever the body is."""
    headers: dict[str, str] = {}
    if error.retryable:
        headers["Retry-After"] = str(error.retry_after_seconds or _DEFAULT_RETRY_AFTER_SECONDS)
    if error.code == "unauthorized":
        # RFC 9110 section 15.5.2: a 401 names how to authenticate.
        headers["WWW-Authenticate"] = BEARER_CHALLENGE
    if error.code == REQUEST_TIMEOUT:
        # RFC 9110 section 15.5.9: the rest of the request is not wanted any more.
        headers["Connection"] = "close"
    if error.code == UnsupportedMediaTypeError.code:
        # RFC 9110 section 15.5.16: what would have been read.
        headers["Accept-Encoding"] = "gzip, identity"
    if error.code == UPGRADE_REQUIRED:
        headers |= UPGRADE_HEADERS
    return headers


def problem(error: HubError, *, headers: Mapping[str, str] | None = None) -> Answer:
    """The answer that tells a peer of `error`; `headers` come on top of the usual ones."""
    return Answer(
        _body(error.code, error.message, error.retryable),
        status=http_status(error.code),
        content_type=MEDIA_TYPE,
        headers=problem_headers(error) | dict(headers or {}),
    )
