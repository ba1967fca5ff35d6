"""A WebSocket that is refused behind its handshake is read no more, and ends with its peer."""

import asyncio

import pytest

from hub.transports.connection import context as contexts
from hub.transports.connection.door import Refusal
from hub.wire.websocket import SWITCHING, close_frame, is_close_frame
from tests.support.frames import CLOSE as CLOSE_OPCODE
from tests.support.frames import UPGRADE, masked
from tests.transports.connection.rig import Rig, get, post

FAREWELL = SWITCHING + b"\r\n" + close_frame(4401, "no")
CLOSE = masked(b"\x0f\xa1", CLOSE_OPCODE)


def refused(rig: Rig, how: str) -> None:
    """Have the hub refuse the peer: by its first bytes, or behind the parser."""
    if how == "first bytes":
        rig.streams.judged = FAREWELL
        rig.receive(get("/ws?channel=a", UPGRADE))
    else:
        rig.streams.farewell = FAREWELL
        rig.receive(get("/ws?channel=a", UPGRADE), cut=9)
    assert rig.transport.written == FAREWELL


@pytest.fixture(params=["first bytes", "parser"])
async def parting(rig: Rig, request: pytest.FixtureRequest) -> Rig:
    """Its peer has the farewell; the hub sends nothing more and still reads."""
    refused(rig, request.param)
    assert (rig.transport.eof, rig.transport.ended) == (True, False)
    assert rig.connection in rig.sockets.http
    return rig


def to_hub(rig: Rig, data: bytes) -> None:
    rig.transport.protocol.data_received(data)
    rig.end_turn()


async def test_the_peers_close_frame_ends_it(parting: Rig) -> None:
    to_hub(parting, CLOSE)
    assert parting.transport.ended
    assert not parting.sockets.http


async def test_bytes_before_that_are_no_request_and_no_command(parting: Rig) -> None:
    for data in (masked(b'{"op":"subscribe"}'), post("a", b"1"), b"\x88", b"\x88\x80"):
        to_hub(parting, data)
        assert not parting.transport.ended
    to_hub(parting, CLOSE)
    assert parting.transport.ended
    assert parting.transport.written == FAREWELL
    assert parting.published == []


async def test_more_than_a_peer_says_at_once_is_not_read(parting: Rig) -> None:
    to_hub(parting, bytes(64 * 1024))
    assert not parting.transport.paused
    to_hub(parting, b"1")
    assert parting.transport.paused
    to_hub(parting, b"1")
    assert not parting.transport.ended


async def test_the_peers_end_ends_it(parting: Rig) -> None:
    assert not parting.transport.protocol.eof_received()
    parting.transport.close()
    assert not parting.sockets.http


async def test_a_peer_that_stays_is_ended_by_the_deadline_it_had(parting: Rig) -> None:
    parting.wait(11)
    assert parting.transport.ended
    assert parting.transport.written == FAREWELL
    assert not parting.sockets.http


async def test_the_listeners_end_is_its_end(parting: Rig) -> None:
    parting.connection.leave_after_next()
    parting.connection.shut_down()
    parting.wait(11)
    assert parting.transport.ended
    assert parting.transport.written == FAREWELL


@pytest.mark.parametrize("how", ["first bytes", "parser"])
async def test_a_peer_that_does_not_take_the_farewell_is_cut_off(rig: Rig, how: str) -> None:
    rig.transport.room = 5
    if how == "first bytes":
        rig.streams.judged = FAREWELL
    else:
        rig.streams.farewell = FAREWELL
    rig.receive(get("/ws", UPGRADE), cut=None if how == "first bytes" else 9)
    assert rig.transport.written == FAREWELL[:5]
    rig.wait(3)
    rig.wait(31)
    rig.wait(31)
    assert rig.transport.aborted
    assert not rig.sockets.http


async def test_no_reader_is_made_for_a_peer_that_its_first_bytes_refuse(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise AssertionError("a reader was made")

    monkeypatch.setattr(contexts, "RequestReader", fails)
    refused(rig, "first bytes")
    to_hub(rig, CLOSE)
    assert rig.transport.ended


async def test_a_refused_handshake_has_each_that_follows_looked_at(rig: Rig) -> None:
    door = rig.context.door
    handshake = get("/ws", UPGRADE)
    rig.streams.judged = FAREWELL
    assert isinstance(door.refusal("192.0.2.7", None, handshake), Refusal)
    rig.streams.judged = None
    assert all(door.refusal("192.0.2.7", None, handshake) is not None for _ in range(200))


@pytest.mark.parametrize("size", [0, 2, 125])
def test_a_close_frame_is_told_from_other_bytes(size: int) -> None:
    frame = masked(b"x" * size, CLOSE_OPCODE)
    assert is_close_frame(frame)
    for other in (frame[:-1], frame + b"1", b"", masked(b"x" * size), frame[1:]):
        assert not is_close_frame(other)


def crowd_of_first_reads(rig: Rig, count: int) -> int:
    """Have `count` connections bring their first bytes in one turn; return how many were read."""
    rig.streams.judged = FAREWELL
    begin = rig.streams.judge
    read = 0

    def judge(stream: object, request: object) -> object:
        nonlocal read
        read += 1
        rig.now += 0.00005
        return begin(stream, request)  # type: ignore[arg-type]

    rig.streams.judge = judge  # type: ignore[assignment, method-assign]
    for _ in range(count):
        rig.connect()
        rig.connection.data_received(get("/ws", UPGRADE))
    return read


async def test_first_reads_have_their_turns(rig: Rig) -> None:
    """Of a thousand that come in one turn of the loop, some are looked at in it."""
    rig.context.door._looks_at_each = 10_000
    assert crowd_of_first_reads(rig, 1000) < 20
    assert len(rig.turns) > 900
    while len(rig.turns):
        await asyncio.sleep(0)
        rig.end_turn()
    assert len(rig.sockets.http) >= 1000
