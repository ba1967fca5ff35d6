"""Batches go out once, in order, to whoever was there, also when they are cut in slices."""

from collections.abc import Callable
from unittest.mock import Mock

import pytest

from hub.core.commands import Subscribe
from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import PublishRequest
from hub.core.publication import Position
from hub.core.pushes import Gap, GapReason
from hub.core.session.session import Session
from hub.wire.sse import SeveralSseDialect
from tests.core.small_node import Shape, SmallNode
from tests.core.subscribers import Subscriber
from tests.support.stream import Push


def offsets(pushes: list[Push]) -> list[object]:
    return [push["offset"] for push in pushes if push["op"] == "message"]


def ops(pushes: list[Push]) -> list[object]:
    return [push["op"] for push in pushes]


def test_publications_of_one_turn_are_joined_into_one_write() -> None:
    """Nothing goes out before the loop turns, then everything of the channel at once."""
    node = SmallNode()
    reader = Subscriber(node, "a")
    for _ in range(3):
        node.publish("a")
    assert reader.read() == []
    sends: list[bytes] = []
    send = reader.link.send

    def noting(data: bytes) -> int:
        sends.append(data)
        return send(data)

    reader.link.send = noting  # type: ignore[method-assign]  # a spy, calls the real one
    node.loop.turn()
    assert len(sends) == 1
    assert offsets(reader.read()) == [1, 2, 3]


def test_publications_owed_to_a_congested_member_count_only_when_its_link_takes_them() -> None:
    """Publications and bytes, whatever the others of its batch got at once."""
    node = SmallNode()
    fast, slow = Subscriber(node, "a"), Subscriber(node, "a")
    slow.block()
    for _ in range(3):
        fast.publish("a", 1)
    # The frame that was started is the link's to finish.
    assert (fast.session.sent, slow.session.sent, node.counters.deliveries) == (3, 1, 4)
    slow.drain()
    assert (slow.session.sent, node.counters.deliveries) == (3, 6)
    assert node.counters.bytes_sent == len(fast.link.received) + len(slow.link.received)


def test_a_batch_is_encoded_once_for_all() -> None:
    """Sessions of one dialect share the very same bytes object."""
    node = SmallNode()
    seen: list[int] = []
    for _ in range(5):
        reader = Subscriber(node, "a")
        send = reader.link.send

        def noting(data: bytes, send: Callable[[bytes], int] = send) -> int:
            seen.append(id(data))
            return send(data)

        reader.link.send = noting  # type: ignore[method-assign]  # a spy, calls the real one
    node.publish("a")
    node.loop.turn()
    assert len(seen) == 5
    assert len(set(seen)) == 1


def test_a_broadcast_is_cut_in_slices() -> None:
    """One turn of the loop writes to at most as many sessions as was set."""
    node = SmallNode(Shape(slice_sessions=2))
    readers = [Subscriber(node, "a") for _ in range(5)]
    node.publish("a")
    served = []
    while node.loop.callbacks:
        node.loop.turn()
        served.append(sum(bool(reader.read()) for reader in readers))
    assert served == [2, 2, 1]


def test_channels_take_turns_between_slices() -> None:
    """A small channel does not wait for the end of a large one."""
    node = SmallNode(Shape(slice_sessions=2))
    large = [Subscriber(node, "large") for _ in range(6)]
    small = Subscriber(node, "small")
    node.publish("large")
    node.publish("small")
    node.loop.turn()
    node.loop.turn()
    assert offsets(small.read()) == [1]
    assert sum(bool(reader.read()) for reader in large) < 6


def test_a_channels_batches_do_not_overtake_each_other() -> None:
    """Publications that come while a batch is under way are the next batch, for every member."""
    node = SmallNode(Shape(slice_sessions=1))
    readers = [Subscriber(node, "a") for _ in range(4)]
    for _ in range(4):
        node.publish("a")
        node.loop.turn()
    node.loop.settle()
    assert [offsets(reader.read()) for reader in readers] == [[1, 2, 3, 4]] * 4


