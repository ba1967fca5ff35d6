"""Bytes of a WebSocket peer to events: the same as another implementation reads, and bounded."""

import tracemalloc
import zlib
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from hub.errors import TooLargeError
from hub.transports.inbound import (
    INFLATED_BYTES,
    MAX_FRAGMENTS,
    CloseFrame,
    FrameError,
    Inbound,
    PingFrame,
    Seen,
    lone_message,
)
from tests.support.frames import CLOSE, PING, PONG, TEXT, masked

LIMIT = 1000
CONTINUATION, RSV1 = 0x0, 0x40
TAIL = b"\x00\x00\xff\xff"
TOO_LARGE = 1009


def packed(data: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return (deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def read_all(inbound: Inbound) -> list[object]:
    """Returns the events that can be read now; a broken protocol ends them with its close code."""
    found: list[object] = []
    while True:
        try:
            event = inbound.read()
        except FrameError as error:
            return [*found, int(error.code)]
        except TooLargeError:
            return [*found, TOO_LARGE]
        if event is None:
            return found
        if event is not Seen.FRAGMENT:
            found.append(event)
        if isinstance(event, CloseFrame):
            return found


def read_pieces(pieces: list[bytes], *, deflate: bool = False) -> list[object]:
    inbound, found = Inbound(deflate=deflate, max_bytes=LIMIT), list[object]()
    for piece in pieces:
        inbound.feed(piece)
        found += read_all(inbound)
        if found and isinstance(found[-1], int | CloseFrame):
            break
    return found


# -- the same as others read -----------------------------------------------------------------

PAYLOADS = st.binary(max_size=40) | st.binary(min_size=120, max_size=300)
CLOSES = st.just(b"") | st.builds(
    lambda code, reason: code.to_bytes(2) + reason,
    st.sampled_from([1000, 1001, 1004, 1005, 1006, 1011, 1015, 2999, 3000, 4999, 5000]),
    st.sampled_from([b"", b"bye", b"\xff"]),
)
FRAMES = st.one_of(
    st.builds(masked, PAYLOADS, st.sampled_from([TEXT, CONTINUATION]), fin=st.booleans()),
    st.builds(masked, PAYLOADS.map(packed), st.just(TEXT), bits=st.just(RSV1)),
    st.builds(lambda data: _in_parts(packed(data)), PAYLOADS),
    st.builds(masked, st.binary(max_size=125), st.sampled_from([PING, PONG])),
    st.builds(masked, CLOSES, st.just(CLOSE)),
)
BROKEN = st.one_of(
    st.builds(
        masked,
        st.binary(max_size=130),
        st.integers(0, 15),
        fin=st.booleans(),
        bits=st.sampled_from([0, 0, 0x10, 0x20, 0x40]),
    ),
    st.just(bytes((0x81, 2)) + b"{}"),
    st.just(masked(b"x" * (LIMIT + 1))),
    st.just(masked(packed(b"x" * (LIMIT + 1)), bits=RSV1)),
    st.just(masked(b"\xff\xff\xff\xff", bits=RSV1)),
)
STREAMS = st.lists(FRAMES | BROKEN, max_size=6).map(b"".join)


def _in_parts(data: bytes) -> bytes:
    half = len(data) // 2
    first = masked(data[:half], TEXT, fin=False, bits=RSV1)
    return first + masked(b"between", PING) + masked(data[half:], CONTINUATION)


def reference(stream: bytes, *, deflate: bool) -> list[object]:
    """Returns what websockets' own protocol reads."""
    protocol = ServerProtocol(state=State.OPEN, max_size=LIMIT)
    if deflate:
        protocol.extensions = [PerMessageDeflate(True, True, 15, 15)]
    protocol.receive_data(stream)
    found, parts, binary = list[object](), b"", False
    for event in protocol.events_received():
        assert isinstance(event, Frame)
        match event.opcode:
            case Opcode.TEXT | Opcode.CONT | Opcode.BINARY:
                if event.opcode is Opcode.BINARY:
                    binary = True
                parts += bytes(event.data)
                if event.fin:
                    found.append(Seen.BINARY if binary else parts)
                    parts, binary = b"", False
            case Opcode.PING:
                found.append(PingFrame(bytes(event.data)))
            case Opcode.PONG:
                found.append(Seen.PONG)
            case Opcode.CLOSE:
                closed = protocol.close_rcvd
                assert closed is not None
                found.append(CloseFrame(closed.code, closed.reason, bytes(event.data)))
    if protocol.parser_exc is not None and protocol.close_sent is not None:
        found.append(protocol.close_sent.code)
    return found


@given(STREAMS, st.lists(st.integers(0, 2000)), st.booleans())
def test_another_implementation_reads_the_same_frames(
    stream: bytes, cuts: list[int], deflate: bool
) -> None:
    """Wherever the network cuts it. A binary frame ends the comparison: it is not taken here.

    So does a close frame within a message: RFC 6455 section 5.4 allows it, the other does not.
    """
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    pieces = [stream[a:b] for a, b in pairwise(places)]
    expected = reference(stream, deflate=deflate)
    found = read_pieces(pieces, deflate=deflate)
    if Seen.BINARY in found:
        found = found[: found.index(Seen.BINARY)]
        expected = expected[: len(found)]
    if found and isinstance(found[-1], CloseFrame | int) and isinstance(expected[-1], int):
        # A frame with two faults is refused for either.
        found.pop()
        expected.pop()
    assert found == expected


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 6, 7])
def test_a_stream_cut_at_every_place_reads_the_same(cut: int) -> None:
    stream = masked(b"{}") + masked(b"x" * 200) + masked(b"p", PING) + masked(b"", CLOSE)
    pieces = [stream[at : at + cut] for at in range(0, len(stream), cut)]
    assert read_pieces(pieces) == [b"{}", b"x" * 200, PingFrame(b"p"), CloseFrame(1005, "", b"")]


