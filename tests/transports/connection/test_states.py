"""Every state of a connection: what ends it, its deadline, and what bytes do meanwhile."""

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from hub.auth.policy import Policy
from hub.transports.connection.reader import RequestReader
from hub.transports.connection.states import DISCARD_BYTES, HELD_BYTES, ROWS, HttpState
from hub.transports.http.routes import StreamKind
from hub.transports.request import Request
from tests.support.frames import UPGRADE
from tests.transports.connection.rig import AWAY, BODY_LIMIT, LIMITS, Rig, get, post


def test_every_state_but_that_of_a_stream_has_a_row() -> None:
    """A stream's own protocol has the connection by then."""
    assert set(ROWS) == set(HttpState) - {HttpState.STREAMING}


# -- awaiting a head ---------------------------------------------


@pytest.mark.parametrize("start", [b"", b"G", b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: a"])
async def test_a_head_that_is_not_whole_in_time_is_408(rig: Rig, start: bytes) -> None:
    rig.receive(start)
    rig.wait(LIMITS.handshake_timeout_seconds - 0.2)
    assert not rig.answers
    rig.wait(0.3)
    assert rig.answers == [408]
    assert rig.transport.eof
    # Browsers open connections that they may need: one that is silent is no refusal.
    assert rig.counters.refusals["slow_request"] == bool(start)


async def test_a_trickle_of_a_head_puts_its_deadline_off_by_nothing(rig: Rig) -> None:
    rig.receive(b"GET /healthz HTTP/1.1\r\nX: ")
    for _ in range(11):
        rig.wait(LIMITS.handshake_timeout_seconds / 10)
        rig.receive(b"y")
    assert rig.answers == [408]


async def test_a_second_head_has_a_deadline_of_its_own(rig: Rig) -> None:
    """The deadline runs from the head's first byte, not from the answer before."""
    rig.receive(get("/healthz"))
    rig.wait(50)
    rig.receive(b"GET /healthz HTTP")
    rig.wait(LIMITS.handshake_timeout_seconds - 0.2)
    assert rig.answers == [200]
    rig.wait(0.3)
    assert rig.answers == [200, 408]


# -- between requests ---------------------------------------------


async def test_an_idle_connection_is_closed_without_a_word(rig: Rig) -> None:
    rig.receive(get("/healthz"))
    rig.wait(LIMITS.keep_alive_seconds - 0.2)
    assert not rig.transport.ended
    rig.wait(0.3)
    assert rig.transport.ended
    assert rig.answers == [200]


@pytest.mark.parametrize("stray", [b"\r\n", b"\r\n\r\n", b"\n"])
async def test_a_stray_line_end_keeps_no_connection_alive(rig: Rig, stray: bytes) -> None:
    """A line end is no request, so the connection's deadline stays as it was."""
    rig.receive(get("/healthz"))
    for _ in range(8):
        rig.wait(LIMITS.keep_alive_seconds / 8 + 0.1)
        rig.receive(stray)
    assert rig.transport.ended


async def test_each_answer_begins_the_idle_time_anew(rig: Rig) -> None:
    for _ in range(3):
        rig.receive(get("/healthz"))
        rig.wait(LIMITS.keep_alive_seconds - 1)
    assert not rig.transport.ended


# -- reading a body ---------------------------------------------


async def test_a_body_that_is_not_whole_in_time_is_408(rig: Rig) -> None:
    rig.receive(post("a", b"1", length=5))
    rig.wait(LIMITS.body_timeout_seconds - 0.2)
    assert not rig.answers
    rig.receive(b"2")
    rig.wait(0.3)
    assert rig.answers == [408]
    assert rig.published == []
    assert rig.counters.refusals == {"slow_request": 1}


@pytest.mark.parametrize("cut", [None, 1, 7, 64])
@pytest.mark.parametrize("size", [BODY_LIMIT - 1, BODY_LIMIT, BODY_LIMIT + 1])
async def test_a_body_is_taken_up_to_its_limit(rig: Rig, size: int, cut: int | None) -> None:
    """Whole and in pieces, and with a length or in chunks."""
    body = b"1" * size
    allowed = size <= BODY_LIMIT
    rig.receive(post("a", body), cut=cut)
    assert rig.answers == [200 if allowed else 413]
    rig.connect()
    head = b"POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:100], body[100:]))
    rig.receive(head + chunks + b"0\r\n\r\n", cut=cut)
    assert rig.answers == [200 if allowed else 413]
    assert rig.published == [body, body] * allowed


async def test_bodies_under_way_share_a_budget(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(body_total_bytes=100)
    rig.receive(post("a", b"1" * 80, length=150))
    first, transport = rig.connection, rig.transport
    assert rig.budget.bytes == 80
    rig.connect()
    rig.receive(post("a", b"1" * 30, length=150))
    assert rig.answers == [503]
    assert rig.budget.bytes == 80
    first.connection_lost(None)
    assert not transport.written
    assert rig.budget.bytes == 0


async def test_a_body_is_given_back_to_the_budget_with_its_answer(rig: Rig) -> None:
    rig.receive(post("a", b"1" * 80, length=150))
    rig.receive(b"1" * 70)
    assert rig.answers == [200]
    assert rig.budget.bytes == 0


async def test_a_continue_is_said_once_and_only_to_a_peer_that_waits(rig: Rig) -> None:
    head = post("a", b"", "Expect: 100-continue\r\n", length=3)
    rig.receive(head)
    assert rig.transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    rig.receive(b"123")
    assert rig.transport.written.count(b"100 Continue") == 1
    assert rig.published == [b"123"]
    rig.connect()
    rig.receive(head + b"123")
    assert b"100 Continue" not in rig.transport.written


# -- answering ---------------------------------------------


async def test_requests_behind_one_that_waits_are_held_and_answered_in_order(rig: Rig) -> None:
    rig.receive(post("slow", b"1") + post("a", b"2") + get("/healthz"))
    rig.receive(post("a", b"3"))
    await rig.settle()
    assert not rig.answers
    rig.registry.gate.set()
    await rig.settle()
    assert rig.answers == [200, 200, 200, 200]
    assert rig.published == [b"1", b"2", b"3"]


async def test_bytes_held_behind_an_answer_are_bounded(rig: Rig) -> None:
    """Beyond the bound the connection is not read from, and goes on by itself afterwards."""
    rig.receive(post("slow", b"1"))
    request = get("/healthz")
    count = HELD_BYTES // len(request) + 100
    rig.receive(request * count, cut=4096)
    assert rig.transport.paused
    rig.registry.gate.set()
    await rig.settle()
    assert not rig.transport.paused
    assert rig.answers == [200] * (count + 1)


async def test_bytes_held_behind_answers_are_bounded_over_all_connections(rig: Rig) -> None:
    """The connection that holds bytes longest is cut off, and bytes that are parsed
    afterwards no longer count."""
    first = rig.transport
    behind = get("/healthz") * 200
    assert 10_000 > len(behind) > 5_000
    rig.receive(post("slow", b"1"))
    rig.receive(behind)
    assert rig.budget.unparsed_bytes == len(behind)
    rig.connect()
    rig.receive(post("slow", b"2"))
    rig.receive(behind)
    assert (first.aborted, rig.transport.aborted) == (True, False)
    assert rig.budget.unparsed_bytes == len(behind)
    rig.registry.gate.set()
    await rig.settle()
    assert rig.answers == [200] * 201
    assert rig.budget.unparsed_bytes == 0


async def test_few_requests_are_parsed_ahead_of_one_that_waits(rig: Rig) -> None:
    """A parsed request takes many times its bytes, so the rest stays bytes."""
    rig.receive(post("slow", b"1") + get("/healthz") * 2000)
    assert len(rig.connection._requests.queue) < 100


async def test_an_answer_that_takes_too_long_is_503(rig: Rig) -> None:
    rig.receive(post("slow", b"1") + get("/healthz"))
    await rig.settle()
    rig.wait(61)
    await rig.settle()
    assert rig.answers == [503]
    assert rig.transport.eof
    assert not rig.tasks


async def test_a_peer_that_half_closes_gets_its_answer(rig: Rig) -> None:
    """As `nc -N` does."""
    rig.receive(post("slow", b"1"))
    assert rig.connection.eof_received()
    rig.registry.gate.set()
    await rig.settle()
    assert rig.answers == [200]
    assert rig.transport.ended


async def test_a_publication_goes_on_when_its_peer_has_gone(rig: Rig) -> None:
    rig.receive(post("slow", b"1"))
    rig.connection.connection_lost(ConnectionResetError())
    rig.registry.gate.set()
    await rig.settle()
    assert rig.published == [b"1"]
    assert not rig.tasks
    assert not rig.transport.written


async def test_a_poll_ends_with_its_peer(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    waits = asyncio.Event()
    ended: list[bool] = []

    async def poll(_request: object) -> bytes:
        try:
            await waits.wait()
        finally:
            ended.append(True)
        return b"{}"

    route = rig.context.dispatcher._table.find(b"/poll")
    assert route is not None
    handler = route[0].routes["GET"].handler
    handler.__self__._poll = poll  # type: ignore[attr-defined]
    rig.receive(get("/poll?channel=a"))
    await rig.settle()
    rig.connection.connection_lost(None)
    await rig.settle()
    assert ended == [True]


# -- writing ---------------------------------------------


async def test_an_answer_that_nobody_takes_is_given_up(rig: Rig) -> None:
    rig.transport.room = 10
    rig.receive(get("/healthz"))
    rig.wait(LIMITS.write_timeout_seconds - 0.2)
    assert not rig.transport.aborted
    rig.wait(0.3)
    assert rig.transport.aborted
    assert rig.connection not in rig.sockets.http
    assert rig.counters.refusals == {"slow_reader": 1}


async def test_an_idle_peer_that_does_not_end_its_connection_is_not_slow(rig: Rig) -> None:
    """Nothing is owed to it: it has gone, or its TLS has no end."""
    rig.receive(get("/healthz"))
    rig.transport.close = lambda: None  # type: ignore[method-assign]
    rig.wait(LIMITS.keep_alive_seconds + 1)
    rig.wait(LIMITS.write_timeout_seconds + 1)
    assert rig.transport.aborted
    assert not rig.counters.refusals


async def test_nothing_is_read_and_no_request_begins_while_an_answer_waits(rig: Rig) -> None:
    rig.transport.room = 10
    rig.receive(get("/healthz") * 3)
    assert rig.transport.paused
    rig.receive(post("a", b"1"))
    assert rig.published == []
    rig.transport.drain()
    assert rig.published == [b"1"]
    assert rig.answers == [200, 200, 200, 200]
    assert not rig.transport.paused


# -- discarding and closing ---------------------------------------------


@pytest.fixture
def refusing(make_rig: Callable[..., Rig]) -> Rig:
    """A hub with keys, of which this peer sends none."""
    return make_rig(policy=Policy(publish_keys=["k" * 32]))


async def test_an_early_answer_says_close_and_throws_the_rest_away(refusing: Rig) -> None:
    refusing.receive(post("a", b"1", length=100))
    assert refusing.answers == [401]
    assert b"Connection: close" in refusing.transport.written
    assert refusing.transport.eof
    refusing.receive(get("/healthz") * 10)
    assert refusing.answers == [401]
    assert not refusing.transport.ended


async def test_bytes_thrown_away_are_bounded_in_time_and_number(refusing: Rig) -> None:
    refusing.receive(post("a", b"1", length=10**6))
    refusing.wait(2.1)
    assert refusing.transport.ended
    refusing.connect()
    refusing.receive(post("a", b"1", length=10**6))
    refusing.receive(b"1" * (DISCARD_BYTES + 1), cut=65536)
    assert refusing.transport.paused
    # A reset would take the answer from a peer that has not read it yet.
    assert not refusing.transport.aborted
    refusing.wait(2.1)
    assert refusing.transport.ended


async def test_a_refusal_with_its_whole_body_keeps_the_connection(refusing: Rig) -> None:
    """Nothing is left unread, so the next request is one."""
    refusing.receive(post("a", b"12345") + get("/healthz"))
    assert refusing.answers == [401, 200]
    assert not refusing.transport.eof


async def test_a_close_that_the_peer_asked_for_comes_with_the_answer(rig: Rig) -> None:
    rig.receive(get("/healthz", "Connection: close\r\n"))
    assert rig.answers == [200]
    assert rig.transport.ended
    assert not rig.transport.aborted


async def test_a_closing_connection_whose_peer_does_not_read_is_aborted(rig: Rig) -> None:
    rig.transport.room = 10
    rig.receive(get("/healthz", "Connection: close\r\n"))
    rig.wait(LIMITS.write_timeout_seconds + 0.1)
    assert rig.transport.aborted


# -- streaming ---------------------------------------------


async def test_a_stream_takes_the_connection_with_what_came_behind_its_head(rig: Rig) -> None:
    rig.receive(get("/ws?channel=a", UPGRADE) + b"\x81\x80abcd")
    assert rig.streams.opened == [(StreamKind.WEBSOCKET, b"/ws?channel=a", b"\x81\x80abcd")]
    assert rig.connection not in rig.sockets.http
    rig.wait(1000)
    assert not rig.transport.ended


@pytest.mark.parametrize("behind", [get("/sse?channel=b"), post("a", b"1"), get("/healthz") * 80])
@pytest.mark.parametrize("waits", [False, True])
async def test_nothing_behind_a_request_for_a_stream_is_a_request(
    rig: Rig, behind: bytes, *, waits: bool
) -> None:
    """The connection is the stream's: a second one would be written to by its number alone."""
    first = post("slow", b"0") if waits else b""
    rig.receive(first + get("/sse?channel=a") + behind)
    rig.registry.gate.set()
    await rig.settle()
    assert [target for _, target, _ in rig.streams.opened] == [b"/sse?channel=a"]
    assert rig.published == [b"0"] * waits
    assert rig.answers == [200] * waits


async def test_nothing_is_a_request_behind_a_stream_that_waited_for_the_peer(rig: Rig) -> None:
    rig.transport.room = 5
    rig.receive(get("/healthz") + get("/sse?channel=a") + post("a", b"1"))
    rig.receive(post("a", b"2"))
    rig.transport.drain()
    assert len(rig.streams.opened) == 1
    assert rig.published == []


async def test_a_stream_is_read_from_however_it_had_to_wait(rig: Rig) -> None:
    """Reading is resumed before the stream opens, and the stream may pause it from then on."""
    rig.transport.room = 5
    rig.receive(get("/healthz") + get("/ws", UPGRADE) + b"x" * 100)
    assert rig.transport.paused
    paused_when_opened: list[bool] = []
    opening = rig.streams.open

    def opened(stream: StreamKind, request: Request, transport: Any, rest: bytes) -> None:
        paused_when_opened.append(transport.paused)
        opening(stream, request, transport, rest)

    rig.streams.open = opened  # type: ignore[method-assign]
    rig.transport.drain()
    assert paused_when_opened == [False]
    assert not rig.transport.paused


async def test_a_half_sent_body_of_a_peer_that_has_ended_is_given_back(rig: Rig) -> None:
    """Else a few of them would leave no room for any body."""
    rig.receive(post("slow", b"1") + post("a", b"1" * 100, length=150))
    assert rig.connection.eof_received()
    rig.registry.gate.set()
    await rig.settle()
    assert rig.transport.ended
    assert rig.budget.bytes == 0


async def test_a_stream_waits_for_the_answers_before_it(rig: Rig) -> None:
    rig.receive(post("slow", b"1") + get("/sse?channel=a"))
    await rig.settle()
    assert rig.streams.opened == []
    rig.registry.gate.set()
    await rig.settle()
    assert rig.answers == [200]
    assert [target for _, target, _ in rig.streams.opened] == [b"/sse?channel=a"]


async def test_an_upgrade_behind_one_that_waits_keeps_its_frames(rig: Rig) -> None:
    rig.receive(post("slow", b"1") + get("/ws", UPGRADE) + b"first")
    rig.receive(b"second")
    rig.registry.gate.set()
    await rig.settle()
    assert rig.streams.opened == [(StreamKind.WEBSOCKET, b"/ws", b"firstsecond")]


async def test_a_stream_begins_only_when_the_peer_has_taken_what_came_before(rig: Rig) -> None:
    """A stream writes past the transport, so bytes that the transport
    still holds would come later."""
    rig.transport.room = 5
    rig.receive(get("/healthz") + get("/sse?channel=a"))
    assert rig.streams.opened == []
    rig.transport.drain()
    assert len(rig.streams.opened) == 1


async def test_a_refused_stream_ends_the_connection(rig: Rig) -> None:
    rig.streams.refuses = AWAY
    rig.receive(get("/ws", UPGRADE) + b"frames")
    assert rig.answers == [503]
    rig.receive(get("/healthz"))
    assert rig.answers == [503]


# -- counting ---------------------------------------------


async def test_a_connection_is_counted_until_it_ends(rig: Rig) -> None:
    assert rig.connection in rig.sockets.http
    rig.connection.connection_lost(None)
    assert not rig.sockets.http


async def test_beyond_the_bound_only_probes_are_answered(rig: Rig) -> None:
    rig.sockets.crowded = True
    for request, status in (
        (get("/healthz"), 200),
        (get("/metrics"), 200),
        (post("a", b"1"), 503),
        (get("/ws", UPGRADE), 503),
    ):
        rig.connect()
        rig.receive(request)
        assert rig.answers == [status]
        assert rig.transport.eof or rig.transport.ended
    assert rig.published == []
    assert rig.streams.opened == []


async def test_without_room_for_an_answer_the_connection_is_aborted(rig: Rig) -> None:
    rig.sockets.overrun = True
    rig.connect()
    assert rig.transport.aborted


# -- the listener stops ---------------------------------------------


async def test_an_idle_connection_ends_with_the_listener(rig: Rig) -> None:
    rig.receive(get("/healthz"))
    rig.connection.shut_down()
    assert rig.transport.ended


async def test_a_request_under_way_is_answered_before_the_listener_ends(rig: Rig) -> None:
    rig.receive(post("slow", b"1") + get("/healthz"))
    await rig.settle()
    rig.connection.shut_down()
    rig.registry.gate.set()
    await rig.settle()
    assert rig.answers == [200]
    assert b"Connection: close" in rig.transport.written


# -- memory ---------------------------------------------


async def test_a_connection_leaves_nothing_to_the_garbage_collector(rig: Rig) -> None:
    """Of 15,000 streams that begin in a storm, none keeps its parser until a collection."""
    gc.collect()
    gc.disable()
    try:
        before = _readers()
        for request in (get("/sse?channel=a"), get("/healthz", "Connection: close\r\n")):
            rig.connect()
            rig.receive(request)
            # As a real transport does at its end.
            rig.transport.protocol = None
        rig.connect()
        rig.receive(b"G")
        assert _readers() == before + 1
    finally:
        gc.enable()


def _readers() -> int:
    return sum(isinstance(each, RequestReader) for each in gc.get_objects())


# -- a peer that says nothing more ---------------------------------------------


@pytest.mark.parametrize(
    ("start", "where"),
    [
        (b"GET /healthz HTTP/1.1\r\nHo", "head"),
        (post("a", b"1", length=5), "body"),
        (get("/healthz") + b"GET", "head"),
    ],
)
async def test_a_request_that_its_peer_breaks_off_is_400(
    rig: Rig, start: bytes, where: str
) -> None:
    """The peer may still read, and learns what was wrong."""
    rig.receive(start)
    assert rig.connection.eof_received()
    rig.end_turn()
    assert rig.answers[-1] == 400
    assert f"inside the {where} of a request".encode() in rig.transport.written
    assert rig.transport.ended
    assert not rig.published


async def test_a_request_that_is_broken_off_behind_one_that_waits_is_400(rig: Rig) -> None:
    """The answers keep their order."""
    rig.receive(post("slow", b"1") + b"GET /healthz HT")
    assert rig.connection.eof_received()
    rig.registry.gate.set()
    await rig.settle()
    assert rig.answers == [200, 400]
    assert rig.transport.ended


@pytest.mark.parametrize("sent", [post("slow", b"1"), b"GET /healthz HT"])
async def test_no_connection_over_tls_asks_to_stay_open_behind_its_peers_end(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """Its transport closes all the same, and asyncio would log a warning for each such peer."""
    monkeypatch.setattr(rig.transport, "can_write_eof", lambda: False)
    rig.receive(sent)
    assert not rig.connection.eof_received()


async def test_a_peer_that_asks_for_nothing_is_answered_nothing(rig: Rig) -> None:
    assert not rig.connection.eof_received()
    assert not rig.transport.written


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "DELETE"])
async def test_only_get_hands_a_connection_over(rig: Rig, method: str) -> None:
    """Whatever else names the path of a stream is a request, and so is what follows it."""
    first = get("/ws", UPGRADE).replace(b"GET", method.encode(), 1)
    rig.receive(first + get("/healthz"))
    rig.receive(get("/healthz"))
    assert not rig.streams.opened
    status = {"HEAD": b"426", "OPTIONS": b"204", "DELETE": b"405"}[method]
    assert rig.transport.written.startswith(b"HTTP/1.1 " + status)
    assert rig.transport.written.count(b"HTTP/1.1 200 OK") == 2


async def test_options_of_the_whole_hub_is_204(rig: Rig) -> None:
    """RFC 9110 section 9.3.7: it asks whether the server speaks HTTP."""
    rig.receive(get("*").replace(b"GET", b"OPTIONS", 1) + get("/healthz"))
    assert rig.answers == [204, 200]
