"""The reader against a strict reference, and its limits."""

import gc
from pathlib import Path

import h11
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hub.errors import HubError
from hub.transports.connection.reader import RequestReader
from hub.transports.http.known import KnownHead
from hub.transports.request import Request
from tests.transports.connection.rig import Rig

LIMIT = 1024
Seen = tuple[str, str, bytes]


class Collector:
    """Collects in order what a reader has read."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.bodies: list[bytes] = []
        self.whole = 0
        self.errors: list[HubError] = []

    def head_read(self, request: Request) -> bool:
        self.requests.append(request)
        self.bodies.append(b"")
        return False

    def body_read(self, data: bytes) -> None:
        self.bodies[-1] += data

    def request_read(self) -> None:
        self.whole += 1

    def known_read(self, known: KnownHead, key: str | None, body: bytes) -> None:
        raise AssertionError("nothing is known to a reader without heads")

    def broken(self, error: HubError) -> None:
        self.errors.append(error)

    @property
    def seen(self) -> list[Seen]:
        """The whole requests."""
        pairs = zip(self.requests[: self.whole], self.bodies, strict=False)
        return [(r.method, r.target.decode("latin-1"), body) for r, body in pairs]


def read(data: bytes, cuts: list[int]) -> Collector:
    """Feed `data`, cut at these places."""
    found = Collector()
    reader = RequestReader(found, max_head_bytes=LIMIT, address="")
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        if found.whole and not found.requests[found.whole - 1].keep_alive:
            # What the connection does behind the last request of a peer.
            reader.stop()
        reader.feed(data[start:end])
    return found


def reference(data: bytes) -> tuple[list[Seen], bool]:
    """The whole requests that h11 reads, and whether it found an error then."""
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    seen: list[Seen] = []
    body = b""
    request: h11.Request | None = None
    try:
        peer.receive_data(data)
        while True:
            event = peer.next_event()
            if isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                # The reader puts the host of a target in absolute form where it belongs.
                target = request.target.decode("latin-1").removeprefix("http://x")
                seen.append((request.method.decode(), target, body))
                peer.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                peer.send(h11.EndOfMessage())
                if peer.our_state is not h11.DONE:
                    if not _stays_open(request):
                        return seen, False
                    # h11 ends each connection of HTTP/1.0.
                    later, refused = reference(peer.trailing_data[0])
                    return seen + later, refused
                peer.start_next_cycle()
            else:
                return seen, False
    except h11.RemoteProtocolError:
        return seen, True


def _stays_open(request: h11.Request) -> bool:
    """Whether a request of HTTP/1.0 asks for another one behind it."""
    said = b",".join(value for name, value in request.headers if name == b"connection")
    options = {option.strip().lower() for option in said.split(b",")}
    return request.http_version == b"1.0" and b"keep-alive" in options and b"close" not in options


# -- streams of requests, legal and not -----------------------------------------

_METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "get", "G T", ""])
_TARGETS = st.sampled_from(
    ["/", "/a?b=c", "/%41", "http://x/y", "*", "a b", "", "/\x01", "/\u00e9"]
)
_VERSIONS = st.sampled_from(["HTTP/1.1"] * 6 + ["HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "http/1.1", ""])
_ENDS = st.sampled_from(["\r\n"] * 12 + ["\n", "\r", "\r\r\n", ""])
_FIELDS = st.sampled_from(
    [
        "X: y", "X:y", "X:   y  ", "X:", "X", " X: y", "X : y", "X: a\x00b", "X: a\rb", ": y",
        "X\t: y", "X: \u00e9", "X: y\r\n z", "Connection: close", "Connection: keep-alive",
        "Upgrade: h2c\r\nConnection: Upgrade", "Connection: Upgrade\r\nUpgrade: websocket",
        "Content-Length: 3", "Content-Length: +3", "Content-Length: 3, 3", "Content-Length: 0x3",
        "Content-Length: -1", "Content-Length: 3 ", "Content-Length: \t3", "Content-Length:",
        "Content-Length: 99999999999999999999", "Transfer-Encoding: chunked",
        "Transfer-Encoding: Chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: x",
        "Transfer-Encoding: identity", "Transfer-Encoding : chunked", "Transfer-Encoding: chunked,",
        "Transfer-Encoding:\x0bchunked", "Transfer_Encoding: chunked", "Expect: 100-continue",
    ]
)  # fmt: skip
_CHUNKS = st.sampled_from(
    [
        "3\r\nabc\r\n0\r\n\r\n", "0\r\n\r\n", "3;x=y\r\nabc\r\n0\r\n\r\n", "3\nabc\n0\n\n",
        "3 \r\nabc\r\n0\r\n\r\n", "03\r\nabc\r\n00\r\n\r\n", "0x3\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n", "3\r\nabc\r\n0\r\nT: x\r\n\r\n", "-3\r\nabc\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFFF\r\nabc", "3\r\nabc0\r\n\r\n", "abc", "",
    ]
)  # fmt: skip


@st.composite
def _requests(draw: st.DrawFn) -> str:
    """One request: mostly legal, and each of its parts sometimes not."""
    legal = draw(st.booleans())
    method = draw(st.sampled_from(["GET", "POST"])) if legal else draw(_METHODS)
    target = "/x" if legal else draw(_TARGETS)
    version = "HTTP/1.1" if legal else draw(_VERSIONS)
    fields = draw(st.lists(_FIELDS, max_size=3))
    host = draw(st.sampled_from([["Host: h"]] * 6 + [[], ["Host: h", "Host: i"], ["Host: a b"]]))
    end = draw(_ENDS)
    head = end.join([f"{method} {target} {version}", *host, *fields]) + end + end
    said = "".join(fields).lower()
    if "transfer-encoding" in said:
        return head + draw(_CHUNKS)
    return head + ("abc" if "content-length: 3" in said else draw(st.sampled_from(["", "", "abc"])))


@settings(max_examples=5 * settings().max_examples)
@given(st.lists(_requests(), min_size=1, max_size=4), st.data())
def test_the_reader_sees_what_a_strict_reader_sees_or_refuses(
    parts: list[str], data: st.DataObject
) -> None:
    """A request that two readers of HTTP read differently is an attacker's way in."""
    stream = "".join(parts).encode("latin-1")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    found = read(stream, cuts)
    expected, refused = reference(stream)
    if found.errors:
        assert found.seen == expected[: len(found.seen)]
    elif not refused:
        assert found.seen == expected
    else:
        # What h11 refuses and the hub reads must be nothing that a third would split elsewhere.
        assert found.seen[: len(expected)] == expected
        assert len(found.seen) <= len(expected) + 1