# -- limits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1])
@pytest.mark.parametrize("way", ["whole", "fragments", "packed", "packed fragments"])
def test_a_message_may_be_as_large_as_the_limit_and_not_larger(size: int, way: str) -> None:
    """Whole, in fragments, and once inflated."""
    data = b"x" * size
    sent = packed(data) if "packed" in way else data
    bits = RSV1 if "packed" in way else 0
    if "fragments" in way:
        stream = masked(sent[:5], TEXT, fin=False, bits=bits) + masked(sent[5:], CONTINUATION)
    else:
        stream = masked(sent, bits=bits)
    assert read_pieces([stream], deflate=True) == [data if size == LIMIT else TOO_LARGE]


def test_a_frame_that_announces_too_much_is_refused_before_it_came() -> None:
    assert read_pieces([bytes((0x81, 0xFF)) + (1 << 40).to_bytes(8)]) == [TOO_LARGE]


def test_fragments_are_limited_in_number_too() -> None:
    """Empty ones cost the peer nothing."""
    inbound = Inbound(deflate=False, max_bytes=LIMIT)
    inbound.feed(
        masked(b"", TEXT, fin=False) + masked(b"", CONTINUATION, fin=False) * MAX_FRAGMENTS
    )
    assert read_all(inbound) == [TOO_LARGE]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, LIMIT - 1, LIMIT])
def test_a_message_alone_in_a_read_needs_no_parser(size: int) -> None:
    """A message that is cut anywhere, or has a byte behind it, needs a parser."""
    payload = bytes(range(32, 127)) * 11
    whole = masked(payload[:size])
    assert lone_message(whole, LIMIT) == payload[:size]
    assert lone_message(whole + b"\x81", LIMIT) is None
    for cut in range(len(whole)):
        assert lone_message(whole[:cut], LIMIT) is None


@given(st.one_of(STREAMS, st.binary(max_size=20)))
@example(masked(b"x" * (LIMIT + 1)))
@example(masked(b"{}", PING))
@example(masked(b"{}", bits=RSV1))
@example(masked(b"{}", fin=False))
@example(b"\x81\x02{}")
@example(b"\x81\xff" + (20).to_bytes(8) + bytes(24))
def test_the_parser_reads_the_frames_that_are_read_without_it(stream: bytes) -> None:
    if (message := lone_message(stream, LIMIT)) is not None:
        inbound = Inbound(deflate=True, max_bytes=LIMIT)
        inbound.feed(stream)
        assert (inbound.read(), inbound.idle) == (message, True)


