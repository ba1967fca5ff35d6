"""The part that server-sent events and long polling share: a GET that subscribes, commands as
POST."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import httpx2

from hub_client.frames import encode, read_problem
from hub_client.route import HTTP_ERRORS, OutboundRoute
from hub_client.transport import (
    ABNORMAL_CLOSE,
    CannotConnectError,
    DisconnectedError,
    Target,
    TransportConnection,
    encode_query,
    refused,
)

# The contract keeps a URL below 4 KB and a session at 32 channels in it; this leaves room for
# the host and for what proxies add.
_MAX_QUERY_BYTES = 3000
_MAX_URL_CHANNELS = 32
_TIMEOUT_SECONDS = 10.0
# Enough for the hub's problem documents; a longer one is not the hub's.
_DETAIL_BYTES = 2000
_NOT_THIS_SESSION = frozenset({401, 404})


class LazyHttp:
    """An httpx2 client that is made when it is first needed.

    Making one reads the system's certificates and holds up the event loop for 34 ms (measured); a
    client that stays with WebSocket needs none.
    """

    def __init__(self) -> None:
        self._client: httpx2.AsyncClient | None = None

    def client(self, route: OutboundRoute) -> httpx2.AsyncClient:
        """The client has no read time-out: each caller that waits for an answer sets one for all of
        it."""
        if self._client is None:
            self._client = httpx2.AsyncClient(
                timeout=httpx2.Timeout(_TIMEOUT_SECONDS, read=None),
                follow_redirects=True,
                proxy=route.httpx_proxy,
                verify=route.verify_redirected,
                trust_env=False,
            )
        return self._client

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()


class HttpSession:
    """Speak for one session at the hub; the welcome brings its secret."""

    def __init__(self, http: httpx2.AsyncClient, target: Target) -> None:
        self.http = http
        self.target = target
        self.connection = ""
        self._secret = ""

    def welcomed(self, connection: str, secret: str) -> None:
        self.connection, self._secret = connection, secret

    @property
    def headers(self) -> dict[str, str]:
        """Headers of each request; from the welcome on the secret stands for the token."""
        return {**self.target.headers, "Authorization": f"Bearer {self._secret}"}

    async def send(self, command_id: int, command: bytes) -> bytes:
        """POST a command; return its reply, also where the hub refuses it by status.

        Raises:
            DisconnectedError: The hub has no such session, or does not answer.
        """
        query = encode_query([("connection", self.connection)])
        request = self.http.build_request(
            "POST",
            f"{self.target.base_url}/command?{query}",
            content=command,
            headers={**self.headers, "Content-Type": "application/json"},
        )
        status, body = await self.fetch(request, timeout_seconds=_TIMEOUT_SECONDS)
        if status == httpx2.codes.OK:
            return body
        problem = read_problem(body)
        if status in _NOT_THIS_SESSION or (status >= 500 and not problem.code):
            raise DisconnectedError(ABNORMAL_CLOSE, f"POST /command: HTTP {status}")
        code = problem.code or f"http_{status}"
        error = {"code": code, "message": problem.detail, "retryable": problem.retryable}
        return encode({"op": "reply", "id": command_id, "error": error})

    async def fetch(self, request: httpx2.Request, *, timeout_seconds: float) -> tuple[int, bytes]:
        """Return the status and the whole body; raise `DisconnectedError` where none comes, or one
        without end."""
        try:
            async with asyncio.timeout(timeout_seconds):
                response = await self.http.send(request, stream=True)
                try:
                    return response.status_code, await self.read(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            why = f"{request.url.path}: no answer in {timeout_seconds:g} seconds"
            raise DisconnectedError(ABNORMAL_CLOSE, why) from None
        except HTTP_ERRORS as error:
            raise DisconnectedError(ABNORMAL_CLOSE, f"{type(error).__name__}: {error}") from None

    async def read(self, response: httpx2.Response) -> bytes:
        """Return the whole body; raise `DisconnectedError` beyond `max_frame_bytes`."""
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > self.target.max_frame_bytes:
                limit = f"{self.target.max_frame_bytes:,}"
                raise DisconnectedError(1009, f"an answer is over {limit} bytes (max_frame_bytes)")
        return bytes(body)


class UrlDialer:
    """Opens connections by a GET whose URL holds subscriptions; a subclass opens one."""

    def __init__(self) -> None:
        self._http = LazyHttp()

    async def dial(self, target: Target) -> TransportConnection:
        """Open with the subscriptions in the URL; where that is refused, open without them.

        One channel without a grant refuses the whole request. By command it is refused alone, as
        over a WebSocket.
        """
        try:
            return await self._open(target)
        except CannotConnectError as problem:
            if problem.rejected is None or not problem.blocked or not target.subscribe:
                raise
        return await self._open(replace(target, subscribe=()))

    async def _open(self, target: Target) -> TransportConnection:
        raise NotImplementedError

    async def close(self) -> None:
        await self._http.close()


async def check(response: httpx2.Response, kind: str) -> None:
    """Raise `CannotConnectError`, with the response closed, unless it succeeded with a body of
    `kind`."""
    given = response.headers.get("content-type", "")
    if response.status_code == httpx2.codes.OK and given.startswith(kind):
        return
    try:
        problem = read_problem(await _beginning(response))
    finally:
        await response.aclose()
    if response.status_code == httpx2.codes.OK:
        raise CannotConnectError(f"no {kind} but {given or 'an untyped body'}", blocked=True)
    asked = response.headers.get("retry-after", "")
    raise refused(
        response.status_code, problem.detail, retry_after=asked, retryable=problem.retryable
    )


async def _beginning(response: httpx2.Response) -> bytes:
    """Return enough of a body to tell what it is; it may have no end."""
    async for chunk in response.aiter_bytes():
        return chunk[:_DETAIL_BYTES]
    return b""


# No URL says them.
_BY_COMMAND = {"presence", "every_ms"}


def url_subscriptions(wanted: tuple[Mapping[str, object], ...]) -> tuple[list[str], str]:
    """Return the channels that fit into the URL, and its query. The rest is subscribed by command.

    `last`, `fill`, `state` and `filter` stand once for the whole URL, so only channels that agree
    with the first are in it.
    """
    wanted = tuple(fields for fields in wanted if not _BY_COMMAND & fields.keys())
    shared = _shared(wanted[0]) if wanted else []
    channels: list[str] = []
    pairs = list(shared)
    for fields in wanted[:_MAX_URL_CHANNELS]:
        more = _pairs(fields)
        fits = len(encode_query(pairs + more)) <= _MAX_QUERY_BYTES
        if fits and _shared(fields) == shared:
            channels.append(str(fields.get("channel", "")))
            pairs += more
    return channels, encode_query(pairs)


def _shared(fields: Mapping[str, object]) -> list[tuple[str, str]]:
    given = ((name, fields.get(name)) for name in ("last", "fill", "state"))
    shared = [(name, str(value).lower()) for name, value in given if value is not None]
    wanted = fields.get("filter")
    return shared if wanted is None else [*shared, ("filter", encode(wanted).decode())]


def _pairs(fields: Mapping[str, object]) -> list[tuple[str, str]]:
    kind = "channel" if "channel" in fields else "pattern"
    name = str(fields[kind])
    since = [("since", f"{name}={fields['since']}")] if "since" in fields else []
    return [(kind, name), *since]
