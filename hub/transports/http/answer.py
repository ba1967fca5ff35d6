"""Answers as plain values, errors among them.

A handler returns an `Answer`. The carrier of the request writes it: `encode` for the hub's own
connection, `hub.transports.asgi` for somebody else's server.

An error is answered as `application/problem+json` (RFC 9457). Clients match on `code`. `type` is
`about:blank`, which by section 4.2.1 makes the title the status phrase: the code already says what
a type URI would.
"""

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

import orjson

from hub.auth.policy import BEARER_CHALLENGE
from hub.errors import HubError, UnsupportedMediaTypeError
from hub.wire.codes import REQUEST_TIMEOUT, UPGRADE_REQUIRED, http_status, status_phrase
from hub.wire.websocket import UPGRADE_HEADERS

JSON = "application/json"
_NO_HEADERS: Mapping[str, str] = {}
# RFC 9110 sections 6.4.1 and 15.3.5: these answers have no content and say no length.
_BODILESS = frozenset({204, 304})
PROBLEM_JSON = "application/problem+json"
# For a retryable error without a time: short, because back-off is the client's work.
_DEFAULT_RETRY_AFTER_SECONDS = 1


class Answer:
    """An answer with its whole body.

    A plain class with slots: every publication over HTTP makes one.
    """

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(
        self,
        body: bytes = b"",
        *,
        status: int = 200,
        content_type: str = JSON,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> None:
        self.body = body
        self.status = status
        self.content_type = content_type
        """Sent where there is a body."""
        self.headers = headers
        """All other fields; `Cache-Control: no-store` is added unless one of them is another."""

    def add_headers(self, headers: Mapping[str, str]) -> None:
        """Add `headers`, which win over the fields that it has."""
        self.headers = {**self.headers, **headers}


def json_answer(
    content: object, *, status: int = 200, headers: Mapping[str, str] = _NO_HEADERS
) -> Answer:
    """Return `content` as JSON: live state, so no cache may keep it."""
    return Answer(orjson.dumps(content), status=status, headers=headers)


def cross_origin(origin: str | None) -> dict[str, str]:
    """Return the header fields that let a page of `origin` read an answer.

    The origin was checked, or the answer says that it is refused: a page whose developer cannot
    read that tries for ever and shows nothing.
    """
    if origin is None:
        return {}
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": "Retry-After",
        "Vary": "Origin",
    }


# -- errors (RFC 9457) ----------------------------------------------------------------------------


def problem_fields(error: HubError) -> dict[str, object]:
    """Return the problem document of `error`, as it also stands in the answer to a batch."""
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


# Thousands of peers that are refused at once get the same document. Messages have 1,000 characters
# at most, so these are half a megabyte at most.
@lru_cache(maxsize=128)
def _body(code: str, message: str, retryable: bool) -> bytes:
    return orjson.dumps(_fields(code, message, retryable))


def problem_headers(error: HubError) -> dict[str, str]:
    """Return the header fields that belong to `error`, whatever the body is."""
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
        # RFC 9110 section 15.5.16: the codings that the hub reads.
        headers["Accept-Encoding"] = "gzip, identity"
    if error.code == UPGRADE_REQUIRED:
        headers |= UPGRADE_HEADERS
    return headers


def problem(error: HubError, *, headers: Mapping[str, str] | None = None) -> Answer:
    """Return the answer that tells a peer of `error`; `headers` win over the usual fields."""
    return Answer(
        _body(error.code, error.message, error.retryable),
        status=http_status(error.code),
        content_type=PROBLEM_JSON,
        headers=problem_headers(error) | dict(headers or {}),
    )


# -- as bytes of HTTP/1.1 --------------------------------------------------------------------------


def encode_json(body: bytes) -> bytes:
    """Encode a plain answer with this JSON, as `encode` does where the connection goes on."""
    return b"%b%d\r\n\r\n%b" % (_plain_head(200, JSON, int(time.time())), len(body), body)


def encode(answer: Answer, *, close: bool, head_only: bool = False) -> bytes:
    """Encode an answer as HTTP/1.1; `head_only` leaves the body out, for HEAD."""
    status, headers, body = answer.status, answer.headers, answer.body
    if not (headers or close or head_only) and body:
        start = _plain_head(status, answer.content_type, int(time.time()))
        return b"%b%d\r\n\r\n%b" % (start, len(body), body)
    head = _head(status, answer.content_type if body else "", int(time.time()))
    if status in _BODILESS:
        body = b""
    else:
        head += f"Content-Length: {len(body)}\r\n"
    options = headers.get("Connection")
    if close and options not in {None, "close"}:
        # One field has both options: some clients look at the first or the last field alone.
        headers = {**headers, "Connection": f"{options}, close"}
    if headers:
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    if "Cache-Control" not in headers:
        head += "Cache-Control: no-store\r\n"
    if close and options is None:
        head += "Connection: close\r\n"
    encoded = f"{head}\r\n".encode("latin-1")
    return encoded if head_only else encoded + body


@lru_cache(maxsize=64)
def _plain_head(status: int, content_type: str, second: int) -> bytes:
    """Return the head, up to the number of `Content-Length`, of an answer without own fields."""
    head = f"{_head(status, content_type, second)}Cache-Control: no-store\r\nContent-Length: "
    return head.encode("latin-1")


@lru_cache(maxsize=64)
def _head(status: int, content_type: str, second: int) -> str:
    """Return the first lines of a head, which many answers of one second share.

    RFC 9110 section 6.6.1: a server with a clock says when it answered.
    """
    content = f"Content-Type: {content_type}\r\n" if content_type else ""
    phrase = status_phrase(HTTPStatus(status))
    return (
        f"HTTP/1.1 {status} {phrase}\r\n{content}X-Content-Type-Options: nosniff\r\n"
        f"Date: {formatdate(second, usegmt=True)}\r\n"
    )
