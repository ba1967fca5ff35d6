"""Request bodies, read with a limit in bytes and in time."""

import asyncio

from starlette.requests import Request
from starlette.types import Receive

from hub.errors import BadRequestError, RequestTimeoutError, TooLargeError
from hub.transports.http.access import header


async def read_body(request: Request, *, limit: int, timeout_seconds: float) -> bytes:
    """Return the whole body, at most `limit` bytes of it.

    Raises:
        TooLargeError: it is longer; without reading it where `Content-Length` says so.
        RequestTimeoutError: its last byte did not arrive within `timeout_seconds`.
        BadRequestError: the peer left in the middle of it.
    """
    declared = header(request, b"content-length") or ""
    if declared.isascii() and declared.isdigit() and int(declared) > limit:
        raise TooLargeError(f"body is {int(declared):,} bytes, limit is {limit:,}")
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _collect(request.receive, limit)
    except TimeoutError:
        raise RequestTimeoutError(
            f"the body was not complete after {timeout_seconds:g} seconds"
        ) from None


async def _collect(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequestError("the connection ended before the body did")
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise TooLargeError(f"body is longer than the limit of {limit:,} bytes")
        parts.append(part)
        if not message.get("more_body", False):
            return part if len(parts) == 1 else b"".join(parts)
