"""A session writes, is owed, and ends; whatever the peer does."""

import pytest

from hub.core.commands import Publish
from tests.core.small_node import Shape, SmallNode, limits
from tests.core.subscribers import Subscriber


def test_a_goodbye_stands_behind_what_was_handed_over_and_is_the_last() -> None:
    """The peer may take the goodbye only later, and nothing follows it."""
    node = SmallNode()
    reader = Subscriber(node, "a")
    reader.block()
    reader.publish("a", 2)
    reader.session.close(1012, "draining", 8000)
    reader.publish("a", 1)
    pushes = reader.drain()
    assert [push["op"] for push in pushes] == ["message", "goodbye"]
    assert pushes[-1] == {
        "op": "goodbye", "code": 1012, "reason": "draining", "reconnect_within_ms": 8000,
    }  # fmt: skip
    assert reader.link.closed == (1012, "draining")


def test_closing_twice_is_harmless() -> None:
    """The first reason counts, once."""
    node = SmallNode()
    reader = Subscriber(node, "a")
    reader.session.close(1012, "draining")
    reader.session.close(4508, "slow")
    reader.session.lost(1006, "gone")
    reader.session.lost(1006, "gone")
    assert node.counters.closed == {"1012": 1}
    assert [push["op"] for push in reader.read()] == ["goodbye"]


def test_a_lost_session_owes_nothing_any_more() -> None:
    """Its outbox is given back to the process at once."""
    node = SmallNode()
    reader = Subscriber(node, "a")
    reader.block()
    reader.publish("a", 20)
    assert node.outbox_budget.bytes > 0
    reader.session.lost(1006, "gone")
    assert node.outbox_budget.bytes == 0
    assert not node.outbox_budget.sessions
    assert node.channels == {}
    reader.link.drain()
    assert node.counters.closed == {"1006": 1}


def test_a_peer_that_left_is_aborted_when_its_connection_stays() -> None:
    """A peer that closes and does not read would keep the transport for ever."""
    node = SmallNode()
    reader = Subscriber(node, "a")
    reader.session.left(1000, "closed by the peer")
    assert list(node.registry.leaving) == [reader.session]
    node.clock.advance(node.shape.close_timeout_seconds + 1)
    node.deadlines.tick(node.clock())
    assert reader.link.aborted


def test_a_publication_is_counted_as_sent_when_it_is_handed_over() -> None:
    """A publication in an outbox does not count yet."""
    node = SmallNode()
    reader = Subscriber(node, "a")
    reader.publish("a", 2)
    reader.block()
    reader.publish("a", 5)
    assert (reader.session.sent, node.counters.deliveries) == (3, 3)
    reader.drain()
    assert (reader.session.sent, node.counters.deliveries) == (7, 7)


@pytest.mark.parametrize("room", range(400))
def test_wherever_a_write_stops_the_stream_is_the_same(room: int) -> None:
    """The batch has several frames and is cut at every byte."""
    node = SmallNode()
    reader = Subscriber(node, "a")
    reader.link.room = room
    for _ in range(5):
        node.publish("a", b'"payload"')
    node.loop.settle()
    assert [push["offset"] for push in reader.drain()] == [1, 2, 3, 4, 5]
    assert reader.session.sent == 5
    assert node.counters.bytes_sent == len(reader.link.received)


def test_the_position_is_what_the_peers_transport_was_handed() -> None:
    """The position does not count what the outbox still holds."""
    node = SmallNode()
    reader = Subscriber(node, "a")
    reader.block()
    reader.publish("a", 4)
    place = reader.session.subscriptions["a"]
    assert (place.position.offset, place.state) == (1, "congested")
    reader.drain()
    assert (place.position.offset, place.state) == (4, "live")


def test_a_reply_overtakes_messages_but_not_a_started_frame() -> None:
    node = SmallNode()
    reader = Subscriber(node, "a")
    reader.link.room = 10
    reader.publish("a", 3)
    node.do(reader.session, Publish("p", "b", b"1"))
    assert [push["op"] for push in reader.drain()] == ["message", "reply", "message", "message"]


@pytest.mark.parametrize("room", [1 << 40, 3000, 500, 37])
def test_every_byte_that_a_session_is_sent_is_counted_once(room: int) -> None:
    """Welcome, replies, replay, broadcasts, owed messages, heartbeats, gaps and the goodbye
    count, whether they are taken at once or in pieces."""
    node = SmallNode(Shape(limits=limits(outbox_max_messages=5)))
    for _ in range(20):
        node.publish("a", b'"0123456789"')
    readers = [Subscriber(node, transport=name) for name in ("websocket", "sse")]
    for reader in readers:
        reader.subscribe("a", last=20)
        reader.ping()
    for _ in range(4):
        for reader in readers:
            reader.link.room = room
        readers[0].publish("a", 7)
        readers[0].publish("b", 1)
        node.clock.advance(30)
        node.heartbeats.tick()
        for reader in readers:
            reader.ping()
            reader.link.drain()
            node.loop.settle()
    readers[1].unsubscribe("a")
    readers[0].block()
    for reader in readers:
        reader.session.close(1012, "draining")
    sent = sum(len(reader.link.received) + len(reader.link.pending) for reader in readers)
    assert node.counters.bytes_sent == sent
