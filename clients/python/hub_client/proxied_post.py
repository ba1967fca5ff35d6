"""POST by way of a proxy, with httpx2, which speaks to HTTP and SOCKS proxies."""

import asyncio
import ssl
import time
from collections.abc import Mapping

import httpx2

from hub_client.answer import (
    MAX_ANSWER_BYTES,
    HttpResponse,
    PostFailedError,
    first_check,
    untrusted,
)
from hub_client.async_post import OnAnswer
from hub_client.route import HTTP_ERRORS, SOCKS_ERRORS, OutboundRoute

# Errors of a request that cannot have reached the hub, and the one that is our own doing.
_NOT_SENT: tuple[type[Exception], ...] = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
    httpx2.ProxyError,
    *SOCKS_ERRORS,
)
_FAILURES: tuple[type[Exception], ...] = (TimeoutError, *HTTP_ERRORS)
_NOBODY_THERE = (httpx2.ConnectError, httpx2.ConnectTimeout)


class ProxiedBlockingPost:
    """The same as `BlockingPost`, by way of a proxy."""

    def __init__(self, url: str, headers: Mapping[str, str], way: "HttpxSettings") -> None:
        self._url = url
        self._http = httpx2.Client(headers=headers, **way.settings())  # type: ignore[arg-type]  # by name

    def post(self, body: bytes, *, seconds: float) -> HttpResponse:
        deadline = time.monotonic() + seconds
        try:
            with self._http.stream("POST", self._url, content=body) as response:
                answer = b""
                for chunk in response.iter_bytes():
                    answer += chunk
                    if len(answer) > MAX_ANSWER_BYTES:
                        break
                    if time.monotonic() > deadline:
                        raise TimeoutError
                return _answer(response, answer)
        except _FAILURES as error:
            raise _failed(error) from None

    def close(self) -> None:
        self._http.close()


class ProxiedAsyncPost:
    """The same as `AsyncPost`, by way of a proxy."""

    def __init__(self, url: str, headers: Mapping[str, str], way: "HttpxSettings") -> None:
        self._url = url
        self._http = httpx2.AsyncClient(headers=headers, **way.settings())  # type: ignore[arg-type]  # by name

    @property
    def is_closed(self) -> bool:
        return self._http.is_closed

    def begin(self, _: bytes, *, seconds: float, on_answer: OnAnswer) -> bool:  # noqa: ARG002 - as `AsyncPost`
        """Return False: a request by way of a proxy always waits."""
        return False

    async def post(self, body: bytes, *, seconds: float) -> HttpResponse:
        try:
            async with asyncio.timeout(seconds):
                return await self._post(body)
        except _FAILURES as error:
            raise _failed(error) from None

    async def _post(self, body: bytes) -> HttpResponse:
        async with self._http.stream("POST", self._url, content=body) as response:
            answer = b""
            async for chunk in response.aiter_bytes():
                answer += chunk
                if len(answer) > MAX_ANSWER_BYTES:
                    break
            return _answer(response, answer)

    async def close(self) -> None:
        await self._http.aclose()


class HttpxSettings:
    """The settings by which httpx2 reaches the hub."""

    def __init__(
        self, route: OutboundRoute, *, max_connections: int, seconds: float, connect_seconds: float
    ) -> None:
        self._route = route
        self._limits = httpx2.Limits(max_connections=max_connections)
        self._timeout = httpx2.Timeout(seconds, connect=connect_seconds, pool=connect_seconds)

    def settings(self) -> dict[str, object]:
        verify: ssl.SSLContext = self._route.verify
        proxy = self._route.httpx_proxy
        given = {"proxy": proxy, "verify": verify, "limits": self._limits}
        return {**given, "timeout": self._timeout, "trust_env": False}


def _answer(response: httpx2.Response, body: bytes) -> HttpResponse:
    return HttpResponse(response.status_code, response.headers.get("retry-after", ""), body)


def _failed(error: Exception) -> PostFailedError:
    why = f"{type(error).__name__}: {str(error) or 'no answer in time'}"
    if (said := untrusted(why)) is not None:
        return PostFailedError(said, reached=False, untrusted=True)
    if isinstance(error, _NOBODY_THERE):
        why += f"; {first_check(why)}"
    ours = isinstance(error, httpx2.PoolTimeout)
    return PostFailedError(why, reached=not isinstance(error, _NOT_SENT), ours=ours)
