"""Answers as plain values.

A handler returns an `Answer`. The carrier of the request writes it: `encode` for the hub's own
connection, `hub.transports.http.asgi` for somebody else's server.
"""

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

import orjson

from hub.wire.codes import status_phrase

JSON = "application/json"
_NO_HEADERS: Mapping[str, str] = {}
# RFC 9110 sections 6.4.1 and 15.3.5: these answers have no content and say no length.
_BODILESS = frozenset({204, 304})


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
        """Said where there is a body."""
        self.headers = headers
        """All others; `Cache-Control: no-store` stands unless one of them says otherwise."""

    def add_headers(self, headers: Mapping[str, str]) -> None:
        """Put `headers` on top of those it has."""
        self.headers = {**self.headers, **headers}


def json_answer(
    content: object, *, status: int = 200, headers: Mapping[str, str] = _NO_HEADERS
) -> Answer:
    """`content` encoded by orjson; live state, so nobody may keep it."""
    return Answer(orjson.dumps(content), status=status, headers=headers)


def encode_json(body: bytes) -> bytes:
    """A plain answer with this JSON, behind which the connection goes on: as `encode` has it."""
    return b"%b%d\r\n\r\n%b" % (_plain_head(200, JSON, int(time.time())), len(body), body)


def encode(answer: Answer, *, close: bool, head_only: bool = False) -> bytes:
    """The answer as HTTP/1.1; `head_only` leaves the body out, as HEAD wants it."""
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
        # One field says both: some clients look at the first or the last alone.
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
    """The head of an answer that has a body and nothing else to say, but for the length."""
    head = f"{_head(status, content_type, second)}Cache-Control: no-store\r\nContent-Length: "
    return head.encode("latin-1")


@lru_cache(maxsize=64)
def _head(status: int, content_type: str, second: int) -> str:
    """What many answers of one second begin with.

    RFC 9110 section 6.6.1: a server with a clock says when it answered.
    """
    said = f"Content-Type: {content_type}\r\n" if content_type else ""
    phrase = status_phrase(HTTPStatus(status))
    return (
        f"HTTP/1.1 {status} {phrase}\r\n{said}X-Content-Type-Options: nosniff\r\n"
        f"Date: {formatdate(second, usegmt=True)}\r\n"
    )
