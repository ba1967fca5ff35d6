"""A WebSocket connection works off what comes in bounded pieces, and ends as RFC 6455 says."""

import asyncio
import gc
import weakref
import zlib
from collections.abc import Callable

import pytest

from hub.core.commands import Publish
from hub.core.identity import Identity
from hub.core.pushes import Reply
from hub.core.session.session import Session
from hub.transports.turns import PIECE_BYTES, PIECE_FRAMES, PIECE_SECONDS, TURN_SECONDS, Turns
from hub.transports.websocket import WebSocketConnection
from tests.core.fakes import FakeClock
from tests.core.small_node import Shape, SmallNode, limits
from tests.support.frames import BINARY, CLOSE, PING, PONG, TEXT, masked
from tests.transports.wired import Wired, ping, publish

RSV1 = 0x40


@pytest.fixture
def node() -> SmallNode:
    return SmallNode()


@pytest.fixture
def turns(node: SmallNode) -> Turns:
    return Turns(node.clock)


@pytest.fixture
def wired(node: SmallNode, turns: Turns) -> Wired:
    return Wired(node, turns)


class Reasons(list[tuple[int, str]]):
    """Why sessions ended."""

    def opened(self, session: Session) -> None:
        """Nobody asks."""

    def closed(self, session: Session, code: int, reason: str) -> None:
        self.append((code, reason))


async def turn() -> None:
    """One iteration of the event loop."""
    await asyncio.sleep(0)


async def until_read(wired: Wired) -> None:
    while wired.connection._reading is not None:
        await turn()