def test_a_session_that_subscribes_in_the_middle_of_a_broadcast_gets_nothing_twice() -> None:
    """The session starts at the head: the batch under way is not for it, and the next one is."""
    node = SmallNode(Shape(slice_sessions=1))
    for _ in range(3):
        Subscriber(node, "a")
    node.publish("a")
    node.loop.turn()
    late = Subscriber(node)
    late.subscribe("a")
    node.publish("a")
    node.loop.settle()
    pushes = late.read()
    assert ops(pushes) == ["reply", "message"]
    assert offsets(pushes) == [2]


def test_a_session_that_unsubscribes_in_the_middle_of_a_broadcast_gets_its_rest_first() -> None:
    """Each publication of the broadcast comes once, then the reply, and nothing behind it."""
    node = SmallNode(Shape(slice_sessions=1))
    readers = [Subscriber(node, "a") for _ in range(3)]
    node.publish("a")
    node.loop.turn()
    node.publish("a")
    for reader in readers:
        reader.unsubscribe("a")
    node.loop.settle()
    assert [ops(reader.read()) for reader in readers] == [["message", "message", "reply"]] * 3


def test_a_session_that_unsubscribes_after_its_slice_gets_a_join_only_once() -> None:
    """A batch of joins alone has no offsets to tell by what was sent."""
    here = Namespaces(ChannelOptions(presence=True))
    node = SmallNode(Shape(namespaces=here, slice_sessions=1))
    first, second = Subscriber(node, "a"), Subscriber(node, "a")
    node.loop.settle()
    first.read()
    third = Subscriber(node, "a")
    node.loop.settle()
    first.read()
    third.session.lost(1006, "gone")
    node.loop.turn()
    first.unsubscribe("a")
    node.loop.settle()
    assert ops(first.read()) == ["leave", "reply"]
    assert ops(second.read())[-2:] == ["leave", "leave"]


def test_a_publisher_may_ask_not_to_get_its_own() -> None:
    """The others get it, and its own position moves on."""
    node = SmallNode()
    publisher, other = Subscriber(node, "a"), Subscriber(node, "a")
    node.request(PublishRequest("a", b"1", "p", skip_connection=publisher.session.id))
    node.publish("a")
    node.loop.settle()
    assert offsets(publisher.read()) == [2]
    assert offsets(other.read()) == [1, 2]
    assert publisher.session.subscriptions["a"].position.offset == 2


def test_a_session_that_ends_during_a_broadcast_does_not_stop_it() -> None:
    """The loop goes over a snapshot."""
    node = SmallNode()
    readers = [Subscriber(node, "a") for _ in range(3)]
    send = readers[0].link.send

    def ending(data: bytes) -> int:
        for reader in readers[:2]:
            reader.session.lost(1006, "gone")
        return send(data)

    readers[0].link.send = ending  # type: ignore[method-assign]  # a peer that dies while written to
    node.publish("a")
    node.loop.settle()
    assert offsets(readers[2].read()) == [1]
    assert len(node.channels["a"]) == 1


def test_a_loss_of_the_broker_is_announced_in_its_place() -> None:
    """The gap is counted once for each session."""
    node = SmallNode()
    readers = [Subscriber(node, "a") for _ in range(2)]
    node.publish("a")
    epoch = node.channels["a"].epoch
    node.lost(Gap("a", epoch, 2, 4, GapReason.BROKER))
    node.loop.settle()
    for reader in readers:
        message, gap = reader.read()
        assert message["offset"] == 1
        assert (gap["op"], gap["from"], gap["to"], gap["reason"]) == ("gap", 2, 4, "broker")
    assert node.counters.gaps["broker"] == 2


def test_a_new_epoch_is_announced_behind_all_of_the_old_one() -> None:
    """Sessions in the middle of a sliced broadcast get the announcement too, and the
    stream goes on after its head."""
    node = SmallNode(Shape(slice_sessions=1))
    readers = [Subscriber(node, "a") for _ in range(3)]
    for _ in range(2):
        node.publish("a")
        node.loop.turn()
    node.begin_epoch("a")
    node.publish("a")
    node.loop.settle()
    for reader in readers:
        pushes = reader.read()
        assert ops(pushes) == ["message", "message", "gap", "message"]
        assert pushes[2]["reason"] == "reset"
        assert Position.parse(pushes[2]["position"]).offset == 0
        assert pushes[3]["offset"] == 1