@given(st.lists(_requests(), min_size=1, max_size=4), st.data())
def test_where_a_stream_is_cut_changes_nothing(parts: list[str], data: st.DataObject) -> None:
    """Also the error is the same, if not its words."""
    stream = "".join(parts).encode("latin-1")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    whole, cut = read(stream, []), read(stream, cuts)
    assert cut.seen == whole.seen
    assert bool(cut.errors) == bool(whole.errors)


# -- limits ----------------------------------------------------------------------


def head_of(size: int, kind: str) -> bytes:
    """A head of exactly `size` bytes on the wire."""
    start, end = b"GET / HTTP/1.1\r\nHost: h\r\n", b"\r\n"
    if kind == "one field":
        return start + b"X: " + b"y" * (size - len(start) - 7) + b"\r\n" + end
    if kind == "the target":
        return b"GET /" + b"y" * (size - len(start) - 2) + start[5:] + end
    fields = b""
    while len(start + fields + end) + 20 < size:
        fields += b"X-%05d: y\r\n" % len(fields)
    return start + fields + b"Y: " + b"z" * (size - len(start + fields + end) - 5) + b"\r\n" + end


@pytest.mark.parametrize("kind", ["one field", "the target", "many fields"])
@pytest.mark.parametrize("step", [1, 100, 500, 4096])
@pytest.mark.parametrize("before", [0, 1])
def test_a_head_is_taken_up_to_its_limit_whole_and_in_pieces(
    kind: str, step: int, before: int
) -> None:
    """Also where it begins in the piece in which another request ends."""
    for size, allowed in (
        (LIMIT - 1, True),
        (LIMIT, True),
        (LIMIT + 1, False),
        (LIMIT + 50, False),
    ):
        head = head_of(size, kind)
        assert len(head) == size
        stream = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc" * before + head
        found = read(stream, list(range(step, len(stream), step)))
        assert [error.code for error in found.errors] == ([] if allowed else ["headers_too_large"])
        assert found.whole == before + allowed


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\nX"])
def test_a_head_without_end_is_refused_before_it_takes_memory(start: bytes) -> None:
    found = read(start + b"y" * 100_000, list(range(100, 100_000, 100)))
    assert [error.code for error in found.errors] == ["headers_too_large"]


