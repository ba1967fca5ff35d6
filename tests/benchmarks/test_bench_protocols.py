"""The connections by which `hub bench` loads a node, on a transport that only notes."""

import asyncio
from typing import cast

import pytest

from hub.bench.connects import _Caller
from hub.bench.plan import BenchError
from hub.bench.scenarios.feeds import _Arrivals, _Subscriber
from hub.bench.scenarios.storm import _Returning
from hub.bench.senders import Sender

NEEDLE = b"HTTP/1.1 200"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
SUBSCRIBED = b'..{"op":"subscribed","channel":"a"}'
MESSAGE = b'..{"op":"message","channel":"a","offset":%d,"data":1}'


class NotingTransport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True


def connected(protocol: asyncio.Protocol) -> NotingTransport:
    transport = NotingTransport()
    protocol.connection_made(cast("asyncio.Transport", transport))
    return transport


def pieces(stream: bytes, cut: int) -> tuple[bytes, bytes]:
    return stream[:cut], stream[cut:]


@pytest.mark.parametrize("cut", range(1, 2 * len(ANSWER)))
def test_a_sender_sends_again_with_each_answer_wherever_it_is_cut(cut: int) -> None:
    sender = Sender(b"", lambda: b"POST", needle=NEEDLE, answers=1)
    transport = connected(sender)
    for piece in pieces(ANSWER * 2, cut):
        sender.data_received(piece)
    assert sender.answered == 2
    assert sender.wrong == b""
    # The two may have come in one read, and one request is then under way for both.
    assert len(transport.written) in {2, 3}
    sender.close()
    assert transport.closed


def test_a_sender_counts_answers_that_come_byte_by_byte() -> None:
    sender = Sender(b"", lambda: b"POST", needle=NEEDLE, answers=1)
    transport = connected(sender)
    for byte in ANSWER * 3:
        sender.data_received(bytes((byte,)))
    assert sender.answered == 3
    assert transport.written == [b"POST"] * 4


def test_a_sender_has_so_many_windows_under_way_and_waits_for_all_answers_of_one() -> None:
    sender = Sender(b"hello ", lambda: b"P", needle=NEEDLE, answers=2, windows=2)
    transport = connected(sender)
    assert transport.written == [b"hello PP"]
    sender.data_received(ANSWER)
    assert len(transport.written) == 1
    sender.data_received(ANSWER)
    assert transport.written[1:] == [b"P"]


@pytest.mark.parametrize("wrong", [b"HTTP/1.1 503 x\r\n", b'{"op":"reply","error":{}}'])
def test_a_sender_keeps_what_is_no_answer(wrong: bytes) -> None:
    sender = Sender(b"", lambda: b"POST", needle=NEEDLE, answers=1)
    connected(sender)
    sender.data_received(wrong)
    assert (sender.wrong, sender.answered) == (wrong, 0)


@pytest.mark.parametrize("cut", range(1, len(SUBSCRIBED)))
async def test_a_caller_is_done_with_its_subscription_wherever_it_is_cut(cut: int) -> None:
    caller = _Caller(b"GET /ws", b'"op":"subscribed"')
    assert connected(caller).written == [b"GET /ws"]
    for piece in pieces(SUBSCRIBED, cut):
        caller.data_received(piece)
    assert caller.done.done()
    caller.data_received(b"more")
    caller.connection_lost(None)
    await caller.done


async def test_a_caller_that_is_hung_up_on_says_what_came() -> None:
    caller = _Caller(b"GET /ws", b'"op":"subscribed"')
    connected(caller)
    caller.data_received(b"HTTP/1.1 503 x")
    caller.connection_lost(None)
    with pytest.raises(BenchError, match=r"hung up: .*503"):
        await caller.done


STREAM = SUBSCRIBED + MESSAGE % 1 + MESSAGE % 2


@pytest.mark.parametrize("cut", range(1, len(STREAM)))
async def test_a_subscriber_counts_each_message_once_wherever_it_is_cut(cut: int) -> None:
    arrivals = _Arrivals()
    peer = _Subscriber(b"GET /ws", arrivals)
    connected(peer)
    for piece in pieces(STREAM, cut):
        peer.data_received(piece)
    assert arrivals.count == 2
    assert peer.subscribed.done()


@pytest.mark.parametrize("cut", range(1, len(STREAM)))
async def test_a_connection_that_returns_is_done_with_all_that_it_missed(cut: int) -> None:
    peer = _Returning(b"GET /ws", 2)
    connected(peer)
    first, rest = pieces(STREAM, cut)
    peer.data_received(first)
    assert peer.done.done() is (first.count(b'"offset":') == 2)
    peer.data_received(rest)
    assert (await peer.done).startswith(SUBSCRIBED)
    peer.connection_lost(None)


async def test_a_connection_that_is_cut_while_it_returns_says_so() -> None:
    peer = _Returning(b"GET /ws", 2)
    connected(peer)
    peer.data_received(SUBSCRIBED + MESSAGE % 1)
    peer.connection_lost(ConnectionResetError())
    with pytest.raises(BenchError, match="cut while it resumed"):
        await peer.done
