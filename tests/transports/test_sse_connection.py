"""A stream of events on a transport that only notes: what its peer does, and how it ends."""

import asyncio
import socket
import time
from typing import cast

import pytest

from hub.core.session.session import Session
from hub.transports.sse import FIRST_FIELD, SseConnection, response_head, response_headers
from hub.transports.turns import Turns
from tests.transports.test_stream import Ends, NotingTransport, ends, has_nothing

__all__ = ["ends"]


class NotingSession:
    """Notes what a connection tells its session."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def stand_apart(self) -> None:
        self.told.append("apart")

    def on_writable(self) -> None:
        self.told.append("writable")

    def lost(self, code: int, reason: str) -> None:
        self.told.append((code, reason))


class Stream:
    """One stream with its session."""

    def __init__(self, ends: Ends, *, tls: bool = False) -> None:
        self.transport = NotingTransport(ends[0])
        if tls:
            self.transport.get_extra_info = (  # type: ignore[method-assign]  # what TLS says
                lambda name: cast("socket.socket", object()) if name == "sslcontext" else ends[0]
            )
        self.connection = SseConnection(
            cast("asyncio.Transport", self.transport),
            Turns(time.monotonic).crowd,
            address="192.0.2.1",
            user_agent="a" * 300,
        )
        self.session = NotingSession()
        self.connection.session = cast("Session", self.session)


@pytest.fixture
def stream(ends: Ends) -> Stream:
    return Stream(ends)


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_bytes_behind_its_request_mean_nothing(stream: Stream) -> None:
    """However many, and whatever they look like; so no reading is ever paused for them."""
    for data in (b"x", b"GET / HTTP/1.1\r\n\r\n", b"x" * 100_000):
        stream.connection.data_received(data)
    assert not stream.connection.unread
    assert (stream.session.told, stream.transport.closing) == ([], False)


async def test_a_peer_that_sends_no_more_ends_its_stream(stream: Stream) -> None:
    assert stream.connection.eof_received() is True
    await turns()
    assert stream.transport.closing


async def test_behind_tls_the_transport_ends_it(ends: Ends) -> None:
    stream = Stream(ends, tls=True)
    assert stream.connection.eof_received() is False
    await turns()
    assert stream.transport.closing


async def test_the_end_of_a_stream_is_told_to_its_session_once(stream: Stream) -> None:
    stream.connection.connection_lost(ConnectionResetError())
    await turns()
    stream.connection.connection_lost(None)
    await turns()
    assert stream.session.told == ["apart", (1006, "connection lost")]
    assert stream.connection.session is None


@pytest.mark.parametrize("room", [0, 1, 4])
def test_a_frame_that_the_kernel_takes_in_part_is_finished_by_the_transport(
    stream: Stream, ends: Ends, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing comes between the parts: until the transport has sent the rest it takes nothing."""
    monkeypatch.setattr("hub.transports.stream.os.write", lambda _fd, data: min(room, len(data)))
    connection = stream.connection
    assert connection.send(b"frame") == room
    connection.pause_writing()
    connection.finish(b"frame"[room:])
    assert stream.transport.written == [b"frame"[room:]]
    assert connection.send(b"next") == 0
    connection.resume_writing()
    assert stream.session.told[-1] == "writable"
    assert connection.send(b"next") == min(room, 4)


def test_a_peer_that_pauses_holds_nothing_back_twice(stream: Stream, ends: Ends) -> None:
    for _ in range(3):
        stream.connection.pause_writing()
        assert stream.connection.send(b"x") == 0
        stream.connection.resume_writing()
        assert stream.connection.send(b"x") == 1
    assert ends[1].recv(100) == b"xxx"
    assert has_nothing(ends[1])


def test_an_sse_connection_answers_no_pings_and_knows_its_peer(stream: Stream) -> None:
    assert (stream.connection.transport, stream.connection.answers_pings) == ("sse", False)
    assert stream.connection.ping(b"1") == b""
    assert (stream.connection.address, stream.connection.user_agent) == ("192.0.2.1", "a" * 200)


@pytest.mark.parametrize("origin", [None, "https://shop.example"])
def test_the_head_of_a_stream_is_kept_by_no_proxy_and_ends_with_the_connection(
    origin: str | None,
) -> None:
    head = response_head(origin)
    start, _, rest = head.partition(b"\r\n\r\n")
    lines = start.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert rest == FIRST_FIELD == b"retry: 1000\n"
    fields = dict(line.split(b": ", 1) for line in lines[1:])
    assert fields[b"Connection"] == b"close"
    assert b"Content-Length" not in fields
    assert b"no-transform" in fields[b"Cache-Control"]
    assert (b"Access-Control-Allow-Origin" in fields) is (origin is not None)
    assert set(response_headers(origin)) <= set(fields.items())
