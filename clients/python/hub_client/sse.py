"""The hub over Server-Sent Events with POST /command, for networks that block WebSockets."""

from collections.abc import AsyncGenerator

import httpx2

from hub_client.http_session import HttpSession, UrlDialer, check, url_subscriptions
from hub_client.route import HTTP_ERRORS
from hub_client.transport import (
    ABNORMAL_CLOSE,
    CannotConnectError,
    DisconnectedError,
    Target,
    TransportConnection,
    unreachable,
)

_FIELD = b"data: "


class SseDialer(UrlDialer):
    """Open `GET /sse`."""

    transport = "sse"

    async def _open(self, target: Target) -> TransportConnection:
        channels, query = url_subscriptions(target.subscribe)
        # A stream without a channel has to be asked for by name.
        query = query if channels else "session=true"
        headers = {**target.authorization, "Accept": "text/event-stream"}
        http = self._http.client(target.route)
        request = http.build_request("GET", f"{target.base_url}/sse?{query}", headers=headers)
        try:
            response = await http.send(request, stream=True)
            await check(response, "text/event-stream")
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise unreachable(error) from None
        except HTTP_ERRORS as error:
            raise CannotConnectError(f"{type(error).__name__}: {error}") from None
        return SseConnection(HttpSession(http, target), response, frozenset(channels))


class SseConnection:
    """One open event stream."""

    transport = "sse"
    starts_in_reply = False
    streams = True

    def __init__(
        self, session: HttpSession, response: httpx2.Response, in_url: frozenset[str]
    ) -> None:
        self.in_url = in_url
        self._session = session
        self._response = response
        self._frames = self._read_frames()

    def welcomed(self, connection: str, secret: str) -> None:
        self._session.welcomed(connection, secret)

    async def receive(self) -> bytes:
        try:
            return await anext(self._frames)
        except StopAsyncIteration:
            raise DisconnectedError(ABNORMAL_CLOSE, "the stream ended") from None
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise DisconnectedError(ABNORMAL_CLOSE, f"{type(error).__name__}: {error}") from None

    async def send(self, command_id: int, command: bytes) -> bytes | None:
        return await self._session.send(command_id, command)

    async def close(self) -> None:
        await self._frames.aclose()
        await self._response.aclose()

    async def _read_frames(self) -> AsyncGenerator[bytes, None]:
        parser = EventParser(max_event_bytes=self._session.target.max_frame_bytes)
        async for chunk in self._response.aiter_bytes():
            for frame in parser.feed(chunk):
                yield frame


class EventParser:
    """Yield the `data:` of each event; b"" for comments and blocks without data. No I/O.

    The JSON holds the same name as `event:`, and the client counts positions itself, so the other
    fields are not read. The hub ends lines with LF only; a CR before it is dropped.
    """

    def __init__(self, *, max_event_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the frames that `chunk` completes; raise `DisconnectedError` when one is too
        big."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        found = (self._line(line.removesuffix(b"\r")) for line in lines)
        frames = [frame for frame in found if frame is not None]
        # The name of the field and a CR are no part of the data.
        self._check(self._size + len(self._rest) - len(_FIELD) - len(b"\r"))
        return frames

    def _line(self, line: bytes) -> bytes | None:
        if not line:
            frame = b"\n".join(self._data)
            self._data, self._size = [], 0
            return frame
        if line.startswith(b"data:"):
            value = line[5:].removeprefix(b" ")
            # A line end joins it to those before, also where it is empty.
            self._size += len(value) + bool(self._data)
            self._data.append(value)
            self._check(self._size)
            return None
        return b"" if line.startswith(b":") else None

    def _check(self, size: int) -> None:
        if size > self._max_event_bytes:
            limit = f"{self._max_event_bytes:,}"
            raise DisconnectedError(1009, f"an event is over {limit} bytes (max_frame_bytes)")
