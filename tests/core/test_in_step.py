"""Members in step are written to by their descriptors alone; a member that
differs stands apart first."""

import sys

import pytest

from hub.core.commands import Subscribe
from hub.core.fanout.group import Group
from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import PublishRequest
from hub.core.publication import Publication
from hub.core.pushes import Push as AnyPush
from hub.wire.sse import SeveralSseDialect, SseDialect
from hub.wire.websocket import WebSocketDialect
from tests.core.small_node import Shape, SmallNode
from tests.core.streams import read_sse, read_websocket
from tests.core.subscribers import Subscriber
from tests.support.stream import Push


def offsets(pushes: list[Push]) -> list[object]:
    return [push["offset"] for push in pushes if push["op"] == "message"]


def group_of(node: SmallNode, channel: str = "a") -> Group:
    [group] = node.channels[channel].groups()
    return group


def in_step(node: SmallNode, channel: str = "a") -> int:
    return sum(group.in_step for group in node.channels[channel].groups())


def test_a_live_member_comes_into_step_with_the_first_batch() -> None:
    """From then on the member's place follows from its group."""
    node = SmallNode()
    readers = [Subscriber(node, "a") for _ in range(3)]
    assert in_step(node) == 0
    readers[0].publish("a", 2)
    assert in_step(node) == 3
    assert [reader.session.subscriptions["a"].offset for reader in readers] == [1 + 1] * 3
    assert [offsets(reader.read()) for reader in readers] == [[1, 2]] * 3


def test_a_crowd_that_came_into_step_leaves_no_room_behind() -> None:
    """When no member stands apart any more, nothing is held for members that did."""
    node = SmallNode()
    readers = [Subscriber(node, "a") for _ in range(200)]
    before = sys.getsizeof(group_of(node).apart)
    readers[0].publish("a", 1)
    assert in_step(node) == 200
    assert sys.getsizeof(group_of(node).apart) < 200 < before


def test_a_descriptors_number_that_is_reused_at_once_gets_nothing_of_the_one_before() -> None:
    """In the middle of a broadcast the next connection gets the number, and not the messages."""
    node = SmallNode(Shape(slice_sessions=1))
    readers = [Subscriber(node, "a") for _ in range(3)]
    readers[0].publish("a", 1)
    for reader in readers:
        reader.read()
    node.publish("a")
    node.loop.turn()
    number = readers[1].link.descriptor
    readers[1].link.abort()
    readers[1].session.lost(1006, "gone")
    newcomer = Subscriber(node)
    assert newcomer.link.descriptor == number
    node.loop.settle()
    assert offsets(newcomer.read()) == []
    assert [offsets(reader.read()) for reader in readers] == [[2], [], [2]]


def test_an_ended_connection_leaves_all_its_channels_before_its_number_is_free() -> None:
    """The link tells the session first, whatever ends the connection."""
    node = SmallNode()
    leaving, other = Subscriber(node, "a", "b"), Subscriber(node, "a", "b")
    for channel in ("a", "b"):
        other.publish(channel, 1)
        assert in_step(node, channel) == 2
    leaving.link.abort()
    for channel in ("a", "b"):
        assert in_step(node, channel) == 1
        other.publish(channel, 1)
    assert len(offsets(other.read())) == 4


def test_a_member_that_takes_less_stands_apart_in_every_channel_until_its_peer_took_all() -> None:
    """Bytes that the transport holds are never overtaken, in this channel or another."""
    node = SmallNode()
    slow, fast = Subscriber(node, "a", "b"), Subscriber(node, "a", "b")
    for channel in ("a", "b"):
        fast.publish(channel, 1)
    slow.link.room = 20
    fast.publish("a", 1)
    assert (in_step(node, "a"), in_step(node, "b")) == (1, 1)
    fast.publish("b", 1)
    fast.publish("a", 1)
    got = slow.drain()
    assert [push["offset"] for push in got if push["channel"] == "a"] == [1, 2, 3]
    assert [push["offset"] for push in got if push["channel"] == "b"] == [1, 2]
    for channel in ("a", "b"):
        fast.publish(channel, 1)
        assert in_step(node, channel) == 2
    assert len(offsets(slow.read())) == 2