def test_nothing_is_looked_at_before_it_is_asked_for() -> None:
    """The caller decides how much of a read is worked off."""
    inbound = Inbound(deflate=False, max_bytes=LIMIT)
    inbound.feed(masked(b"{}") * 3)
    assert inbound.read() == b"{}"
    assert inbound.unread_bytes == 2 * len(masked(b"{}"))
    inbound.feed(masked(b"[]"))
    assert read_all(inbound) == [b"{}", b"{}", b"[]"]
    assert inbound.idle


@pytest.mark.parametrize("way", ["fragment", "frame", "behind a large read"])
def test_an_unfinished_message_costs_the_bytes_that_were_sent(way: str) -> None:
    """A fragment that would inflate to 260 KB stays as it came, and holds nothing else."""
    limit = 266_240
    bomb = packed(b"x" * 260_000)[:280]
    stream = {
        "fragment": masked(bomb, TEXT, fin=False, bits=RSV1),
        "frame": masked(b"x" * 100_000)[:280],
        "behind a large read": masked(b"x" * 1000) * 200 + masked(b"x" * 1000)[:280],
    }[way]
    tracemalloc.start()
    try:
        kept = []
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            inbound = Inbound(deflate=True, max_bytes=limit)
            inbound.feed(bytes(bytearray(stream)))
            while inbound.read() is not None:
                pass
            kept.append(inbound)
        cost = (tracemalloc.get_traced_memory()[0] - before) / len(kept)
    finally:
        tracemalloc.stop()
    assert not kept[0].idle
    assert cost < 1500


def test_a_large_frame_in_small_pieces_is_not_copied_again_for_each() -> None:
    """Else a peer that sends byte by byte makes the hub copy gigabytes."""
    inbound = Inbound(deflate=False, max_bytes=1 << 20)
    frame = masked(b"x" * 100_000)
    inbound.feed(frame[:10])
    assert inbound.read() is None
    inbound.feed(frame[10:20])
    kept = inbound._data
    for at in range(20, len(frame), 1000):
        assert inbound.read() is None
        inbound.feed(frame[at : at + 1000])
        assert inbound._data is kept
    assert inbound.read() == b"x" * 100_000


def test_when_only_the_close_frame_matters_nothing_else_is_unpacked() -> None:
    """Fragments of a message that began before, too; the framing still has to hold."""
    inbound = Inbound(deflate=True, max_bytes=LIMIT)
    inbound.feed(masked(b"x", TEXT, fin=False))
    assert inbound.read() is Seen.FRAGMENT
    inbound.look_only_for_close()
    assert inbound.idle
    rubbish = masked(b"\xff\xff\xff\xff", bits=RSV1)
    inbound.feed(masked(b"y", CONTINUATION) + rubbish + masked(b"\x03\xe8", CLOSE))
    assert read_all(inbound) == [CloseFrame(1000, "", b"\x03\xe8")]
    inbound.feed(masked(b"", 0x3))
    assert read_all(inbound) == [1002]


@pytest.mark.parametrize("way", ["frame", "fragments"])
def test_a_long_compressed_message_is_inflated_in_steps(way: str) -> None:
    """Blocks that hold nothing cost more than what they inflate to: 260 KiB of them, 60 ms."""
    nothing = b"\x00" + TAIL
    compressed = nothing * 10_000 + packed(b"[]")
    inbound = Inbound(deflate=True, max_bytes=266_240)
    if way == "frame":
        inbound.feed(masked(compressed, bits=RSV1))
    else:
        begin = masked(compressed[:9_000], TEXT, fin=False, bits=RSV1)
        inbound.feed(begin + masked(compressed[9_000:], CONTINUATION))
        assert inbound.read() is Seen.FRAGMENT
    inbound.feed(masked(b"{}"))
    steps = 0
    while (event := inbound.read()) is Seen.FRAGMENT:
        steps += 1
        assert not inbound.idle
    assert steps == len(compressed) // INFLATED_BYTES
    assert event == b"[]"
    assert inbound.read() == b"{}"
    assert inbound.idle


def test_a_message_that_is_half_inflated_is_dropped_for_the_close_frame() -> None:
    inbound = Inbound(deflate=True, max_bytes=266_240)
    inbound.feed(masked((b"\x00" + TAIL) * 10_000, bits=RSV1) + masked(b"\x03\xe8", CLOSE))
    assert inbound.read() is Seen.FRAGMENT
    inbound.look_only_for_close()
    assert inbound.read() == CloseFrame(1000, "", b"\x03\xe8")
    assert inbound.idle