def packed(data: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    text = deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return masked(text.removesuffix(b"\x00\x00\xff\xff"), bits=RSV1)


# -- pieces ----------------------------------------------------------------------------------


async def test_the_replies_to_what_came_in_one_read_leave_in_one_write(wired: Wired) -> None:
    wired.receive(b"".join(ping(number) for number in range(20)))
    assert len(wired.transport.writes) == 1
    assert wired.replies() == list(range(20))
    assert wired.connection._reading is None


async def test_frames_that_follow_from_a_command_alone_in_a_read_leave_in_one_write(
    node: SmallNode, wired: Wired
) -> None:
    """The answer to a subscribe, and the messages that it brings."""
    for _ in range(3):
        node.publish("a")
    wired.receive(masked(b'{"op":"subscribe","id":1,"channel":"a","last":3}'))
    assert len(wired.transport.writes) == 1
    assert [push.get("id", push["op"]) for push in wired.pushes()] == [1, *["message"] * 3]
    wired.receive(publish(2))
    assert wired.replies() == [2]


async def test_a_command_alone_in_a_read_waits_behind_those_that_wait(
    turns: Turns, wired: Wired
) -> None:
    turns.spent(TURN_SECONDS)
    wired.receive(publish(1))
    wired.receive(publish(2))
    assert wired.replies() == []
    await until_read(wired)
    assert wired.replies() == [1, 2]


async def test_a_message_published_in_a_read_stands_behind_the_replies_to_it(
    node: SmallNode, turns: Turns
) -> None:
    """A reply stands before its channel's first message, as without gathering."""
    wired = Wired(node, turns)
    wired.receive(masked(b'{"op":"subscribe","id":1,"channel":"a"}') + publish(2) + publish(3))
    node.loop.settle()
    pushes = wired.pushes()
    assert [push.get("id") for push in pushes[:3]] == [1, 2, 3]
    assert [push["offset"] for push in pushes[3:]] == [1, 2]


async def test_an_unsubscribe_is_answered_behind_what_came_before_it_in_the_same_read(
    node: SmallNode, turns: Turns
) -> None:
    wired = Wired(node, turns, channels=("a",))
    wired.receive(publish(1) + masked(b'{"op":"unsubscribe","id":2,"channel":"a"}') + publish(3))
    node.loop.settle()
    pushes = wired.pushes()
    assert [push.get("id", push["op"]) for push in pushes] == [1, "message", 2, 3]


async def test_a_read_of_many_frames_is_worked_off_in_pieces_and_in_order(wired: Wired) -> None:
    count = 2 * PIECE_FRAMES + 10
    wired.receive(b"".join(ping(number) for number in range(count)))
    assert wired.replies() == list(range(PIECE_FRAMES))
    await turn()
    assert wired.replies() == list(range(PIECE_FRAMES, 2 * PIECE_FRAMES))
    await turn()
    assert wired.replies() == list(range(2 * PIECE_FRAMES, count))
    assert wired.connection._reading is None


@pytest.mark.parametrize(
    "data",
    [
        [masked(b"8 bytes.", PONG)],
        [masked(b"", PONG)],
        [masked(b"8 bytes.", PONG)[:9], masked(b"8 bytes.", PONG)[9:]],
        [ping(1) + masked(b"8 bytes.", PONG)],
        [masked(b"8 bytes.", PONG) + ping(1)],
        # As long as the answer to the hub's ping, and not one.
        [masked(b"8 bytes.", PING), masked(b"8 bytes.", PONG)],
    ],
)
async def test_a_pong_is_a_sign_of_life_however_it_comes(
    node: SmallNode, wired: Wired, data: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pong that is alone and whole needs no parser, and frames beside it are carried out."""
    # There is no kernel to ask.
    monkeypatch.setattr(WebSocketConnection, "acknowledged_bytes", lambda _: 0)
    node.clock.advance(26)
    node.heartbeats.tick()
    for part in data:
        assert wired.session.round_trip_seconds is None
        wired.receive(part)
    assert wired.session.round_trip_seconds == 0
    assert wired.connection._reading is None
    if ping(1) in b"".join(data):
        assert wired.replies() == [1]


@pytest.mark.parametrize("frame", [masked(b"", PONG), masked(b"", TEXT, fin=False)])
async def test_frames_without_a_command_count_as_well(
    wired: Wired, turns: Turns, frame: bytes
) -> None:
    """Empty pongs cost a peer six bytes each; a megabyte of them held the loop for a second."""
    if frame[0] & 0x80:
        wired.receive(frame * 40_000)
    else:
        wired.receive(frame + masked(b"", 0x0, fin=False) * 4000)
    reading = wired.connection._reading
    assert reading is not None
    assert reading.queued
    frames_read = (len(frame) * 40_000 - reading.inbound.unread_bytes) / len(frame)
    assert frames_read == PIECE_FRAMES or not frame[0] & 0x80
    assert len(turns) == 1


async def test_while_much_is_unread_the_peer_is_not_read_from(wired: Wired) -> None:
    """The peer is read from again when the bytes were worked off."""
    wired.receive(masked(b"", PONG) * 40_000)
    assert not wired.transport.reading
    await until_read(wired)
    assert wired.transport.reading


async def test_a_little_more_than_a_piece_does_not_stop_the_reading(wired: Wired) -> None:
    """To stop and go on costs two calls of the kernel's."""
    wired.receive(masked(b"", PONG) * (PIECE_FRAMES + 1))
    assert wired.transport.reading
    wired.receive(ping(1))
    assert wired.replies() == []
    await until_read(wired)
    assert wired.replies() == [1]


async def test_bytes_inflated_in_a_piece_are_bounded(node: SmallNode, turns: Turns) -> None:
    """250 KB of compressed commands would be 120 MB at once."""
    wired = Wired(node, turns, deflate=True)
    command = b'{"op":"ping","id":1,"rest":"%b"}' % (b"x" * 200_000)
    wired.receive(packed(command) * 100)
    assert len(wired.replies()) == PIECE_BYTES // len(command) + 1
    await until_read(wired)
    assert len(wired.replies()) == 98


async def test_a_piece_is_bounded_in_time(node: SmallNode, turns: Turns, wired: Wired) -> None:
    """Commands differ in what they cost."""
    node.command_handler.may_begin = _takes(node.clock, PIECE_SECONDS / 3.5)  # type: ignore[method-assign,assignment]
    wired.receive(b"".join(ping(number) for number in range(10)))
    assert wired.replies() == [0, 1, 2, 3]
    await until_read(wired)
    assert wired.replies() == list(range(4, 10))


def _takes(clock: FakeClock, seconds: float) -> Callable[[object], bool]:
    def may_begin(_: object) -> bool:
        clock.advance(seconds)
        return True

    return may_begin


async def test_connections_take_turns(node: SmallNode, turns: Turns) -> None:
    """A connection that sends little waits for one piece of a busy one, not for all of it."""
    greedy, modest = Wired(node, turns), Wired(node, turns)
    greedy.receive(b"".join(ping(number) for number in range(5 * PIECE_FRAMES)))
    modest.receive(ping(1))
    assert modest.replies() == []
    await turn()
    assert modest.replies() == [1]
    assert len(greedy.replies()) == 2 * PIECE_FRAMES


async def test_all_connections_together_get_a_bounded_time_in_each_turn(
    node: SmallNode, turns: Turns
) -> None:
    """However many send however much."""
    peers = [Wired(node, turns) for _ in range(20)]
    node.command_handler.may_begin = _takes(node.clock, TURN_SECONDS / 1.8)  # type: ignore[method-assign,assignment]
    for peer in peers:
        peer.receive(ping(1))
    at_once = sum(bool(peer.replies()) for peer in peers)
    assert 1 <= at_once < 5
    await turn()
    assert sum(bool(peer.replies()) for peer in peers) == 2
    while turns:
        await turn()
    assert sum(bool(peer.replies()) for peer in peers) == 20 - at_once - 2


# -- the inbox -------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["number", "bytes"])
async def test_a_full_inbox_stops_the_reading_within_a_read(by: str) -> None:
    """Where the broker takes its time; it goes on in order when the inbox is done."""
    bounds = {"inbox_max_commands": 3} if by == "number" else {"inbox_max_bytes": 3}
    node = SmallNode(Shape(latent=True, limits=limits(**bounds)))
    wired = Wired(node, Turns(node.clock))
    wired.receive(b"".join(publish(number) for number in range(10)))
    assert wired.session.inbox is not None
    assert len(wired.session.inbox) == 3
    assert not wired.transport.reading
    replies: list[object] = []
    while len(replies) < 10:
        node.loop.settle()
        replies += wired.replies()
        await turn()
    assert replies == list(range(10))
    assert wired.transport.reading


async def test_an_inbox_filled_from_elsewhere_stops_the_reading_too(node: SmallNode) -> None:
    """By `POST /command`."""
    node = SmallNode(Shape(latent=True, limits=limits(inbox_max_commands=1)))
    wired = Wired(node, Turns(node.clock))
    replies: list[Reply] = []
    node.commands.submit(wired.session, Publish(7, "a", b"1"), replies.append)
    assert not wired.transport.reading
    wired.receive(ping(1))
    assert wired.replies() == []
    node.loop.settle()
    await until_read(wired)
    assert [reply.id for reply in replies] == [7]
    assert wired.replies() == [1]
    assert wired.transport.reading


# -- a message's time ------------------------------------------------------------------------

_START = masked(b'{"op":"ping",', TEXT, fin=False)
_END = masked(b'"id":1}', 0x0)


@pytest.mark.parametrize("unfinished", [_START, _START[:-1], _START[:1], ping(1)[:-1]])
async def test_a_message_that_is_not_whole_in_time_ends_the_session(
    node: SmallNode, wired: Wired, unfinished: bytes
) -> None:
    """Fragments and frames alike; a pong in between is no progress."""
    wired.receive(unfinished)
    node.wait(29)
    if unfinished == _START:
        wired.receive(masked(b"", PONG))
    assert wired.pushes() == []
    node.wait(1.1)
    (goodbye,) = wired.pushes()
    assert (goodbye["op"], goodbye["code"]) == ("goodbye", 4504)
    assert "30 seconds" in goodbye["reason"]
    assert wired.connection._reading is None
    node.wait(6)
    assert wired.transport.closing


async def test_each_message_has_its_own_time(node: SmallNode, wired: Wired) -> None:
    """Also one that begins in the read that ends the one before it."""
    wired.receive(_START)
    for _ in range(3):
        node.wait(20)
        wired.receive(_END + _START)
    wired.receive(_END)
    node.wait(60)
    assert wired.replies() == [1] * 4
    assert not wired.session.closing


async def test_time_in_which_the_hub_does_not_read_is_not_the_peers() -> None:
    node = SmallNode(Shape(latent=True, limits=limits(inbox_max_commands=1)))
    wired = Wired(node, Turns(node.clock))
    wired.receive(_START)
    wired.receive(publish(1))
    assert wired.session.closing  # a message within a message
    wired = Wired(node, Turns(node.clock))
    wired.receive(publish(1) + publish(2) + _START)
    node.clock.advance(31)
    node.deadlines.tick(node.clock())
    assert not wired.session.closing
    replies: list[object] = []
    while len(replies) < 2:
        node.loop.settle()
        await turn()
        replies += wired.replies()
    assert replies == [1, 2]


# -- refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (masked(b"", 0x3), 1002),
        (masked(b"x" * 300_000)[:20], 4413),
    ],
)
async def test_a_refused_peer_is_not_listened_to_any_more(
    wired: Wired, broken: bytes, code: int
) -> None:
    """Commands before the fault are carried out and none after it. Later bytes are thrown away,
    up to a limit, so that a reset does not overtake the reason."""
    wired.receive(ping(1) + broken + ping(2))
    reply, goodbye = wired.pushes()
    assert (reply["id"], goodbye["code"]) == (1, code)
    assert wired.transport.ended
    wired.receive(ping(3))
    assert wired.connection._reading is None
    for _ in range(20):
        wired.receive(b"x" * 100_000)
    assert not wired.transport.reading
    assert wired.pushes() == []