@pytest.mark.parametrize("filler", [b"1;" + b"x" * 100_000, b"1\r\ny\r\n0\r\nT: " + b"x" * 100_000])
def test_a_body_of_nothing_but_framing_is_refused(filler: bytes) -> None:
    """Extensions of chunks and trailers have no limit of their own."""
    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    found = read(head + filler, list(range(100, 100_000, 500)))
    assert [error.code for error in found.errors] == ["bad_request"]


@pytest.mark.parametrize(("more", "codes"), [(0, []), (1, ["bad_request"])])
def test_trailers_in_one_place_take_as_many_bytes_as_a_head(more: int, codes: list[str]) -> None:
    """Whole reads of them count, as a parser copies what it has of one with each."""
    found = Collector()
    reader = RequestReader(found, max_head_bytes=LIMIT, address="")
    reader.feed(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nT: ")
    reader.feed(b"x" * LIMIT)
    assert found.errors == []
    reader.feed(b"x" * more)
    assert [error.code for error in found.errors] == codes


@pytest.mark.parametrize(("more", "codes"), [(0, []), (1, ["bad_request"])])
def test_framing_takes_64_kib_and_eight_times_the_payload(more: int, codes: list[str]) -> None:
    """Extensions of chunks, a kilobyte of them in each."""
    found = Collector()
    reader = RequestReader(found, max_head_bytes=16 * 1024, address="")
    reader.feed(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"1;" + b"e" * (1024 + 8 - 7) + b"\r\nx\r\n"
    assert len(chunk) == 1024 + 8
    for _ in range(64):
        reader.feed(chunk)
    assert found.errors == []
    reader.feed(b"1" * more)
    assert [error.code for error in found.errors] == codes


def test_chunks_of_one_byte_are_a_body() -> None:
    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    stream = head + b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n"
    found = read(stream, list(range(0, len(stream), 1000)))
    assert not found.errors
    assert found.bodies == [b"x" * 50_000]


def test_a_target_in_absolute_form_names_the_host() -> None:
    """RFC 9112 section 3.2.2: whatever the field says."""
    found = read(b"GET http://hub.example:80/sse?a=b HTTP/1.1\r\nHost: other\r\n\r\n", [])
    assert found.requests[0].target == b"/sse?a=b"
    assert found.requests[0].headers["host"] == "hub.example:80"


def test_fields_that_repeat_are_joined_in_their_order() -> None:
    found = read(b"GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nB: x\r\na: 2\r\n\r\n", [])
    assert found.requests[0].headers == {"host": "h", "a": "1, 2", "b": "x"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(_requests(), min_size=1, max_size=4), data=st.data())
async def test_a_connection_answers_each_request_once_and_ends_where_one_is_refused(
    files: Path, parts: list[str], data: st.DataObject
) -> None:
    """The number of answers shows that no bytes were taken for a request that
    the reference does not see."""
    stream = "".join(parts).encode("latin-1")
    # The reference ends behind each request of HTTP/1.0; the hub does as the peer asks.
    assume(not (b"HTTP/1.0" in stream and b"keep-alive" in stream))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    rig = Rig(files)
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        rig.receive(stream[start:end])
    await rig.settle()
    expected, _ = reference(stream)
    found = read(stream, cuts)
    written = rig.transport.written
    answers = written.count(b"HTTP/1.1 ") - written.count(b"HTTP/1.1 100 ")
    assert answers <= len(expected) + 1
    if found.errors:
        assert rig.transport.eof or rig.transport.ended


def test_white_space_around_a_value_is_no_part_of_it() -> None:
    """RFC 9110 section 5.5: two keys that differ by a blank are one."""
    head = b"POST / HTTP/1.1\r\nHost: h \r\nIdempotency-Key: \t k \t\r\nContent-Length: 1 \r\n\r\n1"
    found = read(head, [])
    assert found.requests[0].headers == {"host": "h", "idempotency-key": "k", "content-length": "1"}
    assert found.bodies == [b"1"]


CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "filler",
    [b"0\r\nT: " + b"x" * 1_000_000, b"0\r\n" + b"T: x\r\n" * 200_000, b"1;" + b"x" * 1_000_000],
    ids=["one trailer", "many trailers", "an extension"],
)
def test_a_large_payload_buys_no_large_trailers(filler: bytes) -> None:
    """The bytes behind the last byte of payload are bounded like a head."""
    payload = b"%x\r\n%b\r\n" % (100_000, b"y" * 100_000)
    data = CHUNKED + payload + filler
    found = Collector()
    reader = RequestReader(found, max_head_bytes=LIMIT, address="")
    fed = 0
    while fed < len(data) and not found.errors:
        reader.feed(data[fed : fed + 100])
        fed += 100
    assert [error.code for error in found.errors] == ["bad_request"]
    assert fed <= len(CHUNKED + payload) + LIMIT + 300


@pytest.mark.parametrize("step", [50, 1000])
def test_trailers_are_taken_up_to_the_size_of_a_head(step: int) -> None:
    stream = CHUNKED + b"3\r\nabc\r\n0\r\nT: " + b"x" * (LIMIT - 50) + b"\r\n\r\n"
    found = read(stream, list(range(step, len(stream), step)))
    assert not found.errors
    assert found.bodies == [b"abc"]


@pytest.mark.parametrize("cut", [40, 10_000])
@pytest.mark.parametrize(("count", "allowed"), [(128, True), (128 + 1, False)])
def test_a_head_has_a_bounded_number_of_fields(cut: int, count: int, *, allowed: bool) -> None:
    """Each is an object of its own, whatever few bytes it came in."""
    head = b"GET / HTTP/1.1\r\nHost: h\r\n" + b"a:\r\n" * (count - 1) + b"\r\n"
    found = read(head, list(range(cut, len(head), cut)))
    assert [error.code for error in found.errors] == ([] if allowed else ["headers_too_large"])
    assert found.whole == allowed
    if not allowed:
        assert "128" in found.errors[0].message


def test_a_head_of_fields_without_end_is_refused_at_once() -> None:
    """The reader does not wait for the end of the head."""
    found = read(b"GET / HTTP/1.1\r\n" + b"a:\r\n" * (128 + 10), [])
    assert [error.code for error in found.errors] == ["headers_too_large"]


@pytest.mark.parametrize(
    "fields",
    [b"X: " + b"y" * 3000 + b"\r\n", b"".join(b"a%d: b\r\n" % n for n in range(100))],
    ids=["large", "many"],
)
@pytest.mark.parametrize("ends", [b"", b"Upgrade: h2c\r\nConnection: Upgrade\r\n"])
def test_a_reader_between_two_requests_keeps_no_large_head(fields: bytes, ends: bytes) -> None:
    """A connection may be idle for long."""
    head = b"GET /" + b"z" * 3000 + b" HTTP/1.1\r\nHost: h\r\n" + fields + ends + b"\r\n"
    found = Collector()
    reader = RequestReader(found, max_head_bytes=16 * 1024, address="")
    reader.feed(head)
    assert found.whole == 1
    found.requests.clear()
    kept = [held for held in gc.get_referents(reader) if not isinstance(held, Collector)]
    size = sum(_deep_size(held) for held in kept)
    assert size < 2048


def _deep_size(held: object) -> int:
    """Of strings, bytes and what holds them."""
    if isinstance(held, (bytes, str)):
        return len(held)
    if isinstance(held, Request):
        return _deep_size(held.headers) + len(held.target)
    if isinstance(held, dict):
        return sum(map(_deep_size, [*held, *held.values()]))
    if isinstance(held, (list, tuple)):
        return 8 * len(held) + sum(map(_deep_size, held))
    return 0
