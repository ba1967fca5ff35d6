"""Publications without an offset: they move nothing, and none goes without a word."""

from functools import partial

import pytest

from hub.core.commands import Subscribe, SubscribePattern, Unsubscribe
from hub.core.options import ChannelOptions, Namespaces, Overflow
from hub.core.ports import PublishRequest
from hub.core.publication import ENDS, Position, Publication
from hub.core.pushes import Gap, GapReason
from hub.wire.sse import SeveralSseDialect, SseDialect
from tests.core.small_node import Shape, SmallNode, limits
from tests.core.subscribers import Subscriber
from tests.support.stream import Push

HISTORY = Namespaces(ChannelOptions(history_size=1000))
KEYED = Namespaces(ChannelOptions(overflow=Overflow.LATEST_PER_KEY))


def send_raw(node: SmallNode, data: bytes = b"1", channel: str = "a") -> None:
    node.deliver(Publication(channel, 0, data, 0))


def data_of(pushes: list[Push]) -> list[object]:
    return [push["data"] for push in pushes if push["op"] == "message" and "offset" not in push]


def offsets_of(pushes: list[Push]) -> list[object]:
    return [push["offset"] for push in pushes if push["op"] == "message" and "offset" in push]


def test_unsequenced_publications_stand_where_they_came_and_move_no_position() -> None:
    """Equal ones are no duplicates of each other."""
    node = SmallNode()
    reader = Subscriber(node, "a")
    node.publish("a")
    send_raw(node)
    send_raw(node)
    node.publish("a")
    node.loop.settle()
    pushes = [push for push in reader.read() if push["op"] == "message"]
    assert [push.get("offset") for push in pushes] == [1, None, None, 2]
    assert reader.session.subscriptions["a"].position.offset == 2
    send_raw(node)
    node.loop.settle()
    assert reader.session.subscriptions["a"].position.offset == 2


@pytest.mark.parametrize("namespaces", [Namespaces(), KEYED], ids=["drop_oldest", "latest_per_key"])
def test_dropped_unsequenced_publications_are_counted(namespaces: Namespaces) -> None:
    """They count in one gap beside those that had an offset; together with what
    arrived, nothing is missing."""
    node = SmallNode(Shape(namespaces, limits=limits(outbox_max_messages=5)))
    reader = Subscriber(node, "a")
    reader.block()
    node.publish("a")
    node.loop.settle()
    for number in range(40):
        send_raw(node, b"%d" % number)
        node.loop.settle()
    pushes = reader.drain()
    (gap,) = [push for push in pushes if push["op"] == "gap" and "unsequenced" in push]
    assert gap["reason"] == "slow"
    assert "from" not in gap
    assert int(str(gap["unsequenced"])) + len(data_of(pushes)) == 40
    assert data_of(pushes)[-1] == 39