@pytest.mark.parametrize(("broken", "code"), [(masked(b"\xff"), 1007), (masked(b"", BINARY), 1003)])
async def test_a_peer_that_is_closed_is_searched_for_its_close_frame_only(
    wired: Wired, broken: bytes, code: int
) -> None:
    """Nothing else of it is unpacked or carried out; found, it ends the connection."""
    wired.receive(broken + ping(2) + masked(b"\xff"))
    (goodbye,) = wired.pushes()
    assert goodbye["code"] == code
    assert not wired.transport.closing
    wired.receive(ping(3) + masked(code.to_bytes(2), CLOSE) + ping(4))
    assert wired.transport.closing
    assert wired.pushes() == []


async def test_a_peer_that_goes_on_sending_after_a_close_is_not_read_from(
    node: SmallNode, wired: Wired
) -> None:
    wired.session.close(1012, "draining")
    for _ in range(20):
        wired.receive(masked(b"x" * 60_000))
        await turn()
    assert not wired.transport.reading
    node.wait(6)
    assert wired.transport.closing


async def test_a_fault_of_the_hub_ends_only_that_session(node: SmallNode, wired: Wired) -> None:
    def fail(_: Session) -> None:
        raise RuntimeError("internals")

    node.heartbeats.pong = fail  # type: ignore[method-assign,assignment]
    wired.receive(masked(b"", PONG))
    (goodbye,) = wired.pushes()
    assert (goodbye["code"], goodbye["reason"]) == (4500, "internal error")
    assert len(node.faults) == 1
    assert wired.connection._reading is None


