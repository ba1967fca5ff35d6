"""Streams that begin all at once have turns, and a peer that asks for
something else need not wait."""

from pathlib import Path
from typing import Any

from hub.transports.connection.connection import Connection
from hub.transports.connection.states import HttpState
from hub.transports.http.routes import StreamKind
from hub.transports.request import Request
from hub.transports.turns import TURN_SECONDS
from tests.support.frames import UPGRADE
from tests.transports.connection.rig import AWAY, LIMITS, FakeTransport, Rig, get, post


def crowd(rig: Rig) -> None:
    """Its connection asks for a stream while many others begin."""
    rig.turns.crowd.spent(2 * TURN_SECONDS)
    rig.receive(get("/ws?channel=a", UPGRADE) + b"first")


async def test_a_stream_that_comes_in_a_crowd_waits_for_its_turn(rig: Rig) -> None:
    """The bytes that came behind its request meanwhile go to the stream."""
    crowd(rig)
    assert not rig.streams.opened
    rig.receive(b"second")
    await rig.settle()
    assert rig.streams.opened == [(StreamKind.WEBSOCKET, b"/ws?channel=a", b"firstsecond")]
    assert not rig.sockets.http


async def test_in_one_turn_of_the_loop_a_crowd_has_a_bounded_time(rig: Rig) -> None:
    """Each of these takes more than that, so one is opened in each turn."""
    opening = rig.streams.open

    def slowly(stream: StreamKind, request: Request, transport: Any, rest: bytes) -> None:
        rig.now += 3 * TURN_SECONDS
        opening(stream, request, transport, rest)

    rig.streams.open = slowly  # type: ignore[method-assign]
    counts = []
    for _ in range(4):
        rig.receive(get("/ws", UPGRADE))
        rig.connect()
    for _ in range(4):
        counts.append(len(rig.streams.opened))
        await rig.turn()
    assert counts == [1, 2, 3, 4]


async def test_clients_of_one_proxy_take_turns_as_others_do(files: Path) -> None:
    rig = Rig(files, proxies="192.0.2.7")
    rig.turns.crowd.spent(2 * TURN_SECONDS)
    clients = ["198.51.100.9"] * 20 + ["203.0.113.9"]
    for client in clients:
        rig.receive(get(f"/ws?channel={client}", f"X-Forwarded-For: {client}\r\n{UPGRADE}"))
        rig.connect()
    await rig.settle()
    opened = [target.partition(b"=")[2].decode() for _, target, _ in rig.streams.opened]
    assert len(opened) == len(clients)
    assert opened[1] == clients[-1]


async def test_a_peer_that_asks_for_no_stream_is_answered_beside_a_crowd(rig: Rig) -> None:
    """A probe that waited for thousands of streams would have the node restarted under them."""
    crowd(rig)
    rig.connect()
    rig.receive(get("/healthz") + post("a", b"1"))
    assert rig.answers == [200, 200]
    assert not rig.streams.opened


async def test_a_peer_that_waits_among_a_crowd_is_not_told_that_it_is_late(rig: Rig) -> None:
    """The peer has sent its whole request, so only the time for an answer runs."""
    crowd(rig)
    rig.wait(LIMITS.handshake_timeout_seconds + 1)
    assert not rig.transport.ended
    await rig.settle()
    assert len(rig.streams.opened) == 1


async def test_a_peer_that_has_gone_before_its_turn_gets_no_stream(rig: Rig) -> None:
    """In a storm clients give up and come again, and requests of those that
    gave up are not worked off."""
    crowd(rig)
    rig.connection.connection_lost(None)
    await rig.settle()
    assert not rig.streams.opened
    assert not rig.sockets.http


async def test_a_peer_that_says_no_more_before_its_turn_gets_no_stream(rig: Rig) -> None:
    """As it would have ended the stream."""
    crowd(rig)
    assert rig.connection.eof_received()
    await rig.settle()
    assert rig.transport.ended
    assert not rig.streams.opened


async def test_a_peer_that_is_refused_in_its_turn_is_told_so(rig: Rig) -> None:
    crowd(rig)
    rig.streams.refuses = AWAY
    await rig.settle()
    assert rig.answers == [503]
    assert rig.transport.ended


async def test_a_listener_that_stops_serves_who_waits_for_a_turn(rig: Rig) -> None:
    crowd(rig)
    rig.connection.shut_down()
    await rig.settle()
    assert len(rig.streams.opened) == 1


async def test_a_stream_behind_another_request_waits_for_its_turn_too(rig: Rig) -> None:
    rig.turns.crowd.spent(2 * TURN_SECONDS)
    rig.receive(post("slow", b"1") + get("/sse?channel=a"))
    rig.registry.gate.set()
    await rig.settle()
    assert rig.answers == [200]
    assert [stream for stream, _, _ in rig.streams.opened] == [StreamKind.SSE]


async def test_a_stream_is_given_up_when_its_turn_takes_as_long_as_an_answer_may(rig: Rig) -> None:
    """Nobody waits for a stream for longer."""
    transport = FakeTransport()
    connection = Connection(rig.context)
    transport.protocol = connection
    connection.connection_made(transport)
    rig.turns.crowd.spent(1e6)
    connection.data_received(get("/ws", UPGRADE))
    assert connection.phase.state is HttpState.ANSWERING
    rig.wait(1e4)
    assert transport.aborted


def late(rig: Rig, heads: list[bytes]) -> list[Connection]:
    """Return connections that have sent these bytes and then nothing in time."""
    connections = []
    for head in heads:
        rig.connect()
        connections.append(rig.connection)
        if head:
            rig.receive(head)
    rig.turns.crowd.spent(1e6)
    rig.wait(LIMITS.handshake_timeout_seconds + 1)
    return connections


async def test_peers_that_are_late_together_have_turns_to_be_told_so(rig: Rig) -> None:
    """Thousands may send nothing, or half a head: to answer them at once would hold the loop up."""
    told = len(late(rig, [b"", b"GET / HT"] * 3))
    assert len(rig.turns.crowd) == told + 1
    assert len(rig.sockets.http) == told + 1
    await rig.settle()
    assert rig.answers == [408]
    assert not rig.turns.crowd


async def test_a_peer_that_sends_its_request_before_it_is_told_that_it_is_late_is_answered(
    rig: Rig,
) -> None:
    late(rig, [b"GET /healthz HT"])
    rig.receive(get("/healthz").removeprefix(b"GET /healthz HT"))
    await rig.settle()
    assert rig.answers == [200]


async def test_a_peer_that_leaves_before_it_is_told_that_it_is_late_is_told_nothing(
    rig: Rig,
) -> None:
    late(rig, [b"", b"GET"])
    transport = rig.transport
    transport.abort()
    await rig.settle()
    assert transport.written == b""
