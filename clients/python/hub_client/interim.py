"""The answers that come before an answer (status 1xx, RFC 9110 section 15.2), bounded in number.

The HTTP library reads all that have come in one step of the event loop, which takes 40 us for each:
64 KiB of them hold the loop for 0.15 s, and a server may send them until the deadline.
"""

import re
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore2
import httpx2

# A server sends one or two (`103 Early Hints`). Guess.
MAX_INTERIM_ANSWERS = 16
_INTERIM = re.compile(rb"(?:\A|\n)HTTP/1\.[01] 1")
_LONGEST_MATCH = 11


def bound_interim_answers(client: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """Have each request of `client` fail with `httpx2.ReadError` behind too many of them."""
    # The library has no public way to give its transports a network backend.
    for transport in (client._transport, *client._mounts.values()):
        pool = getattr(transport, "_pool", None)
        if isinstance(pool, httpcore2.AsyncConnectionPool):
            pool._network_backend = _Backend(pool._network_backend)
    return client


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
