"""Frames go straight to the kernel unless the transport still holds bytes; here
the transport only notes."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from typing import cast

import pytest

from hub.core.ports import NO_DESCRIPTOR
from hub.core.session.session import Session
from hub.transports.sse import SseConnection
from hub.transports.turns import Turns

Ends = tuple[socket.socket, socket.socket]
"""The hub's end of a connection and the peer's."""


class NotingTransport:
    """Owes `waiting` to a peer; `written` is what it was given to send."""

    def __init__(self, end: socket.socket, *, waiting: int = 0) -> None:
        self._end = end
        self._waiting = waiting
        self.written: list[bytes] = []
        self.closing = False

    def get_extra_info(self, name: str) -> socket.socket | None:
        return self._end if name == "socket" else None

    def set_protocol(self, protocol: object) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self._waiting

    def set_write_buffer_limits(self, high: int, low: int = 0) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closing = True

    def can_write_eof(self) -> bool:
        return False

    abort = close


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


def connection(transport: NotingTransport) -> SseConnection:
    given = cast("asyncio.Transport", transport)
    return SseConnection(given, Turns(time.monotonic).crowd, address="", user_agent="")


def has_nothing(peer: socket.socket) -> bool:
    try:
        return not peer.recv(100)
    except BlockingIOError:
        return True


def test_a_frame_goes_straight_to_the_kernel(ends: Ends) -> None:
    ours, theirs = ends
    transport = NotingTransport(ours)
    assert connection(transport).send(b"frame") == 5
    assert theirs.recv(100) == b"frame"
    assert not transport.written


def test_nothing_overtakes_what_the_transport_owes(ends: Ends) -> None:
    """Not while it is paused, although the kernel has room again; and afterwards it does."""
    ours, theirs = ends
    link = connection(NotingTransport(ours))
    link.pause_writing()
    assert link.send(b"frame") == 0
    assert has_nothing(theirs)
    link.resume_writing()
    assert link.send(b"frame") == 5
    assert theirs.recv(100) == b"frame"


def test_bytes_that_an_earlier_response_left_in_the_transport_go_first(ends: Ends) -> None:
    """On a connection that was reused."""
    ours, theirs = ends
    link = connection(NotingTransport(ours, waiting=1))
    assert link.send(b"frame") == 0
    assert has_nothing(theirs)


@pytest.mark.parametrize("end", ["close", "abort", "lost"])
def test_after_the_end_nothing_is_written_to_what_may_be_another_connection(
    ends: Ends, end: str
) -> None:
    """The kernel gives a descriptor's number to whoever comes next; also a late resume is none."""
    ours, theirs = ends
    link = connection(NotingTransport(ours))
    if end == "lost":
        link.connection_lost(None)
    elif end == "abort":
        link.abort()
    else:
        link.close(1000, "")
    link.resume_writing()
    assert link.send(b"frame") == 5
    assert has_nothing(theirs)


def test_frames_sent_under_a_cork_leave_in_one_write(ends: Ends) -> None:
    """In its order; afterwards each frame is a write again."""
    ours, theirs = ends
    link = connection(NotingTransport(ours))
    link.cork()
    assert (link.send(b"one"), link.send(b"two")) == (3, 3)
    assert has_nothing(theirs)
    assert link.uncork()
    assert theirs.recv(100) == b"onetwo"
    assert link.send(b"three") == 5
    assert theirs.recv(100) == b"three"


async def test_bytes_that_the_kernel_has_no_room_for_under_a_cork_are_finished(ends: Ends) -> None:
    ours, theirs = ends
    transport = NotingTransport(ours)
    link = connection(transport)
    with contextlib.suppress(BlockingIOError):
        while True:
            ours.send(b"x" * 1000)
    link.cork()
    link.send(b"gathered")
    assert not link.uncork()
    assert transport.written == [b"gathered"]
    assert not has_nothing(theirs)


def test_a_cork_gathers_a_bounded_number_of_bytes(ends: Ends) -> None:
    """Beyond that it lets out what it has, in order."""
    ours, theirs = ends
    link = connection(NotingTransport(ours))
    link.cork()
    link.send(b"a" * 40_000)
    link.send(b"b" * 40_000)
    assert theirs.recv(100_000).startswith(b"a" * 40_000)
    link.uncork()
    assert link.send(b"c") == 1


@pytest.mark.parametrize("end", ["close", "half_close"])
def test_gathered_frames_go_out_before_the_end(ends: Ends, end: str) -> None:
    ours, theirs = ends
    link = connection(NotingTransport(ours))
    link.cork()
    link.send(b"last words")
    if end == "close":
        link.close(1000, "")
    else:
        link.half_close()
    assert theirs.recv(100) == b"last words"
    assert link.uncork()
    assert link.send(b"more") == 4
    assert has_nothing(theirs)


def test_gathered_frames_are_dropped_with_the_connection(ends: Ends) -> None:
    ours, theirs = ends
    link = connection(NotingTransport(ours))
    link.cork()
    link.send(b"frame")
    link.connection_lost(None)
    assert link.uncork()
    assert has_nothing(theirs)


class StandingSession:
    """In step: its descriptor may be written to by others until it says that it stands apart."""

    def __init__(self, link: SseConnection) -> None:
        self.link = link
        link.session = cast("Session", self)
        self.in_step = True

    def stand_apart(self) -> None:
        self.in_step = False

    def lost(self, code: int, reason: str) -> None:
        assert not self.in_step, f"told of its end first: {code} {reason}"

    def on_writable(self) -> None:
        """Does nothing; a session may come into step again here."""


@pytest.mark.parametrize("end", ["pause_writing", "close", "half_close", "abort", "lost"])
def test_a_session_stands_apart_before_its_descriptor_must_not_be_written_to(
    ends: Ends, end: str
) -> None:
    """Whatever ends that: the transport holds something back, or the number is free soon."""
    link = connection(NotingTransport(ends[0]))
    session = StandingSession(link)
    assert link.descriptor == ends[0].fileno()
    match end:
        case "lost":
            link.connection_lost(None)
        case "close":
            link.close(1000, "")
        case _:
            getattr(link, end)()
    assert not session.in_step
    assert link.descriptor == (NO_DESCRIPTOR if end == "pause_writing" else None)


def test_a_descriptor_is_not_to_be_had_while_a_write_is_gathered(ends: Ends) -> None:
    link = connection(NotingTransport(ends[0]))
    link.cork()
    assert link.descriptor == NO_DESCRIPTOR
    link.uncork()
    assert link.descriptor == ends[0].fileno()


def test_behind_tls_there_is_no_descriptor(ends: Ends) -> None:
    """Only the transport may write there."""
    transport = NotingTransport(ends[0])
    transport.get_extra_info = (  # type: ignore[method-assign]  # what a TLS transport says
        lambda name: cast("socket.socket", object()) if name == "sslcontext" else ends[0]
    )
    assert connection(transport).descriptor is None


def test_the_kernel_has_no_numbers_of_a_connection_whose_socket_has_gone(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind TLS it goes a turn before the end is told, and heartbeats may ask meanwhile."""
    transport = NotingTransport(ends[0])
    made = connection(transport)
    monkeypatch.setattr(transport, "get_extra_info", lambda _name: None)
    assert (made.acknowledged_bytes(), made.unsent_bytes()) == (0, 0)
