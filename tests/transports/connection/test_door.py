"""A peer that is refused by its address or first bytes costs no parser,
and gets the usual answer."""

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from hub.auth.policy import Policy
from hub.core.limits import PeerLimits, Rate
from hub.transports.connection import context as contexts
from hub.transports.opening import Judged
from tests.support.frames import UPGRADE
from tests.transports.connection.rig import LIMITS, FakeTransport, Rig, get, post

PEER_LIMITS = PeerLimits(handshakes=Rate(1, 3600, 1))
PEER = "192.0.2.7"


@pytest.fixture
async def limited(files: Path) -> Rig:
    """Its address may begin one session in an hour, and has begun it."""
    rig = Rig(files, peer_limits=PEER_LIMITS)
    rig.limiter.check_handshake(PEER)
    return rig


def no_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise AssertionError("a reader was made")

    monkeypatch.setattr(contexts, "RequestReader", fails)


@pytest.mark.parametrize("path", ["/ws?channel=a", "/sse?channel=a"])
async def test_an_address_that_begins_too_many_sessions_is_told_so_before_anything_is_made(
    limited: Rig, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    no_readers(monkeypatch)
    limited.receive(get(path, UPGRADE))
    assert limited.answers == [429]
    assert b"\r\nRetry-After: 3600\r\n" in limited.transport.written
    assert limited.transport.ended
    assert not limited.sockets.http
    assert limited.counters.rate_limited["handshakes"] == 1
    told = 0 if path.startswith("/sse") else 1  # the rig's streams count nothing
    assert limited.counters.refused["rate_limited"] == told


async def test_looking_takes_no_session_from_whoever_has_one_left(files: Path) -> None:
    rig = Rig(files, peer_limits=PEER_LIMITS)
    for _ in range(2):
        rig.connect()
        rig.receive(get("/ws", UPGRADE))
    assert len(rig.streams.opened) == 2  # the rig's streams take no session either


@pytest.mark.parametrize(
    "request_", [post("a", b"1"), get("/healthz"), get("/api/openapi.json"), get("/ws.html")]
)
async def test_a_peer_that_begins_no_session_is_not_held_back_by_their_rate(
    limited: Rig, request_: bytes
) -> None:
    limited.receive(request_)
    assert limited.answers[0] in {200, 404}


@pytest.mark.parametrize("cut", [1, 7, 40])
async def test_a_head_that_comes_in_pieces_is_read_as_ever(limited: Rig, cut: int) -> None:
    """The limit is checked later, where the session is opened."""
    limited.receive(get("/ws", UPGRADE), cut=cut)
    assert len(limited.streams.opened) == 1


@pytest.mark.parametrize("path", ["/ws", "/api/publish/a", "/api/connections", "/nowhere"])
async def test_a_connection_too_many_is_told_so_before_anything_is_made(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    no_readers(monkeypatch)
    rig.sockets.crowded = True
    rig.connect()
    rig.receive(get(path))
    assert rig.answers == [503]
    assert rig.transport.ended
    assert rig.connection not in rig.sockets.http
    assert (rig.counters.refused["unavailable"], rig.counters.http_errors["unavailable"]) == (1, 1)


async def test_a_connection_too_many_over_tls_is_told_so_too(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its transport is paused as soon as its buffer is bounded: the handshake's end is in it."""

    def pause(transport: FakeTransport, **_: int) -> None:
        transport.protocol.pause_writing()

    monkeypatch.setattr(FakeTransport, "set_write_buffer_limits", pause)
    for crowded in (False, True):
        rig.sockets.crowded = crowded
        rig.connect()
        rig.transport.drain()
        rig.receive(get("/ws", UPGRADE))
    assert len(rig.streams.opened) == 1
    assert rig.answers == [503]


async def test_the_answer_is_the_one_that_a_head_in_pieces_gets(rig: Rig) -> None:
    """Also for a page, which may read it where it can. Both count alike."""
    rig.sockets.crowded = True
    page = "Origin: http://localhost\r\n"
    requests = [
        get("/ws", UPGRADE),
        get("/api/nodes", page),
        get("/sse?channel=a"),
        post("a", b"1"),
    ]
    for request in requests:
        told = []
        for cut in (None, 9):
            rig.connect()
            rig.counters.refused.clear()
            rig.counters.http_errors.clear()
            rig.receive(request, cut=cut)
            counted = dict(rig.counters.refused), dict(rig.counters.http_errors)
            head, _, body = rig.transport.written.partition(b"\r\n\r\n")
            fields = [line for line in head.split(b"\r\n") if not line.startswith(b"Date:")]
            told.append((sorted(fields), body, counted))
        assert told[0] == told[1], request


async def test_a_body_that_is_still_on_its_way_does_not_take_the_answer_away(rig: Rig) -> None:
    """The rest is read and thrown away, and the peer has its time to end."""
    rig.sockets.crowded = True
    rig.connect()
    rig.receive(post("a", b"1" * 100, length=5000))
    assert rig.answers == [503]
    assert (rig.transport.eof, rig.transport.ended) == (True, False)
    rig.receive(b"1" * 4900)
    assert rig.answers == [503]
    rig.wait(2.1)
    assert rig.transport.ended
    assert rig.published == []


async def test_a_peer_that_does_not_take_the_answer_is_cut_off(limited: Rig) -> None:
    limited.transport.room = 0
    limited.receive(get("/ws", UPGRADE))
    assert limited.transport.ended
    limited.wait(31)
    assert not limited.sockets.http


async def test_bytes_behind_a_refusal_are_no_second_request(limited: Rig) -> None:
    """A transport of TLS that closes still hands over what had come."""
    limited.receive(get("/ws", UPGRADE))
    assert limited.transport.ended
    for request in (get("/ws", UPGRADE), post("a", b"1")):
        limited.connection.data_received(request)
    limited.end_turn()
    assert limited.answers == [429]
    assert limited.counters.rate_limited["handshakes"] == 1
    assert limited.published == []


async def test_an_origin_with_controls_is_not_said_again(rig: Rig) -> None:
    rig.sockets.crowded = True
    rig.connect()
    rig.receive(get("/api/nodes", "Origin: http://a\x00b\r\n"))
    assert b"\x00" not in rig.transport.written
    assert rig.answers


ELSEWHERE = "Origin: https://elsewhere.example\r\n"
CROSS_SITE = "Sec-Fetch-Site: cross-site\r\n"
MISDIRECTED = {
    "another page": (get("/ws?channel=a", ELSEWHERE + UPGRADE), 403, "origin"),
    "another page's stream": (get("/sse?channel=a", ELSEWHERE), 403, "origin"),
    "a page that names no origin": (get("/sse?channel=a", CROSS_SITE), 403, "origin"),
    "another host": (
        get("/ws", UPGRADE).replace(b"Host: localhost", b"Host: evil.example"),
        421,
        "host",
    ),
}


@pytest.mark.parametrize("name", MISDIRECTED)
async def test_a_handshake_for_elsewhere_is_refused_before_anything_is_made(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The refusal is answered and counted once, and the connection ends with it."""
    request, status, _ = MISDIRECTED[name]
    no_readers(monkeypatch)
    rig.receive(request)
    assert rig.answers == [status]
    assert rig.transport.ended
    assert not rig.sockets.http
    assert rig.counters.http_errors.total() == 1


async def test_the_door_reads_the_fields_of_each_handshake_only_while_some_are_refused(
    rig: Rig,
) -> None:
    """Others leave them to the parser: nearly all handshakes are of allowed pages."""
    refused, _, _ = MISDIRECTED["another page"]
    allowed = get("/ws", "Origin: http://localhost\r\n" + UPGRADE)
    door = rig.context.door
    assert isinstance(door.refusal(PEER, None, allowed), Judged)
    assert door.refusal(PEER, None, allowed) is None
    looked_at = [door.refusal(PEER, None, refused) is not None for _ in range(40)]
    first = looked_at.index(True)
    assert 0 < first <= 16
    assert all(looked_at[first:])
    assert isinstance(door.refusal(PEER, None, allowed), Judged)
    assert door.refusal(PEER, None, refused) is not None


@pytest.mark.parametrize("name", MISDIRECTED)
async def test_such_an_answer_is_the_one_that_a_head_in_pieces_gets(files: Path, name: str) -> None:
    request, _, refusal = MISDIRECTED[name]
    told = []
    for cut in (None, 9):
        refusals = Counter[str]()
        rig = Rig(files, policy=Policy(refusals=refusals))
        rig.receive(request, cut=cut)
        head, _, body = rig.transport.written.partition(b"\r\n\r\n")
        fields = [line for line in head.split(b"\r\n") if not line.startswith((b"Date:", b"Conn"))]
        told.append((sorted(fields), body, rig.counters.http_errors, refusals))
    assert told[0] == told[1]
    assert told[0][3] == {refusal: 1}


@pytest.mark.parametrize(
    "request_",
    [
        get("/ws", ELSEWHERE * 2 + UPGRADE),
        get("/ws", f"Expect: 100-continue\r\n{ELSEWHERE}{UPGRADE}"),
        post("a", b"1"),
        get("/ws", f"Host: localhost\r\n{UPGRADE}"),
        get("/ws", f"Content-Length: 3\r\n{UPGRADE}"),
        get("/ws?channel=\x80", UPGRADE),
        get("/ws", f"User Agent: x\r\n{UPGRADE}"),
        get("/ws", f"X: a\r\n b\r\n{UPGRADE}"),
        get("/ws", UPGRADE).replace(b"Host: localhost", b"Host: a, b"),
        get("/ws", "".join(f"X-{n}: 1\r\n" for n in range(129)) + UPGRADE),
        get("/ws", f"Origin: http://localhost\x80\r\n{CROSS_SITE}{UPGRADE}"),
        get("/ws", f"Origin: http://localhost\t \x7f\r\n{CROSS_SITE}{UPGRADE}"),
        get("/ws", f"X: {'x' * 1024}\r\n{ELSEWHERE}{UPGRADE}"),
    ],
)
async def test_a_first_read_that_is_not_plain_gets_another_look(rig: Rig, request_: bytes) -> None:
    assert rig.context.door.refusal(PEER, None, request_) is None


@pytest.mark.parametrize("end", ["\x80", "x"])
async def test_spaces_of_a_field_cost_what_other_bytes_cost(files: Path, end: str) -> None:
    """A pattern that looked for the end of a value tried each space with each: 19 s for 1,600."""
    door = Rig(files, limits=replace(LIMITS, max_head_bytes=16 * 1024)).context.door

    def cost(fill: str) -> float:
        fields = "".join(f"{name}:{fill * 150}{end}\r\n" for name in ("Origin", "Expect", "Accept"))
        request = get("/ws", fields + UPGRADE)
        took = []
        for _ in range(20):
            door._looks_at_each = 1
            began = time.perf_counter()
            door.refusal(PEER, None, request)
            took.append(time.perf_counter() - began)
        return min(took)

    assert cost(" ") < 20 * cost("a")