@pytest.mark.parametrize("tags", [None, b'{"a":1}'])
@pytest.mark.parametrize("members", [1, 3], ids=["alone", "in turns"])
def test_tags_count_in_the_backlog_until_they_are_written(tags: bytes | None, members: int) -> None:
    node = SmallNode(Shape(slice_sessions=1))
    for _ in range(members):
        Subscriber(node, "a")
    for count in (1, 2):
        for _ in range(count):
            node.request(PublishRequest("a", b"12345", "backend", tags=tags))
        assert node.fanout.backlog_bytes == count * (5 + len(tags or b""))
        node.loop.settle()
        assert node.fanout.backlog_bytes == 0


def test_the_backlog_is_what_is_taken_in_and_not_yet_written() -> None:
    """Publishers are held back by the backlog."""
    node = SmallNode(Shape(slice_sessions=1))
    for _ in range(3):
        Subscriber(node, "a")
    node.publish("a", b"12345")
    assert node.fanout.backlog_bytes == 5
    node.loop.turn()
    assert node.fanout.backlog_bytes == 5
    node.loop.settle()
    assert node.fanout.backlog_bytes == 0
    assert sum(node.counters.publish_to_write.buckets) == 1


def test_a_session_that_is_closed_while_others_move_to_a_new_epoch_resumes_in_the_old() -> None:
    """In the new epoch it would miss what has the offsets that it got in the old one.

    The first session's reset is one too many for all outboxes, and the one that is owed most goes.
    """
    node = SmallNode()
    names = ("a", "b")
    sessions: list[Session] = []
    for _ in range(2):
        session, link = node.open(dialect=SeveralSseDialect())
        for name in names[: 1 + len(sessions)]:
            node.do(session, Subscribe(1, name))
        sessions.append(session)
        node.publish("a")
        node.loop.settle()
        link.room = 0
    node.publish("a")
    for _ in range(2):
        node.publish("b", b'"%b"' % (b"x" * 500))
    node.loop.settle()
    before = [session.resume_from()["a"] for session in sessions]
    node.outbox_budget.max_bytes = node.outbox_budget.bounded_bytes
    node.begin_epoch("a")
    node.loop.settle()
    first, most = sessions
    assert most.closing
    assert not first.closing
    assert [session.resume_from()["a"] for session in sessions] == before


def test_a_fault_in_a_broadcast_ends_whom_it_did_not_reach_and_the_channel_goes_on() -> None:
    """They resume where they were; going on would hide the loss from them.

    Members in other slices get all of it in their turns.
    """
    node = SmallNode(Shape(slice_sessions=3))
    reached, failing, missed = (Subscriber(node, "a", plain=False) for _ in range(3))
    elsewhere = Subscriber(node, "a")
    failing.link.send = Mock(side_effect=RuntimeError)  # type: ignore[method-assign]  # a fault
    node.publish("a")
    with pytest.raises(RuntimeError):
        node.loop.turn()
    failing.link.send = Mock(return_value=0)  # type: ignore[method-assign]  # takes nothing
    node.publish("a")
    node.loop.settle()
    assert [offsets(each.read()) for each in (reached, elsewhere)] == [[1, 2]] * 2
    assert ops(missed.read()) == ["goodbye"]
    assert missed.session.closing
    newcomer = Subscriber(node, "a")
    node.publish("a")
    node.loop.settle()
    assert offsets(newcomer.read()) == [3]


def test_positions_are_written_although_a_fault_ends_the_tick() -> None:
    """A stream without them would resume behind, and get the publication again."""
    node = SmallNode()
    session, _ = node.open(dialect=SeveralSseDialect())
    node.do(session, Subscribe(1, "a"))
    failing = Subscriber(node, "b", plain=False)
    failing.link.send = Mock(side_effect=RuntimeError)  # type: ignore[method-assign]  # a fault
    written = Mock()
    session.places.on_progress = written
    node.publish("a")
    node.publish("b")
    with pytest.raises(RuntimeError):
        node.loop.turn()
    node.loop.settle()
    assert written.call_count == 1