def test_a_member_that_blocks_in_the_middle_does_not_hold_up_those_behind_it() -> None:
    """The loop goes on behind it, and each gets everything once."""
    node = SmallNode(Shape(slice_sessions=3))
    readers = [Subscriber(node, "a") for _ in range(7)]
    readers[0].publish("a", 1)
    for reader in (readers[1], readers[4], readers[6]):
        reader.block()
    readers[0].publish("a", 2)
    assert in_step(node) == 4
    for reader in readers:
        assert offsets(reader.drain()) == [1, 2, 3]
    assert node.counters.deliveries == 7 * 3
    assert [reader.session.sent for reader in readers] == [3] * 7


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("room", [0, 20])
def test_several_that_block_at_one_publication_are_owed_it_and_no_other_is(
    count: int, room: int
) -> None:
    """A publication goes out without a batch until the first session takes less."""
    node = SmallNode()
    readers = [Subscriber(node, "a") for _ in range(6)]
    readers[0].publish("a", 1)
    blocked = (readers[0], readers[2], readers[5])
    for reader in blocked:
        reader.link.room = room
    readers[1].publish("a", count)
    assert in_step(node) == 3
    offset = 1 + count
    handed = [each.session.subscriptions["a"].position.offset for each in readers]
    assert handed == [2 if each in blocked else offset for each in readers]
    readers[1].publish("a", 1)
    for reader in readers:
        assert offsets(reader.drain()) == list(range(1, offset + 2))
    assert [reader.session.sent for reader in readers] == [offset + 1] * 6
    assert node.counters.deliveries == 6 * (offset + 1)
    assert node.fanout.backlog_bytes == 0


def test_a_publication_that_cannot_be_encoded_ends_its_sessions_and_the_channel_goes_on() -> None:
    """A fault of the hub: to go on would hide the loss from them."""

    class Failing(WebSocketDialect):
        fails = False

        def encode(self, push: AnyPush, epoch: str) -> bytes:
            if self.fails and isinstance(push, Publication):
                raise RuntimeError
            return super().encode(push, epoch)

    node, dialect = SmallNode(), Failing()
    sessions = []
    for _ in range(2):
        session, _ = node.open(dialect=dialect)
        node.do(session, Subscribe(1, "a"))
        sessions.append(session)
    node.publish("a")
    node.loop.settle()
    dialect.fails = True
    node.publish("a")
    with pytest.raises(RuntimeError):
        node.loop.settle()
    node.loop.settle()
    assert all(session.closing for session in sessions)
    reader = Subscriber(node, "a")
    reader.publish("a", 1)
    assert offsets(reader.read()) == [3]


@pytest.mark.parametrize("plain", [True, False])
def test_the_number_sent_to_a_session_is_right_at_every_moment_of_a_broadcast(plain: bool) -> None:
    """In step the number follows from the group; a session on TLS is counted by itself."""
    node = SmallNode(Shape(slice_sessions=1))
    early = [Subscriber(node) for _ in range(3)]
    for reader in early:
        reader.session, reader.link = node.open(plain=plain)
        reader.subscribe("a")
    early[0].publish("a", 2)
    late = Subscriber(node, "a")
    for _ in range(3):
        node.publish("a")
        node.loop.turn()
        for reader in (*early, late):
            reader.read()
    node.publish("a")
    node.loop.turn()
    node.loop.turn()
    sent = [reader.session.sent for reader in early]
    handed = [reader.session.subscriptions["a"].offset for reader in early]
    assert sent == handed
    node.loop.settle()
    assert [reader.session.sent for reader in early] == [6] * 3
    assert late.session.sent == 4
    assert in_step(node) == (4 if plain else 1)


def test_a_publisher_that_wants_no_echo_stands_apart_for_that_batch_alone() -> None:
    """The publisher's descriptor may be one among many in the group."""
    node = SmallNode()
    publisher, *others = (Subscriber(node, "a") for _ in range(3))
    publisher.publish("a", 1)
    node.request(PublishRequest("a", b"1", "p", skip_connection=publisher.session.id))
    node.loop.settle()
    assert offsets(publisher.read()) == [1]
    publisher.publish("a", 1)
    assert in_step(node) == 3
    assert offsets(publisher.read()) == [3]
    assert [offsets(other.read()) for other in others] == [[1, 2, 3]] * 2