@pytest.mark.parametrize("behind", [b"", masked(b"", PONG)])
async def test_a_fault_of_the_hub_in_a_command_ends_only_that_session(
    node: SmallNode, wired: Wired, monkeypatch: pytest.MonkeyPatch, behind: bytes
) -> None:
    """Also where the command is alone in its read."""

    def fail(*_: object) -> None:
        raise RuntimeError("internals")

    monkeypatch.setattr(node.commands, "submit", fail)
    wired.receive(ping(1) + behind)
    (goodbye,) = wired.pushes()
    assert (goodbye["code"], goodbye["reason"]) == (4500, "internal error")
    assert len(node.faults) == 1
    assert wired.transport.ended
    wired.receive(ping(2))
    assert wired.pushes() == []


@pytest.mark.parametrize("behind", [b"", ping(2)])
async def test_a_text_that_is_not_utf_8_fails_the_connection(wired: Wired, behind: bytes) -> None:
    wired.receive(masked(b"\xff") + behind)
    (goodbye,) = wired.pushes()
    assert goodbye["code"] == 1007
    assert wired.session.closing


# -- ends ------------------------------------------------------------------------------------


async def test_a_close_frame_is_echoed_and_ends_the_connection(wired: Wired) -> None:
    wired.receive(ping(1) + masked(b"\x03\xe8bye", CLOSE) + ping(2))
    written = b"".join(wired.transport.writes)
    assert written.endswith(b"\x88\x05\x03\xe8bye")
    assert wired.replies() == [1]
    assert wired.transport.closing
    assert wired.session.closing


