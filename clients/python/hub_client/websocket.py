"""The hub over WebSocket, by the websockets library."""

import asyncio
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    WebSocketException,
)

from hub_client.frames import read_problem
from hub_client.transport import (
    ABNORMAL_CLOSE,
    CannotConnectError,
    DisconnectedError,
    Target,
    TransportConnection,
    refused,
    unreachable,
)

# Of the closing handshake, in seconds: a peer that may be gone is not waited for.
_CLOSE_TIMEOUT_SECONDS = 1.0
_SEND_TIMEOUT_SECONDS = 10.0
# Close codes that this side sends by itself when the hub breaks the protocol or a frame is
# over `max_frame_bytes` (RFC 6455 section 7.4.1). They are the truth about why it ended.
_OWN_VERDICTS = frozenset({1002, 1007, 1009})


class WebSocketDialer:
    """Open `GET /ws`."""

    transport = "websocket"

    async def dial(self, target: Target) -> TransportConnection:
        try:
            socket = await connect(
                _websocket_url(target.base_url),
                additional_headers=target.authorization,
                max_size=target.max_frame_bytes,
                close_timeout=_CLOSE_TIMEOUT_SECONDS,
                # The caller sets it.
                open_timeout=None,
                # Silence is noticed by the hub's heartbeats, the same on every transport.
                ping_interval=None,
                **_way(target),
            )
        except InvalidStatus as error:
            answer = error.response
            asked = answer.headers.get("Retry-After", "")
            problem = read_problem(bytes(answer.body or b""))
            raise refused(
                answer.status_code, problem.detail, retry_after=asked, retryable=problem.retryable
            ) from None
        except OSError as error:
            raise unreachable(error) from None
        except (InvalidHandshake, WebSocketException, EOFError) as error:
            raise CannotConnectError(f"{type(error).__name__}: {error}") from None
        return WebSocketConnection(socket)

    async def close(self) -> None:
        """Close nothing: connections share nothing."""


class WebSocketConnection:
    """One open WebSocket."""

    transport = "websocket"
    starts_in_reply = True
    streams = True
    in_url: frozenset[str] = frozenset()

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    def welcomed(self, connection: str, secret: str) -> None:
        """Do nothing: commands travel on the socket itself."""

    async def receive(self) -> bytes:
        try:
            return await self._socket.recv(decode=False)
        except ConnectionClosed as closed:
            raise _ended(closed) from None

    async def send(self, command_id: int, command: bytes) -> bytes | None:  # noqa: ARG002 - port
        try:
            async with asyncio.timeout(_SEND_TIMEOUT_SECONDS):
                await self._socket.send(command, text=True)
        except ConnectionClosed as closed:
            raise _ended(closed) from None
        except TimeoutError:
            raise DisconnectedError(ABNORMAL_CLOSE, "the hub takes no commands") from None
        return None

    async def close(self) -> None:
        await self._socket.close()


def _way(target: Target) -> dict[str, Any]:
    """Make the socket; an `https` hub and an `https` proxy use one TLS context."""
    route = target.route
    way: dict[str, Any] = {"proxy": route.proxy}
    if target.base_url.startswith("https:"):
        way["ssl"] = route.tls
    if route.proxy is not None and route.proxy.startswith("https:"):
        way["proxy_ssl"] = route.tls
    return way


def _websocket_url(base_url: str) -> str:
    parts = urlsplit(base_url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    return urlunsplit((scheme, parts.netloc, parts.path + "/ws", "", ""))


def _ended(closed: ConnectionClosed) -> DisconnectedError:
    if closed.sent is not None and closed.sent.code in _OWN_VERDICTS:
        return DisconnectedError(closed.sent.code, closed.sent.reason)
    if closed.rcvd is None:
        return DisconnectedError(ABNORMAL_CLOSE, "the connection broke")
    return DisconnectedError(closed.rcvd.code, closed.rcvd.reason)
