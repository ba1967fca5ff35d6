"""A WebSocket connection of the hub on a transport that only notes, over the core on fakes."""

import asyncio
from typing import Any, cast

import orjson

from hub.core.commands import Subscribe
from hub.core.session.session import Session
from hub.transports.turns import Turns
from hub.transports.websocket import WebSocketConnection
from hub.transports.websocket_options import WebSocketOptions
from hub.wire.websocket import WebSocketDialect
from tests.core.small_node import ANYTHING, SmallNode
from tests.support.frames import masked

DIALECT = WebSocketDialect()


class NotingTransport:
    """Takes all it is given at once, as behind TLS: the kernel is never written to directly."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.reading = True
        self.ended = False
        """Whether this side said its last."""
        self.closing = False
        self.protocol: asyncio.BaseProtocol | None = None

    def get_extra_info(self, name: str) -> object:
        return object() if name == "sslcontext" else None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int, low: int = 0) -> None:
        assert high == 0

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        assert not self.closing
        assert not self.ended
        self.writes.append(data)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closing = True

    abort = close


class Wired:
    """One connection with its session; `node` may have several."""

    def __init__(
        self,
        node: SmallNode,
        turns: Turns,
        *,
        deflate: bool = False,
        max_message_bytes: int = 65536,
        channels: tuple[str, ...] = (),
    ) -> None:
        self.transport = NotingTransport()
        self.connection = WebSocketConnection(
            cast("asyncio.Transport", self.transport),
            WebSocketOptions(
                registry=node.registry,
                heartbeats=node.heartbeats,
                deadlines=node.deadlines,
                turns=turns,
                max_message_bytes=max_message_bytes,
                message_timeout_seconds=30,
            ),
            deflate=deflate,
            address="192.0.2.1",
            user_agent="",
        )
        wanted = [Subscribe(None, name, in_url=True) for name in channels]
        self.session: Session = node.registry.open(
            self.connection, DIALECT, ANYTHING, subscriptions=wanted
        )
        self.transport.writes.clear()

    def receive(self, data: bytes) -> None:
        self.connection.data_received(data)

    def pushes(self) -> list[dict[str, Any]]:
        """All that was written since the last call; frames of other kinds are left out."""
        data, found = b"".join(self.transport.writes), []
        self.transport.writes.clear()
        while data:
            length, at = data[1], 2
            if length == 126:
                length, at = int.from_bytes(data[2:4]), 4
            if data[0] == 0x81:
                found.append(orjson.loads(data[at : at + length]))
            data = data[at + length :]
        return found

    def replies(self) -> list[object]:
        """The ids of the replies among them."""
        return [push["id"] for push in self.pushes() if push["op"] == "reply"]


def ping(number: int) -> bytes:
    return masked(b'{"op":"ping","id":%d}' % number)


def publish(number: int, data: bytes = b"1", channel: str = "a") -> bytes:
    fields = (number, channel.encode(), data)
    return masked(b'{"op":"publish","id":%d,"channel":"%b","data":%b}' % fields)
