"""Answers leave together at the end of the loop's turn, in order, and none is forgotten."""

from collections.abc import Callable
from typing import Any

import pytest

from hub.transports.connection.connection import Connection
from hub.transports.connection.outgoing import AnswerWriter, WriteTurn
from tests.transports.connection.rig import FakeTransport, Rig, get, post

OK = [200]


def come(rig: Rig, data: bytes) -> None:
    """A read whose turn of the loop has not ended yet."""
    rig.connection.data_received(data)


async def test_an_answer_leaves_at_the_end_of_the_turn(rig: Rig) -> None:
    come(rig, post("a", b"1"))
    assert rig.published == [b"1"]
    assert rig.transport.written == b""

    rig.end_turn()

    assert rig.answers == OK


async def test_answers_of_all_connections_leave_behind_all_reads(rig: Rig) -> None:
    first = rig.transport
    come(rig, post("a", b"1"))
    rig.connect()
    come(rig, post("a", b"2"))
    assert first.written == rig.transport.written == b""

    rig.end_turn()

    assert first.written.count(b" 200 OK") == rig.transport.written.count(b" 200 OK") == 1


async def test_reads_of_one_turn_are_answered_in_their_order_in_one_write(rig: Rig) -> None:
    writes: list[bytes] = []
    rig.transport.write = writes.append  # type: ignore[assignment]
    for number in range(3):
        come(rig, post(f"c{number}", b"1"))

    rig.end_turn()

    (written,) = writes
    places = [written.index(b'"channel":"c%d"' % number) for number in range(3)]
    assert places == sorted(places)


async def test_an_answer_that_waits_leaves_before_one_that_closes(rig: Rig) -> None:
    come(rig, post("a", b"1"))
    come(rig, post("a", b"2", "Connection: close\r\n"))

    assert rig.answers == [200, 200]
    rig.end_turn()
    assert rig.answers == [200, 200]
    assert rig.transport.closing


async def test_an_answer_that_waits_leaves_before_that_of_a_task(rig: Rig) -> None:
    come(rig, post("a", b"1"))
    come(rig, post("slow", b"2"))
    rig.registry.gate.set()

    await rig.settle()

    assert [b"slow" in body for _, body in rig.whole_answers()] == [False, True]


async def test_a_stream_begins_behind_the_answer_that_waits(rig: Rig) -> None:
    come(rig, post("a", b"1"))
    come(rig, get("/sse?channel=a"))

    assert rig.answers == OK
    assert len(rig.streams.opened) == 1
    rig.end_turn()
    assert rig.answers == OK


async def test_a_peer_that_ends_its_side_in_the_same_turn_gets_its_answer(rig: Rig) -> None:
    come(rig, post("a", b"1"))

    waits_for_more = rig.connection.eof_received()

    assert not waits_for_more
    assert rig.answers == OK


async def test_a_peer_that_ends_its_side_and_reads_nothing_is_waited_for(rig: Rig) -> None:
    rig.transport.room = 10
    come(rig, post("a", b"1"))

    assert rig.connection.eof_received()
    rig.transport.drain()
    assert rig.answers == OK
    assert rig.transport.closing


async def test_a_listener_that_stops_in_the_same_turn_writes_the_answer_first(rig: Rig) -> None:
    come(rig, post("a", b"1"))

    rig.connection.shut_down()

    assert rig.answers == OK
    assert rig.transport.closing
    rig.end_turn()
    assert rig.answers == OK


@pytest.mark.parametrize("half", [b"", b"POST /api/pub"])
async def test_an_abort_in_the_same_turn_writes_the_answer_first(rig: Rig, half: bytes) -> None:
    come(rig, post("a", b"1") + half)

    rig.connection.abort()

    assert rig.answers == OK
    assert rig.transport.aborted


async def test_a_connection_lost_in_the_same_turn_is_not_written_to(rig: Rig) -> None:
    come(rig, post("a", b"1"))
    rig.connection.connection_lost(None)

    rig.end_turn()

    assert rig.transport.written == b""


async def test_a_write_that_is_not_taken_has_its_deadline(rig: Rig) -> None:
    rig.transport.room = 10
    come(rig, post("a", b"1"))
    rig.end_turn()
    assert rig.transport.paused, "what comes would only be held"

    rig.wait(rig.context.limits.write_timeout_seconds + 1)

    assert rig.transport.aborted


async def test_a_write_before_the_turns_end_that_is_not_taken_has_its_deadline_too(
    rig: Rig,
) -> None:
    """With so many connections that some are written to in the read that brought the request."""
    transports = []
    for _ in range(100):
        rig.connect()
        rig.transport.room = 10
        come(rig, post("a", b"1"))
        transports.append(rig.transport)
    rig.end_turn()
    assert all(transport.paused for transport in transports)

    rig.wait(rig.context.limits.write_timeout_seconds + 1)

    assert all(transport.aborted for transport in transports)


