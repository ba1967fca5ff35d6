"""A client's WebSocket over the library's socket, which a test stands for."""

import asyncio
from typing import cast

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.frames import Close

from hub_client.transport import DisconnectedError
from hub_client.websocket import WebSocketConnection


class FakeSocket:
    """Says what a test has it say; `ends` is how it has ended."""

    def __init__(self) -> None:
        self.came: list[bytes] = []
        self.sent: list[tuple[bytes, bool]] = []
        self.ends: Exception | None = None
        self.takes = asyncio.Event()
        self.takes.set()
        self.closed = False

    async def recv(self, *, decode: bool) -> bytes:
        assert not decode
        if not self.came and self.ends is not None:
            raise self.ends
        return self.came.pop(0)

    async def send(self, command: bytes, *, text: bool) -> None:
        await self.takes.wait()
        if self.ends is not None:
            raise self.ends
        self.sent.append((command, text))

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
async def socket() -> FakeSocket:
    return FakeSocket()


@pytest.fixture
async def connection(socket: FakeSocket) -> WebSocketConnection:
    return WebSocketConnection(cast("ClientConnection", socket))


async def test_frames_come_as_bytes_and_commands_go_as_text(
    socket: FakeSocket, connection: WebSocketConnection
) -> None:
    """A reply comes in the stream: a command returns none."""
    socket.came = [b"{}", b"[]"]
    assert [await connection.receive() for _ in range(2)] == [b"{}", b"[]"]
    assert await connection.send(1, b'{"op":"ping"}') is None
    assert socket.sent == [(b'{"op":"ping"}', True)]
    await connection.close()
    assert socket.closed


def error(theirs: Close | None, ours: Close | None) -> Exception:
    kind = ConnectionClosedOK if theirs and theirs.code == 1000 else ConnectionClosedError
    both = theirs is not None and ours is not None
    return kind(theirs, ours, rcvd_then_sent=True if both else None)


@pytest.mark.parametrize(
    ("theirs", "ours", "code", "reason"),
    [
        (Close(1000, "bye"), Close(1000, "bye"), 1000, "bye"),
        (Close(4403, "banned"), Close(4403, "banned"), 4403, "banned"),
        (None, None, 1006, "the connection broke"),
        (None, Close(1009, "over 10 bytes"), 1009, "over 10 bytes"),
        (None, Close(1002, "no frame"), 1002, "no frame"),
        (Close(1007, "theirs"), Close(1007, "ours"), 1007, "ours"),
        (None, Close(1000, ""), 1006, "the connection broke"),
    ],
)
@pytest.mark.parametrize("by", ["receive", "send"])
async def test_an_end_has_the_code_and_the_reason_of_whom_it_is_due_to(
    socket: FakeSocket,
    connection: WebSocketConnection,
    by: str,
    theirs: Close | None,
    ours: Close | None,
    code: int,
    reason: str,
) -> None:
    """The verdict is the client's own if it made one, else the hub's, else
    that the connection broke."""
    socket.ends = error(theirs, ours)
    with pytest.raises(DisconnectedError) as ended:
        await (connection.receive() if by == "receive" else connection.send(1, b"{}"))
    assert (ended.value.code, ended.value.reason) == (code, reason)


async def test_a_hub_that_takes_no_command_is_not_waited_for(
    socket: FakeSocket, connection: WebSocketConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub_client.websocket._SEND_TIMEOUT_SECONDS", 0.01)
    socket.takes.clear()
    with pytest.raises(DisconnectedError, match="the hub takes no commands") as ended:
        await connection.send(1, b"{}")
    assert ended.value.code == 1006
