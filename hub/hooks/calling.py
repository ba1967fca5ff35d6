"""POST JSON to the application over pooled connections, bounded in number, time and bytes.

Redirections are not followed, because only the address that the operator names is trusted. The
environment's proxies and certificates are those that the clients use (`hub_client.route`).
"""

import asyncio
import http.cookiejar
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2

# Requests at a time. Guess: as many as a small application has threads for.
MAX_CONNECTIONS = 64
# Who wait for one of them; beyond is refused at once.
MAX_WAITING = 2_000
# A connection that was unused for so long may have been closed by a proxy.
_KEEP_ALIVE_SECONDS = 15.0
MAX_ANSWER_BYTES = 64 * 1024


class HookError(Exception):
    """There is no answer; `outcome` is the reason, as metrics count it."""

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class Caller:
    """The connections to one address; one per address and node, owned by one event loop.

    Args:
        timeout_seconds: The time from the call to the last byte of the answer, with the wait for a
            connection.
    """

    def __init__(
        self, url: str, *, timeout_seconds: float, connections: int = MAX_CONNECTIONS
    ) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._connections = connections
        self._free = asyncio.Semaphore(connections)
        self._waiting = 0
        # With the start, not with the first peer: the library takes 0.3 s of the loop to import,
        # and more than the time of a question on a machine that is busy.
        self._client: httpx2.AsyncClient | None = None
        with suppress(OSError, ValueError):
            # Where this fails, each question says why.
            self._client = self._made()

    async def post(
        self, body: bytes, headers: Mapping[str, str], *, whole: Container[int] = (200,)
    ) -> tuple[int, bytes]:
        """Return status and body of the answer; raise `HookError`. It has to be called in a task.

        The body matters with the statuses `whole` alone. With another status it is empty where it
        is too long or breaks off, because the status is the answer.
        """
        said: list[int] = []
        try:
            return await self._post(body, headers, said.append)
        except HookError:
            if not said or said[0] in whole:
                raise
            return said[0], b""

    async def _post(
        self, body: bytes, headers: Mapping[str, str], on_status: Callable[[int], object]
    ) -> tuple[int, bytes]:
        from hub_client.route import HTTP_ERRORS  # noqa: PLC0415 - a hub without hooks needs none

        if self._waiting >= MAX_WAITING:
            raise HookError("busy", f"{self._waiting:,} calls wait for the application already")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeout_seconds), self._free:
                return await self._send(body, headers, on_status)
        except TimeoutError:
            message = f"no whole answer within {self._timeout_seconds:g} s"
            raise HookError("timeout", message) from None
        except HTTP_ERRORS + (OSError, ValueError) as error:  # noqa: RUF005 - mypy reads this one
            why = str(error) or type(error).__name__
            raise HookError("unreachable", why) from None
        finally:
            self._waiting -= 1

    async def _send(
        self, body: bytes, headers: Mapping[str, str], on_status: Callable[[int], object]
    ) -> tuple[int, bytes]:
        from hub_client.interim import LongAnswerError, read_bounded  # noqa: PLC0415 - as above

        client = self._client = self._client or self._made()
        fields = {"Content-Type": "application/json", "Accept-Encoding": "identity", **headers}
        async with client.stream("POST", self._url, content=body, headers=fields) as answer:
            on_status(answer.status_code)
            try:
                whole = await read_bounded(answer, max_bytes=MAX_ANSWER_BYTES)
            except LongAnswerError as error:
                raise HookError("too_large", str(error)) from None
            return answer.status_code, whole

    def _made(self) -> "httpx2.AsyncClient":
        import httpx2  # noqa: PLC0415 - as above

        from hub_client.interim import BoundedTransport  # noqa: PLC0415
        from hub_client.route import find_route  # noqa: PLC0415

        return httpx2.AsyncClient(
            transport=BoundedTransport(
                find_route(self._url),
                connections=self._connections,
                keep_alive_seconds=_KEEP_ALIVE_SECONDS,
            ),
            trust_env=False,
            follow_redirects=False,
            # A cookie of the application is of the peer that was asked about, and of nobody else.
            cookies=http.cookiejar.CookieJar(
                http.cookiejar.DefaultCookiePolicy(allowed_domains=())
            ),
            # The one deadline is that of `post`.
            timeout=None,
            headers={"User-Agent": "broadcast-hub"},
        )

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None