async def test_a_request_of_a_slow_peer_is_answered_once_it_reads(rig: Rig) -> None:
    rig.transport.room = 10
    come(rig, post("a", b"1"))
    rig.end_turn()
    come(rig, post("a", b"2"))
    assert rig.published == [b"1"], "its turn comes once the first answer is taken"

    rig.transport.drain()
    rig.end_turn()

    assert rig.answers == [200, 200]


async def test_answers_in_plenty_leave_before_the_turn_ends(rig: Rig) -> None:
    come(rig, post("a", b"1") * 100)

    assert len(rig.answers) > 60
    rig.end_turn()
    assert rig.answers == OK * 100


# -- hub.transports.connection.outgoing.WriteTurn ----------------------------------------------


class Loop:
    """Has callbacks that were put off."""

    def __init__(self) -> None:
        self.deferred: list[Callable[[], None]] = []
        self.turn = WriteTurn(self.deferred.append)

    def end_turn(self) -> None:
        now, self.deferred[:] = self.deferred[:], []
        for callback in now:
            callback()


def test_a_turn_ends_once_for_all() -> None:
    loop, written = Loop(), list[int]()
    for number in range(3):
        loop.turn.add(lambda number=number: written.append(number))  # type: ignore[misc]

    assert len(loop.deferred) == 1
    loop.end_turn()

    assert written == [0, 1, 2]
    assert not loop.deferred


def test_of_very_many_the_first_is_not_kept_waiting_for_all() -> None:
    loop, written = Loop(), list[int]()
    for number in range(1000):
        loop.turn.add(lambda number=number: written.append(number))  # type: ignore[misc]
        assert len(written) >= number - 64

    loop.end_turn()

    assert written == list(range(1000))


def test_a_write_that_fails_leaves_the_others_theirs() -> None:
    loop, written = Loop(), list[str]()

    def fail() -> None:
        raise OSError("this one's own matter")

    for write in (lambda: written.append("a"), fail, lambda: written.append("b")):
        loop.turn.add(write)
    with pytest.raises(OSError, match="own matter"):
        loop.end_turn()
    assert written == ["a"]

    loop.end_turn()

    assert written == ["a", "b"]


class OverTls(FakeTransport):
    """Takes the whole of each write, and notes how much it holds at most."""

    most = 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return object() if name == "sslcontext" else super().get_extra_info(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert (high, low) == (1, 0)

    def can_write_eof(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        super().write(data)
        self.most = max(self.most, len(data), len(self.waiting))


PIECE = 64 * 1024
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000


def connected(rig: Rig, transport: FakeTransport) -> AnswerWriter:
    """A connection over TLS, and what writes its answers."""
    rig.transport = transport
    rig.connection = transport.protocol = Connection(rig.context)
    rig.connection.connection_made(transport)
    rig.connection.begin()
    return rig.connection._outgoing


async def test_over_tls_a_large_answer_leaves_in_pieces(rig: Rig) -> None:
    """OpenSSL keeps a buffer as large as the most that it was given at a time."""
    outgoing = connected(rig, transport := OverTls())
    outgoing.add(LARGE)
    assert (transport.written, transport.most) == (LARGE, PIECE)


@pytest.mark.parametrize("closes", [False, True])
async def test_over_tls_the_rest_waits_for_the_peer_and_is_counted(
    rig: Rig, *, closes: bool
) -> None:
    outgoing = connected(rig, transport := OverTls())
    transport.room = 100_000
    outgoing.add(LARGE)
    outgoing.add(b"the next" * 1000)
    size = len(LARGE) + 8000
    assert (outgoing.unsent_bytes, outgoing.blocked) == (size - 100_000, True)
    if closes:
        outgoing.close()
    for _ in range(30):
        transport.room = 0
        transport.drain(len(transport.waiting))
    assert (transport.written, transport.most) == (LARGE + b"the next" * 1000, PIECE)
    assert (outgoing.unsent_bytes, outgoing.blocked) == (0, False)
    assert transport.closing is closes


class StillShakingHands(OverTls):
    """The end of its handshake is still on its way when the connection is made."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        super().set_write_buffer_limits(high, low)
        self.protocol.pause_writing()


def connect_over_tls(rig: Rig) -> None:
    rig.transport = StillShakingHands()
    rig.connection = rig.transport.protocol = Connection(rig.context)
    rig.connection.connection_made(rig.transport)


async def test_a_transport_that_pauses_as_the_connection_is_made_is_written_to_later(
    rig: Rig,
) -> None:
    connect_over_tls(rig)
    assert rig.connection in rig.sockets.unsent
    rig.transport.drain()
    assert rig.connection not in rig.sockets.unsent
    rig.receive(post("a", b"1"))
    assert rig.answers == OK


async def test_a_connection_too_many_is_told_so_over_tls_as_well(rig: Rig) -> None:
    rig.sockets.crowded = True
    connect_over_tls(rig)
    rig.transport.drain()
    rig.receive(get("/api/nodes"))
    assert rig.answers == [503]


async def test_an_answer_far_too_many_is_cut_off_over_tls_as_well(rig: Rig) -> None:
    rig.sockets.overrun = True
    connect_over_tls(rig)
    assert rig.transport.aborted
    assert rig.connection not in rig.sockets.http
