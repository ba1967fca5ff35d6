"""The hub over Server-Sent Events with POST /command, for networks that block WebSockets."""

from collections.abc import AsyncGenerator, Mapping

import httpx

from hub_client.frames import encode, read_problem
from hub_client.transport import (
    ABNORMAL_CLOSE,
    CannotConnectError,
    Connection,
    DisconnectedError,
    Target,
    encode_query,
    refused,
)

# The contract keeps a URL below 4 KB and a stream at 32 channels; this leaves room for the
# host and for what proxies add.
_MAX_QUERY_BYTES = 3000
_MAX_URL_CHANNELS = 32
_TIMEOUT_SECONDS = 10.0
_DETAIL_BYTES = 300
_NOT_THIS_SESSION = frozenset({401, 404})


class SseDialer:
    """Opens `GET /sse`."""

    transport = "sse"

    def __init__(self) -> None:
        # A stream may be silent for long: the read has no time-out here because the client
        # gives every wait for a frame its own.
        timeout = httpx.Timeout(_TIMEOUT_SECONDS, read=None)
        self._http = httpx.AsyncClient(timeout=timeout, follow_redirects=True)

    async def dial(self, target: Target) -> Connection:
        if not target.subscribe:
            raise CannotConnectError("server-sent events need a subscription first", idle=True)
        channels, query = url_subscriptions(target.subscribe)
        url = f"{target.base_url}/sse" + (f"?{query}" if query else "")
        headers = {**target.authorization, "Accept": "text/event-stream"}
        request = self._http.build_request("GET", url, headers=headers)
        try:
            response = await self._http.send(request, stream=True)
            await _check(response)
        except httpx.HTTPError as error:
            raise CannotConnectError(f"{type(error).__name__}: {error}") from None
        return SseConnection(self._http, response, target, frozenset(channels))

    async def close(self) -> None:
        await self._http.aclose()


class SseConnection:
    """One open event stream."""

    transport = "sse"
    starts_in_reply = False

    def __init__(
        self,
        http: httpx.AsyncClient,
        response: httpx.Response,
        target: Target,
        in_url: frozenset[str],
    ) -> None:
        self.in_url = in_url
        self._http = http
        self._response = response
        self._target = target
        self._connection = ""
        self._secret = ""
        self._frames = self._read_frames()

    def welcomed(self, connection: str, secret: str) -> None:
        self._connection, self._secret = connection, secret

    async def receive(self) -> bytes:
        try:
            return await anext(self._frames)
        except StopAsyncIteration:
            raise DisconnectedError(ABNORMAL_CLOSE, "the stream ended") from None
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise DisconnectedError(ABNORMAL_CLOSE, f"{type(error).__name__}: {error}") from None

    async def send(self, command_id: int, command: bytes) -> bytes | None:
        query = encode_query([("connection", self._connection)])
        try:
            answer = await self._http.post(
                f"{self._target.base_url}/command?{query}",
                content=command,
                headers={
                    **self._target.headers,
                    "Authorization": f"Bearer {self._secret}",
                    "Content-Type": "application/json",
                },
                timeout=_TIMEOUT_SECONDS,
            )
        except httpx.HTTPError as error:
            raise DisconnectedError(ABNORMAL_CLOSE, f"{type(error).__name__}: {error}") from None
        return _reply(answer, command_id)

    async def close(self) -> None:
        await self._frames.aclose()
        await self._response.aclose()

    async def _read_frames(self) -> AsyncGenerator[bytes, None]:
        parser = EventParser(max_event_bytes=self._target.max_frame_bytes)
        async for chunk in self._response.aiter_bytes():
            for frame in parser.feed(chunk):
                yield frame


class EventParser:
    """The `data:` of each event; b"" for comments and blocks without data. No I/O.

    The JSON says what its `event:` says, and the client counts positions itself, so the
    other fields are not read. The hub ends lines with LF only; a CR before it is dropped.
    """

    def __init__(self, *, max_event_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The frames that `chunk` completes; raise `DisconnectedError` when one is too big."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if self._size + len(self._rest) > self._max_event_bytes:
            limit = f"{self._max_event_bytes:,}"
            raise DisconnectedError(1009, f"an event is over {limit} bytes (max_frame_bytes)")
        frames = (self._line(line.removesuffix(b"\r")) for line in lines)
        return [frame for frame in frames if frame is not None]

    def _line(self, line: bytes) -> bytes | None:
        if not line:
            frame = b"\n".join(self._data)
            self._data, self._size = [], 0
            return frame
        if line.startswith(b"data:"):
            value = line[5:].removeprefix(b" ")
            self._data.append(value)
            self._size += len(value)
            return None
        return b"" if line.startswith(b":") else None


def url_subscriptions(wanted: tuple[Mapping[str, object], ...]) -> tuple[list[str], str]:
    """The channels that fit into the URL, and its query. The rest is subscribed by command.

    `last` and `fill` stand once for the whole URL: only channels that agree with the first
    can be in it.
    """
    shared = _shared(wanted[0]) if wanted else []
    channels: list[str] = []
    pairs = list(shared)
    for fields in wanted[:_MAX_URL_CHANNELS]:
        more = _pairs(fields)
        fits = len(encode_query(pairs + more)) <= _MAX_QUERY_BYTES
        if fits and _shared(fields) == shared:
            channels.append(str(fields["channel"]))
            pairs += more
    return channels, encode_query(pairs)


def _shared(fields: Mapping[str, object]) -> list[tuple[str, str]]:
    given = ((name, fields.get(name)) for name in ("last", "fill"))
    return [(name, str(value).lower()) for name, value in given if value is not None]


def _pairs(fields: Mapping[str, object]) -> list[tuple[str, str]]:
    channel = str(fields["channel"])
    since = [("since", f"{channel}={fields['since']}")] if "since" in fields else []
    return [("channel", channel), *since]


async def _check(response: httpx.Response) -> None:
    """Raise `CannotConnectError`, with the response closed, unless it is an event stream."""
    kind = response.headers.get("content-type", "")
    if response.status_code == httpx.codes.OK and kind.startswith("text/event-stream"):
        return
    try:
        detail = await _beginning(response)
    finally:
        await response.aclose()
    if response.status_code == httpx.codes.OK:
        raise CannotConnectError(f"no event stream but {kind or 'an untyped body'}", blocked=True)
    asked = response.headers.get("retry-after", "")
    raise refused(response.status_code, detail, retry_after=asked)


async def _beginning(response: httpx.Response) -> str:
    """Enough of a body to say what it is; it may have no end."""
    async for chunk in response.aiter_bytes(_DETAIL_BYTES):
        return chunk.decode("utf-8", "replace")
    return ""


def _reply(answer: httpx.Response, command_id: int) -> bytes:
    if answer.status_code == httpx.codes.OK:
        return answer.content
    if answer.status_code in _NOT_THIS_SESSION or answer.status_code >= 500:
        raise DisconnectedError(ABNORMAL_CLOSE, f"POST /command: HTTP {answer.status_code}")
    problem = read_problem(answer.content)
    code = problem.code or f"http_{answer.status_code}"
    error = {"code": code, "message": problem.detail, "retryable": problem.retryable}
    return encode({"op": "reply", "id": command_id, "error": error})