def test_a_new_epoch_in_a_read_that_gathers_a_write_overtakes_nothing() -> None:
    """A link that gathers is not written past, also where a channel must be finished at once."""
    node = SmallNode()
    reader, other = Subscriber(node, "a"), Subscriber(node, "a")
    other.publish("a", 1)
    node.publish("a")
    reader.link.cork()
    reader.session.control(b'{"op":"heartbeat"}\n')
    node.begin_epoch("a")
    reader.session.uncork()
    node.loop.settle()
    ops = ["message", "heartbeat", "message", "gap"]
    assert [push["op"] for push in reader.read()] == ops
    assert [push["op"] for push in other.read()] == [op for op in ops if op != "heartbeat"]
    other.publish("a", 1)
    assert in_step(node) == 2


def test_a_member_ahead_of_the_channel_comes_into_step_when_the_channel_is_there() -> None:
    """The member skips the publication that it has, once."""
    here = Namespaces(ChannelOptions(history_size=10))
    node = SmallNode(Shape(namespaces=here))
    reader = Subscriber(node, "a")
    node.publish("a")
    late = Subscriber(node, "a")
    reader.publish("a", 1)
    assert in_step(node) == 2
    assert offsets(late.read()) == [2]
    assert offsets(reader.read()) == [1, 2]


def test_a_member_that_is_told_positions_never_comes_into_step() -> None:
    """Its session writes a second frame behind each batch."""
    node = SmallNode()
    several = SeveralSseDialect()
    one = Subscriber(node, "a", dialect=SseDialect(several), read=read_sse, transport="sse")
    one.publish("a", 1)
    assert in_step(node) == 1
    one.subscribe("b")
    one.publish("a", 1)
    assert in_step(node) == 0
    assert offsets(one.read()) == [1, 2]


def test_a_dialect_that_changes_in_the_middle_of_a_broadcast_loses_nothing() -> None:
    """The batch under way still goes out as it was sealed."""
    node = SmallNode(Shape(slice_sessions=1))
    several = SeveralSseDialect()
    readers = [
        Subscriber(node, "a", dialect=SseDialect(several), read=read_sse, transport="sse")
        for _ in range(3)
    ]
    readers[0].publish("a", 1)
    node.publish("a")
    node.loop.turn()
    for reader in readers:
        reader.subscribe("b")
    readers[0].publish("a", 1)
    assert [offsets(reader.read()) for reader in readers] == [[1, 2, 3]] * 3


def test_each_dialect_has_members_in_step_of_its_own() -> None:
    """A channel's arrays are one for each format that its members speak."""
    node = SmallNode()
    text = Subscriber(node, "a")
    framed = Subscriber(node, "a", dialect=WebSocketDialect(), read=read_websocket)
    text.publish("a", 2)
    groups = node.channels["a"].groups()
    assert [group.in_step for group in groups] == [1, 1]
    assert [offsets(each.read()) for each in (text, framed)] == [[1, 2]] * 2


def test_places_stay_dense_when_members_leave_between_and_during_broadcasts() -> None:
    """The last takes the place that was left."""
    node = SmallNode()
    readers = [Subscriber(node, "a") for _ in range(8)]
    readers[0].publish("a", 1)
    readers[2].unsubscribe("a")
    slow, finish = readers[4], readers[4].link.finish
    slow.block()

    def ending(rest: bytes) -> None:
        for gone in (readers[0], readers[5], readers[7]):
            gone.link.abort()
            gone.session.lost(1006, "gone")
        finish(rest)

    slow.link.finish = ending  # type: ignore[method-assign]  # as for want of room for its rest
    readers[1].publish("a", 1)
    group = group_of(node)
    assert (len(group.descriptors), group.in_step, len(group)) == (3, 3, 4)
    slow.link.drain()
    node.publish("a")
    node.loop.settle()
    left = [readers[n] for n in (1, 3, 4, 6)]
    assert len(group.descriptors) == group.in_step == len(group) == 4
    assert sorted(group.descriptors) == sorted(r.link.descriptor or 0 for r in left)
    assert [offsets(reader.read()) for reader in left] == [[1, 2, 3]] * 4
