"""Each bound of a session's connection: what comes up to it is taken, and one beyond is not."""

import socket
from typing import cast

import pytest

from hub.core.identity import Identity
from hub.core.options import Namespaces
from hub.errors import HeadersTooLargeError, TooManySubscriptionsError
from hub.transports.admission import UrlRules
from hub.transports.connection.streams import check_target
from hub.transports.inbound import Inbound, PingFrame
from hub.transports.poll_sessions import _lease_seconds
from hub.transports.request import Request
from hub.transports.turns import Turns
from hub.wire.query import SubscriptionQuery
from tests.core.poll_guests import poll_sessions
from tests.core.small_node import SmallNode
from tests.support.frames import PING, PONG, TEXT, masked
from tests.transports.test_inbound import CONTINUATION, TOO_LARGE, read_all
from tests.transports.test_poll import Hub as PollingHub
from tests.transports.test_poll import ask
from tests.transports.test_stream import Ends, NotingTransport, connection, ends, has_nothing
from tests.transports.test_websocket import until_read
from tests.transports.wired import Wired, ping

__all__ = ["ends"]

KIB = 1024


@pytest.fixture
def wired() -> Wired:
    node = SmallNode()
    return Wired(node, Turns(node.clock))


# -- frames ------------------------------------------------------------------------------------


def test_a_control_frame_has_up_to_125_bytes() -> None:
    for size, found in ((125, PingFrame(b"x" * 125)), (126, 1002)):
        inbound = Inbound(deflate=False, max_bytes=1000)
        inbound.feed(masked(b"x" * size, PING))
        assert read_all(inbound) == [found]


async def test_a_ping_of_125_bytes_comes_back_whole(wired: Wired) -> None:
    wired.receive(masked(b"x" * 125, PING))
    assert wired.transport.writes == [b"\x8a\x7d" + b"x" * 125]
    wired.receive(masked(b"x" * 126, PING))
    (goodbye,) = [push for push in wired.pushes() if push["op"] == "goodbye"]
    assert goodbye["code"] == 1002


@pytest.mark.parametrize(("pieces", "whole"), [(4096, True), (4097, False)])
def test_a_message_has_up_to_4096_fragments(pieces: int, whole: bool) -> None:
    """Empty ones, and with the last one that ends it."""
    inbound = Inbound(deflate=False, max_bytes=1000)
    more = masked(b"", CONTINUATION, fin=False) * (pieces - 2)
    inbound.feed(masked(b"", TEXT, fin=False) + more + masked(b"{}", CONTINUATION))
    assert read_all(inbound) == ([b"{}"] if whole else [TOO_LARGE])


# -- how much is read --------------------------------------------------------------------------


async def test_a_peer_is_read_from_until_64_kib_wait_for_their_turn(wired: Wired) -> None:
    frame, many = masked(b"", PONG), 64 * KIB // 6
    wired.receive(frame * (256 + many) + frame[: 64 * KIB - 6 * many])
    assert wired.transport.reading
    wired.receive(b"\0")
    assert not wired.transport.reading


async def test_bytes_behind_a_close_are_searched_and_read_up_to_a_bound(wired: Wired) -> None:
    """A close frame in the first 512 KiB ends the connection; after a MiB nothing is read."""
    wired.session.close(1012, "draining")
    frame = masked(b"x" * 1016)
    assert len(frame) == KIB
    for _ in range(512):
        wired.receive(frame)
    assert not wired.connection._deaf
    wired.receive(b"\x81")
    assert wired.connection._deaf
    wired.receive(b"x" * (512 * KIB - 1))
    assert wired.transport.reading
    wired.receive(b"x")
    assert not wired.transport.reading


# -- how much is written at once ---------------------------------------------------------------


def test_up_to_64_kib_leave_in_one_write(ends: Ends) -> None:
    """With one byte more what came before leaves first, and the rest at once."""
    ours, theirs = ends
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    link = connection(NotingTransport(ours))
    link.cork(b"head")
    link.send(b"a" * (64 * KIB - 5))
    link.send(b"b")
    assert has_nothing(theirs)
    link.send(b"c")
    assert theirs.recv(1 << 20) == b"head" + b"a" * (64 * KIB - 5) + b"b" + b"c"


# -- what a URL may ask for --------------------------------------------------------------------


def request_of(target: bytes) -> Request:
    return cast("Request", type("Head", (), {"target": target})())


def test_a_sessions_url_has_up_to_4096_bytes() -> None:
    check_target(request_of(b"/" * 4096))
    with pytest.raises(HeadersTooLargeError, match="URL is 4,097 bytes, limit is 4,096"):
        check_target(request_of(b"/" * 4097))


@pytest.mark.parametrize("most", [0, 2])
def test_a_url_names_as_many_patterns_as_a_session_may_have(most: int) -> None:
    rules, anybody = UrlRules(Namespaces(), most), Identity(subscribe=("*",))
    patterns = tuple(f"p{number}:*" for number in range(most + 1))
    rules.check(anybody, SubscriptionQuery(patterns=patterns[:most]))
    with pytest.raises(TooManySubscriptionsError, match=f"may have {most} patterns"):
        rules.check(anybody, SubscriptionQuery(patterns=patterns))


async def test_a_command_is_answered_at_the_largest_frame_and_not_beyond(wired: Wired) -> None:
    """Four times the payload and 4 KiB around it."""
    head = b'{"op":"ping","id":1,"rest":"'
    limit = 4 * 65_536 + 4096
    wired.receive(masked(head + b"x" * (limit - len(head) - 2) + b'"}'))
    await until_read(wired)
    assert wired.replies() == [1]
    wired.receive(masked(head + b"x" * (limit - len(head) - 1) + b'"}') + ping(2))
    await until_read(wired)
    (goodbye,) = wired.pushes()
    assert (goodbye["op"], goodbye["code"]) == ("goodbye", 4413)


@pytest.mark.parametrize(("waits", "lease"), [(0.0, 10.0), (5.0, 10.0), (5.5, 11.0), (25.0, 50.0)])
def test_a_session_is_kept_for_two_waits_and_ten_seconds_at_least(
    waits: float, lease: float
) -> None:
    """One that no poll has gone on with so far is kept for five seconds."""
    going_on = {"connection": "c1", "secret": "s"}
    assert _lease_seconds(ask("a", welcome=going_on, wait_seconds=waits)) == lease
    assert _lease_seconds(ask("a", wait_seconds=waits)) == 5.0


@pytest.mark.parametrize(("connections", "rest"), [(63, 16), (64, 16), (68, 17), (1000, 250)])
def test_a_quarter_of_the_connections_may_be_sessions_between_two_polls(
    connections: int, rest: int
) -> None:
    """16 at least."""
    assert poll_sessions(PollingHub(max_connections=connections).node)._max_resting == rest
