"""Counting without parsing: however a stream is cut into chunks, the counts are the stream's."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.bench.stream_check import KnownChunks, StreamCheck

HEARTBEAT = b'{"op":"heartbeat"}'


def text_frame(body: bytes) -> bytes:
    """RFC 6455 section 5.2, unmasked."""
    if len(body) < 126:
        return b"\x81" + bytes([len(body)]) + body
    return b"\x81\x7e" + len(body).to_bytes(2, "big") + body


def message(offset: int, padding: int = 0) -> bytes:
    data = '{"at":"0000000000000000007","pad":"%s"}' % ("x" * padding)
    return f'{{"op":"message","channel":"bench","offset":{offset},"data":{data}}}'.encode()


def gap(first: int, last: int) -> bytes:
    head = '{"op":"gap","channel":"bench","epoch":"k3f9","from":%d,"to":%d,"reason":"slow"}'
    return (head % (first, last)).encode()


def ping(payload: bytes) -> bytes:
    return b"\x89" + bytes([len(payload)]) + payload


def feed(check: StreamCheck, chunks: Iterable[bytes]) -> list[bytes]:
    """Hand over chunks the way a tap does; return the pings that were seen."""
    pings, rest = [], b""
    for chunk in chunks:
        # Stale bytes of another connection lie behind the end, as in the shared buffer.
        buffer = bytearray(rest + chunk + b'"offset":999,"op":"gap"\x89\x00}')
        end = len(rest) + len(chunk)
        cut = check.take(buffer, end)
        rest = bytes(buffer[cut:end])
        if check.ping is not None:
            pings.append(check.ping)
            check.ping = None
    return pings


@dataclass
class Truth:
    """The counts that a frame-by-frame reading of the same stream gives."""

    stream: bytes = b""
    received: int = 0
    duplicates: int = 0
    skipped: int = 0
    gaps: int = 0
    announced: int = 0
    last: int = 0
    pings: list[bytes] = field(default_factory=list)

    def add_message(self, offset: int, padding: int, frame: bool) -> None:
        body = message(offset, padding)
        self.stream += text_frame(body) if frame else b"data: " + body + b"\n\n"
        self.received += 1
        if offset <= self.last:
            self.duplicates += 1
        else:
            self.skipped += offset - self.last - 1
            self.last = offset

    def add_gap(self, length: int, frame: bool) -> None:
        body = gap(self.last + 1, self.last + length)
        self.stream += text_frame(body) if frame else b"event: gap\ndata: " + body + b"\n\n"
        self.gaps += 1
        self.announced += length


@st.composite
def truths(draw: st.DrawFn) -> Truth:
    """Streams in which messages repeat, are left out, and stand between other frames."""
    truth, frame = Truth(), draw(st.booleans())
    for _ in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(["next", "next", "next", "any", "gap", "quiet", "ping"]))
        if kind == "next":
            truth.add_message(truth.last + 1, draw(st.integers(0, 700)), frame)
        elif kind == "any":
            truth.add_message(draw(st.integers(1, 130)), draw(st.integers(0, 3)), frame)
        elif kind == "gap":
            truth.add_gap(draw(st.integers(1, 200)), frame)
        elif kind == "quiet" or not frame:
            truth.stream += text_frame(HEARTBEAT) if frame else b": heartbeat\n\n"
        else:
            # Shorter than a needle, as a hub's are: one that spells out a needle would be counted.
            truth.pings.append(draw(st.binary(max_size=8)))
            truth.stream += ping(truth.pings[-1])
    return truth


@given(truths(), st.lists(st.integers(1, 60), min_size=1, max_size=40))
def test_counts_do_not_depend_on_how_the_stream_is_cut(truth: Truth, sizes: list[int]) -> None:
    """Messages, gaps and their ranges are counted once each, in chunks of any sizes."""
    check = StreamCheck()

    feed(check, pieces(truth.stream, sizes))

    assert (check.received, check.last) == (truth.received, truth.last)
    assert (check.gaps, check.announced) == (truth.gaps, truth.announced)


@given(truths(), st.lists(st.integers(1, 60), min_size=1, max_size=40))
def test_duplicates_and_holes_are_told_when_chunks_are_small(
    truth: Truth, sizes: list[int]
) -> None:
    """Where a chunk holds one message, a duplicate cannot hide a hole, nor a hole a duplicate."""
    check = StreamCheck()

    feed(check, pieces(truth.stream, sizes))

    assert (check.duplicates, check.skipped) == (truth.duplicates, truth.skipped)


COUNTS = ("received", "last", "duplicates", "skipped", "gaps", "announced", "quiet")


@given(truths(), truths(), st.lists(st.integers(1, 400), min_size=1, max_size=20))
def test_chunks_that_connections_share_change_no_count(
    one: Truth, other: Truth, sizes: list[int]
) -> None:
    """A chunk that another connection had already counts as it does for a connection alone."""
    known = KnownChunks()
    for truth in (one, other, one, other):
        alone, beside = StreamCheck(), StreamCheck(known)

        pings = feed(alone, pieces(truth.stream, sizes))
        seen = feed(beside, pieces(truth.stream, sizes))

        assert [getattr(beside, name) for name in COUNTS] == [
            getattr(alone, name) for name in COUNTS
        ]
        assert seen == pings


def test_a_chunk_that_is_as_long_as_a_known_one_and_differs_in_a_byte_is_looked_at() -> None:
    """Three messages that came whole to one connection; to the other a hole came in their place."""
    known, whole = KnownChunks(), [text_frame(message(offset)) for offset in (1, 2, 3)]
    one, other = StreamCheck(known), StreamCheck(known)
    feed(one, [b"".join(whole)])

    feed(other, [whole[0] + whole[2] + text_frame(message(4))])

    assert (one.received, one.skipped) == (3, 0)
    assert (other.received, other.last, other.skipped) == (3, 4, 1)


def test_the_same_chunk_again_is_all_duplicates() -> None:
    """A known chunk is counted anew behind another offset: behind itself it is a repetition."""
    known, chunk = KnownChunks(), text_frame(message(1)) + text_frame(message(2))
    feed(StreamCheck(known), [chunk])
    check = StreamCheck(known)

    feed(check, [chunk, chunk])

    assert (check.received, check.duplicates) == (4, 2)


@given(truths(), st.integers(1, 5))
def test_the_newest_ping_of_a_chunk_is_seen_however_it_is_cut(truth: Truth, size: int) -> None:
    """No ping is made up, none is seen twice, and only one directly behind another may be left
    unanswered (RFC 6455 section 5.5.3 allows that)."""
    seen = feed(StreamCheck(), pieces(truth.stream, [size]))

    remaining = iter(truth.pings)
    assert all(payload in remaining for payload in seen)
    assert seen[-1:] == truth.pings[-1:]


def pieces(stream: bytes, sizes: list[int]) -> Iterable[bytes]:
    at = turn = 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        yield stream[at : at + size]
        at, turn = at + size, turn + 1


def test_a_needle_cut_at_any_byte_is_counted_once() -> None:
    """Two chunks, cut at every place of a stream with messages and a gap."""
    stream = b"".join(map(text_frame, (message(9), message(10), gap(11, 12), message(13))))
    for cut in range(1, len(stream)):
        check = StreamCheck()
        check.last = 8

        feed(check, (stream[:cut], stream[cut:]))

        assert (check.received, check.last, check.skipped) == (3, 13, 2), cut
        assert (check.gaps, check.announced) == (1, 2), cut


@pytest.mark.parametrize("padding", range(0x0189 - 110, 0x0189))
def test_a_length_that_looks_like_a_ping_is_none(padding: int) -> None:
    """One of these frames is 0x0189 = 393 bytes long, and 0x89 begins a ping."""
    frame = text_frame(message(1, padding))
    for cuts in (*([cut, len(frame)] for cut in range(1, 12)), [1]):
        check = StreamCheck()

        pings = feed(check, pieces(frame, cuts))

        assert (pings, check.received) == ([], 1), cuts


def test_a_chunk_of_many_messages_in_sequence_is_sound() -> None:
    """A thousand messages at once leave nothing to complain about."""
    check = StreamCheck()

    feed(check, [b"".join(text_frame(message(offset)) for offset in range(1, 1001))])

    assert (check.received, check.last) == (1000, 1000)
    assert (check.duplicates, check.skipped, check.quiet) == (0, 0, 0)


def test_chunks_without_a_message_count_as_signs_of_life() -> None:
    """Heartbeats and pings are told apart from messages."""
    check = StreamCheck()

    feed(check, [text_frame(HEARTBEAT), text_frame(message(1)), ping(b"1234")])

    assert check.quiet == 2
