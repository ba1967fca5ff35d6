"""Answers of a server that is not to be trusted, bounded in number, parts and bytes.

A server may send answers before its answer (status 1xx, RFC 9110 section 15.2). The HTTP library
reads all that have come in one step of the event loop, which takes 40 us for each: 64 KiB of them
hold the loop for 0.15 s, and a server may send them until the deadline.
"""

import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, cast

import httpcore2
import httpx2

from hub_client.route import OutboundRoute

# A server sends one or two (`103 Early Hints`). Guess.
MAX_INTERIM_ANSWERS = 16
# A part of one byte costs as much as a long one, 10 us measured: so many hold the loop for 10 ms.
MAX_PARTS = 1_000
_INTERIM = re.compile(rb"(?:\A|\n)HTTP/1\.[01] 1")
_LONGEST_MATCH = 11
_FAILURES = (
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    httpcore2.UnsupportedProtocol,
)


class LongAnswerError(Exception):
    """A body has too many bytes or parts; the text says which."""


async def read_bounded(answer: httpx2.Response, *, max_bytes: int) -> bytes:
    """Return the body of `answer` as it came; raise `LongAnswerError`.

    An answer that is compressed although the client asked for none inflates nothing.
    """
    parts: list[bytes] = []
    size = 0
    async for part in answer.aiter_raw():
        size += len(part)
        if size > max_bytes:
            raise LongAnswerError(f"the answer is longer than {max_bytes:,} bytes")
        if len(parts) == MAX_PARTS:
            raise LongAnswerError(f"the answer is in more than {MAX_PARTS:,} parts")
        parts.append(part)
    return b"".join(parts)


class BoundedTransport(httpx2.AsyncBaseTransport):
    """Sends requests along a route; one with too many such answers fails (`httpx2.TransportError`).

    Args:
        connections: the largest number at once.
        keep_alive_seconds: the time for which a connection without a request is kept.
    """

    def __init__(
        self, route: OutboundRoute, *, connections: int, keep_alive_seconds: float
    ) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=route.verify,
            proxy=_proxy(route),
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=keep_alive_seconds,
            network_backend=_Backend(httpcore2.AnyIOBackend()),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        given = httpcore2.Request(
            request.method,
            _url(request.url),
            headers=request.headers.raw,
            content=cast("httpx2.AsyncByteStream", request.stream),
            extensions=request.extensions,
        )
        with _errors():
            answer = await self._pool.handle_async_request(given)
        return httpx2.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(answer),
            extensions=answer.extensions,
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, answer: httpcore2.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _errors():
            async for part in self._answer.aiter_stream():
                yield part

    async def aclose(self) -> None:
        await self._answer.aclose()


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Raise errors of httpcore2 as those of httpx2."""
    try:
        yield
    except httpcore2.TimeoutException as error:
        raise httpx2.ReadTimeout(str(error)) from error
    except _FAILURES as error:
        raise httpx2.TransportError(str(error) or type(error).__name__) from error


def _url(url: httpx2.URL) -> httpcore2.URL:
    return httpcore2.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )


def _proxy(route: OutboundRoute) -> httpcore2.Proxy | None:
    if (given := route.httpx_proxy) is None:
        return None
    return httpcore2.Proxy(_url(given.url), auth=given.raw_auth, ssl_context=given.ssl_context)


class _Stream(httpcore2.AsyncNetworkStream):
    """Counts the beginnings of such answers in what comes; writing begins the count anew."""

    def __init__(self, inner: httpcore2.AsyncNetworkStream) -> None:
        self._inner = inner
        self._begun = 0
        self._end = b""
        """The last bytes that came, in which a beginning may be cut."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._inner.read(max_bytes, timeout)
        text = self._end + data
        self._begun += len(_INTERIM.findall(text)) - len(_INTERIM.findall(self._end))
        self._end = text[-_LONGEST_MATCH:]
        if self._begun > MAX_INTERIM_ANSWERS:
            raise httpcore2.ReadError(f"over {MAX_INTERIM_ANSWERS} answers came before the answer")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._begun, self._end = 0, b""
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        return _Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore2.AsyncNetworkBackend):
    def __init__(self, inner: httpcore2.AsyncNetworkBackend) -> None:
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        return _Stream(
            await self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        )

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        return _Stream(await self._inner.connect_unix_socket(path, timeout, socket_options))

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)