@pytest.mark.parametrize("room", [1_000_000, 300], ids=["fast", "slow"])
def test_unsequenced_publications_do_not_wait_for_a_replay(room: int) -> None:
    """History does not hold them: they are sent at once, each a single time."""
    node = SmallNode(Shape(HISTORY, limits=limits(outbox_max_messages=1000), latent=True))
    for _ in range(200):
        node.publish("a")
    held = node.memory.held("a")
    assert held is not None
    reader = Subscriber(node)
    reader.link.room = room
    beginning = Position(held[0].epoch, 0)
    node.commands.submit(reader.session, Subscribe(1, "a", since=beginning))
    sent = 0
    pushes: list[Push] = []
    for _ in range(3000):
        node.loop.step()
        subscription = reader.session.subscriptions.get("a")
        if subscription is not None and not subscription.live and sent < 150:
            for _ in range(3):
                send_raw(node, b"%d" % sent)
                sent += 1
            node.publish("a")
        node.loop.turn()
        reader.link.drain(90)
        pushes += reader.read()
    pushes += reader.drain()
    assert sent > 3
    assert data_of(pushes) == list(range(sent))
    assert offsets_of(pushes) == list(range(1, 201 + sent // 3))
    assert not [push for push in pushes if push["op"] == "gap"]


def test_a_peer_that_takes_half_of_them_during_a_replay_misses_none() -> None:
    """The rest waits for the peer, before the replay goes on; nothing is called missing."""
    node = SmallNode(Shape(HISTORY, latent=True))
    node.publish("a")
    held = node.memory.held("a")
    assert held is not None
    reader = Subscriber(node)
    node.commands.submit(reader.session, Subscribe(1, "a", since=Position(held[0].epoch, 0)))
    while "a" not in reader.session.subscriptions:
        node.loop.step()
        node.loop.turn()
    assert not reader.session.subscriptions["a"].live
    reader.link.room = 30
    for number in range(3):
        send_raw(node, b"%d" % number)
    node.loop.turn()
    pushes = reader.drain()
    assert data_of(pushes) == [0, 1, 2]
    assert offsets_of(pushes) == [1]
    assert not [push for push in pushes if push["op"] == "gap"]


def test_an_unsequenced_publication_between_replayed_ones_is_still_sent() -> None:
    """The batch of this tick repeats what history had, but for what has no offset."""
    node = SmallNode(Shape(HISTORY))
    node.publish("a")
    node.loop.settle()
    held = node.memory.held("a")
    assert held is not None
    reader = Subscriber(node)
    reader.link.room = 0
    node.commands.submit(reader.session, Subscribe(1, "a", since=Position(held[0].epoch, 0)))
    node.loop.settle()
    node.publish("a")
    send_raw(node, b'"between"')
    node.publish("a")
    subscription = reader.session.subscriptions["a"]
    # As a page of history that was read in the middle of the tick.
    subscription.go_live(3)
    node.loop.settle()
    pushes = reader.drain()
    assert data_of(pushes) == ["between"]


def test_an_invalid_one_is_a_gap_that_moves_nothing() -> None:
    """An invalid publication has no offset, so the positions of subscription and channel stay."""
    node = SmallNode()
    reader = Subscriber(node, "a")
    node.publish("a")
    node.loop.settle()
    reader.read()
    channel = node.channels["a"]
    node.lost(Gap("a", channel.epoch, 0, 0, GapReason.INVALID, 1))
    node.loop.settle()
    assert channel.offset == reader.session.subscriptions["a"].position.offset == 1
    node.publish("a")
    node.loop.settle()
    gap, message = reader.read()
    assert gap == {
        "op": "gap", "channel": "a", "epoch": channel.epoch, "unsequenced": 1, "reason": "invalid"
    }  # fmt: skip
    assert message["offset"] == 2
    assert channel.offset == 2


def test_a_slow_reader_is_owed_no_more_of_the_invalid_than_of_the_valid() -> None:
    """Notices of invalid publications are dropped too, and are counted like the publications."""
    node = SmallNode(Shape(limits=limits(outbox_max_messages=5)))
    reader = Subscriber(node, "a")
    reader.block()
    node.publish("a")
    node.loop.settle()
    epoch = node.channels["a"].epoch
    for _ in range(40):
        node.lost(Gap("a", epoch, 0, 0, GapReason.INVALID, 1))
        node.loop.settle()
    gaps = [push for push in reader.drain() if push["op"] == "gap"]
    assert len(gaps) <= 6
    assert sum(int(str(gap["unsequenced"])) for gap in gaps) == 40


def test_an_event_without_an_offset_leaves_the_last_event_id() -> None:
    """`EventSource` keeps the id of the event before it, and resumes there."""
    encode = partial(SseDialect(SeveralSseDialect()).encode, epoch="e")
    assert encode(Publication("a", 7, b"1", 0)).startswith(b"id: e:7\n")
    assert b"id:" not in encode(Publication("a", 0, b"1", 0))
    assert b"id:" not in encode(Gap("a", "e", 0, 0, GapReason.SLOW, 3))


def test_an_unsequenced_publication_comes_once_to_a_member_that_leaves_an_ended_channel() -> None:
    """It came between the channel's end and the turn in which the members leave."""
    node = SmallNode()
    reader = Subscriber(node, "a")
    node.request(PublishRequest("a", b"1", "backend", marks=ENDS))
    node.loop.turn()
    send_raw(node, b"2")
    node.loop.settle()
    pushes = reader.read()
    assert [push["op"] for push in pushes] == ["message", "message", "unsubscribed"]
    assert data_of(pushes) == [2]


def test_an_unsequenced_publication_comes_once_to_a_member_through_a_pattern_and_by_name() -> None:
    """The member subscribes by name, and leaves by name, just after such publications."""
    node = SmallNode()
    reader = Subscriber(node)
    node.publish("a")
    node.do(reader.session, SubscribePattern(1, "*"))
    node.publish("a")
    send_raw(node, b"2")
    node.commands.submit(reader.session, Subscribe(2, "a"))
    send_raw(node, b"3")
    node.loop.settle()
    assert data_of(reader.read()) == [2, 3]
    send_raw(node, b"4")
    node.commands.submit(reader.session, Unsubscribe(3, "a"))
    send_raw(node, b"5")
    node.loop.settle()
    assert data_of(reader.read()) == [4, 5]


def test_an_unsequenced_publication_comes_once_to_a_member_that_begins_anew_by_name() -> None:
    """The subscription through the pattern has it, and the one by name comes behind it."""
    node = SmallNode(Shape(HISTORY))
    reader, other = Subscriber(node), Subscriber(node, "a")
    node.publish("a")
    node.do(reader.session, SubscribePattern(1, "*"))
    send_raw(node, b"2")
    node.commands.submit(reader.session, Subscribe(2, "a", last=1))
    node.loop.settle()
    assert data_of(reader.read()) == data_of(other.read()) == [2]