async def test_commands_before_the_end_are_carried_out(wired: Wired) -> None:
    """Also when the end comes while it waits for its turn."""
    count = PIECE_FRAMES + 10
    wired.receive(b"".join(ping(number) for number in range(count)))
    assert wired.connection.eof_received()
    await until_read(wired)
    assert len(wired.replies()) == count
    assert wired.session.closing
    assert wired.transport.closing


async def test_nothing_over_tls_asks_to_stay_open_behind_its_peers_end(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its transport closes all the same, and asyncio would log a warning for each such peer."""
    monkeypatch.setattr(wired.transport, "can_write_eof", lambda: False)
    wired.receive(b"".join(ping(number) for number in range(PIECE_FRAMES + 10)))
    assert not wired.connection.eof_received()


async def test_an_end_in_the_middle_of_nothing_ends_the_session(wired: Wired) -> None:
    assert not wired.connection.eof_received()
    assert wired.session.closing


async def test_a_lost_connection_leaves_nothing_waiting(
    node: SmallNode, wired: Wired, turns: Turns
) -> None:
    wired.receive(ping(1) * (PIECE_FRAMES + 1))
    wired.connection.connection_lost(None)
    await turn()
    assert not turns
    assert len(wired.replies()) == PIECE_FRAMES
    assert not node.registry.sessions
    wired = Wired(node, turns)
    wired.receive(_START)
    wired.connection.connection_lost(None)
    node.wait(31)
    assert wired.pushes() == []


@pytest.mark.parametrize("way", ["lost", "ended"])
async def test_of_many_that_end_at_once_each_has_its_turn(
    node: SmallNode, turns: Turns, way: str
) -> None:
    """Open sessions are served meanwhile, and a session whose peer has gone is written nothing."""
    leaving, staying = Wired(node, turns, channels=("a",)), Wired(node, turns, channels=("a",))
    turns.crowd.spent(2 * TURN_SECONDS)
    if way == "lost":
        leaving.connection.connection_lost(None)
    else:
        leaving.connection.eof_received()
    assert not leaving.session.closing
    node.publish("a", b"1")
    node.loop.settle()
    assert [push["op"] for push in staying.pushes()] == ["message"]
    assert way == "ended" or leaving.pushes() == []
    await turn()
    assert leaving.session.closing
    assert list(node.registry.sessions) == [staying.session.id]
    assert leaving.connection.descriptor is None


async def test_an_end_that_waits_for_its_turn_keeps_its_reason(node: SmallNode) -> None:
    """Although its transport is lost before its turn."""
    turns, reasons = Turns(node.clock), Reasons()
    wired = Wired(node, turns)
    node.registry.watch = reasons
    turns.crowd.spent(2 * TURN_SECONDS)
    wired.connection.eof_received()
    wired.connection.connection_lost(None)
    await turn()
    assert reasons == [(1006, "connection ended without a close frame")]
    assert wired.session.gone


async def test_a_connection_that_ends_leaves_nothing_to_the_garbage_collector(
    node: SmallNode, turns: Turns
) -> None:
    """Of 15,000 that end in a storm, none waits for a collection of all that lives."""
    gc.collect()
    gc.disable()
    try:
        wired = Wired(node, turns, channels=("a",))
        wired.receive(ping(1))
        gone = weakref.ref(wired.transport)
        wired.connection.connection_lost(None)
        # As a real transport does at its end.
        wired.transport.protocol = None
        del wired
        assert gone() is None
    finally:
        gc.enable()


async def test_a_ping_is_answered_with_its_payload(wired: Wired) -> None:
    wired.receive(masked(b"are you there", PING))
    assert wired.transport.writes == [b"\x8a\x0dare you there"]


async def test_a_command_that_a_peer_may_not_send_is_answered_with_a_reply(
    node: SmallNode, turns: Turns
) -> None:
    wired = Wired(node, turns)
    wired.session.identity = Identity()
    wired.receive(publish(1) + masked(b"{") + masked(b'{"op":"dance","id":3}'))
    replies = wired.pushes()
    assert [reply["error"]["code"] for reply in replies] == [
        "forbidden", "bad_request", "bad_request",
    ]  # fmt: skip
    assert [reply["id"] for reply in replies] == [1, None, 3]
