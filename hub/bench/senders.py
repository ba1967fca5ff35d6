"""The requests that a connection of `hub bench --intake` repeats: one sender for each way.

A sender waits for the answers to its requests before it sends more. Payloads have 200 bytes, and
each connection has a channel of its own.
"""

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import cast

from hub.bench.greetings import (
    command_frame,
    nchan_post,
    payload,
    publish_frame,
    publisher_request,
)
from hub.bench.plan import ServerAddress

PAYLOAD = payload(0, 200)
ARRAY = 100
WINDOW = 16
KEY = "bench-key-of-32-characters-and-more"
OK = b"HTTP/1.1 200"
PAGE_BYTES = 24_216
"""The size of an answer that is a page of 100 such publications."""


class Sender(asyncio.Protocol):
    """Sends what `request` makes again as soon as it was answered `answers` times.

    Args:
        windows: how many are under way at a time. With two the server has the next at hand while
            the answers to one are read.
    """

    def __init__(
        self,
        greeting: bytes,
        request: Callable[[], bytes],
        *,
        needle: bytes,
        answers: int,
        windows: int = 1,
    ) -> None:
        self._greeting = greeting
        self._request = request
        self._windows = windows
        self._needle = needle
        self._answers = self._owed = answers
        self._tail = b""
        self.answered = 0
        self.wrong = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Uvloop's transports have the methods of the class, not the class.
        self._transport = cast(asyncio.Transport, transport)
        first = b"".join(self._request() for _ in range(self._windows))
        self._transport.write(self._greeting + first)

    def data_received(self, data: bytes) -> None:
        if b" 503 " in data or b'"error":' in data:
            self.wrong = data
        # A needle may be cut in two by the end of a read.
        text = self._tail + data
        found = text.count(self._needle)
        self._tail = text[1 - len(self._needle) :]
        self.answered += found
        self._owed -= found
        if self._owed <= 0:
            self._owed += self._answers
            self._transport.write(self._request())

    def close(self) -> None:
        self._transport.close()


def post(target: ServerAddress, path: str, body: bytes, more: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n{more}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def get(target: ServerAddress, path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n\r\n".encode()


def single(target: ServerAddress, number: int) -> Sender:
    request = post(target, f"/api/publish/intake-{number}", PAYLOAD)
    return Sender(b"", lambda: request, needle=OK, answers=1)


def to_nchan(target: ServerAddress, number: int) -> Sender:
    request = nchan_post(target, 1, f"intake-{number}", PAYLOAD)
    return Sender(b"", lambda: request, needle=b"HTTP/1.1 20", answers=1)


def refused(status: int, more: str = "") -> Callable[[ServerAddress, int], Sender]:
    """Return a sender of single POSTs that the node answers with `status`; `more` are further
    fields."""

    def make(target: ServerAddress, number: int) -> Sender:
        request = post(target, f"/api/publish/intake-{number}", PAYLOAD, more)
        return Sender(b"", lambda: request, needle=b"HTTP/1.1 %d" % status, answers=1)

    return make


def keyed(target: ServerAddress, number: int) -> Sender:
    """Return a sender with a publisher's key, and an idempotency key for each publication."""
    count = itertools.count()

    def request() -> bytes:
        more = f"Authorization: Bearer {KEY}\r\nIdempotency-Key: bench-{number}-{next(count)}\r\n"
        return post(target, f"/api/publish/intake-{number}", PAYLOAD, more)

    return Sender(b"", request, needle=OK, answers=1)


def pipelined(target: ServerAddress, number: int) -> Sender:
    requests = post(target, f"/api/publish/intake-{number}", PAYLOAD) * WINDOW
    return Sender(b"", lambda: requests, needle=OK, answers=WINDOW, windows=2)


def array(target: ServerAddress, number: int) -> Sender:
    item = {"channel": f"intake-{number}", "data": json.loads(PAYLOAD)}
    body = json.dumps([item] * ARRAY, separators=(",", ":")).encode()
    request = post(target, "/api/publish", body)
    return Sender(b"", lambda: request, needle=b'"offset":', answers=ARRAY)


def websocket(target: ServerAddress, number: int) -> Sender:
    frames = b"".join(publish_frame(n, f"intake-{number}", PAYLOAD) for n in range(WINDOW))
    return Sender(publisher_request(target), lambda: frames, needle=b'"offset":', answers=WINDOW)


def subscribing(target: ServerAddress, number: int) -> Sender:
    """Return a sender that subscribes to a channel of its own and leaves it again."""
    channels = [f"intake-{number}-{n}" for n in range(WINDOW)]
    frames = b"".join(
        command_frame(op, n, channel)
        for op in ("subscribe", "unsubscribe")
        for n, channel in enumerate(channels)
    )
    return Sender(publisher_request(target), lambda: frames, needle=b'"recovered":', answers=WINDOW)


def history(target: ServerAddress, number: int) -> Sender:
    """Return a sender of requests for a channel's newest 100, which are published first."""
    channel = f"intake-{number}"
    items = json.dumps([{"channel": channel, "data": json.loads(PAYLOAD)}] * ARRAY)
    published = post(target, "/api/publish", items.encode())
    asked = get(target, f"/api/channels/{channel}/history?limit={ARRAY}")
    return Sender(published, lambda: asked, needle=OK, answers=1)


def page_of_the_loop(target: ServerAddress, number: int) -> Sender:  # noqa: ARG001 - as each way's
    """Return a sender whose answers are as large as such a page."""
    asked = get(target, f"/{PAGE_BYTES}")
    return Sender(b"", lambda: asked, needle=OK, answers=1)
