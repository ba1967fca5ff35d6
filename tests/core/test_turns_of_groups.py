"""A channel's members stand in groups, whose turns each bring all that came since their last."""

from collections import Counter
from collections.abc import Callable

import pytest

from hub.core.commands import Subscribe
from hub.core.options import ChannelOptions, Namespaces
from hub.core.pushes import Push as AnyPush
from hub.wire.sse import SeveralSseDialect, SseDialect
from hub.wire.websocket import TextDialect
from tests.core.small_node import Shape, SmallNode
from tests.core.streams import read_sse
from tests.core.subscribers import Subscriber
from tests.support.stream import Push

SSE = SseDialect(SeveralSseDialect())
PRESENCE = Namespaces(ChannelOptions(presence=True))


def offsets(pushes: list[Push]) -> list[object]:
    return [push["offset"] for push in pushes if push["op"] == "message"]


def ops(pushes: list[Push]) -> list[object]:
    return [push["op"] for push in pushes]


def sizes(node: SmallNode, channel: str = "a") -> list[int]:
    return [len(group) for group in node.channels[channel].groups()]


def publish_and_turn(node: SmallNode, *, turns: int = 1) -> None:
    """Publish, and let so many groups of the channel have a turn."""
    node.publish("a")
    for _ in range(turns):
        node.loop.turn()


def test_each_group_gets_in_its_turn_all_that_came_since_its_last_one_in_one_write() -> None:
    """A publication waits for one round over all members at most, and not for two."""
    node = SmallNode(Shape(slice_sessions=1))
    readers = [Subscriber(node, "a") for _ in range(3)]
    readers[0].publish("a", 1)
    writes = [reader.link.writes for reader in readers]
    got = []
    for _ in range(4):
        publish_and_turn(node)
        got.append([offsets(reader.read()) for reader in readers])
    assert got == [[[1, 2], [1], [1]], [[], [2, 3], []], [[], [], [2, 3, 4]], [[3, 4, 5], [], []]]
    made = [reader.link.writes - before for reader, before in zip(readers, writes, strict=True)]
    assert made == [2, 1, 1]
    node.loop.settle()
    assert [offsets(reader.read()) for reader in readers] == [[], [4, 5], [5]]
    assert node.fanout.backlog_bytes == 0
    assert sum(node.counters.publish_to_write.buckets) == 5
    assert node.counters.deliveries == 3 * 5


def test_groups_that_get_different_ranges_share_the_frames() -> None:
    """A publication is encoded once in each dialect, however its batches are joined."""

    class Counting(TextDialect):
        def __init__(self) -> None:
            self.encoded: Counter[object] = Counter()

        def encode(self, push: AnyPush, epoch: str) -> bytes:
            self.encoded[getattr(push, "offset", None)] += 1
            return super().encode(push, epoch)

    node, dialect = SmallNode(Shape(slice_sessions=2)), Counting()
    readers = [Subscriber(node, "a", dialect=dialect) for _ in range(8)]
    for _ in range(9):
        publish_and_turn(node)
    node.loop.settle()
    assert [offsets(reader.read()) for reader in readers] == [list(range(1, 10))] * 8
    assert [dialect.encoded[offset] for offset in range(1, 10)] == [1] * 9


def sse(node: SmallNode, *channels: str) -> Subscriber:
    return Subscriber(node, *channels, dialect=SSE, read=read_sse, transport="sse")


class OneTurnOfTwo:
    """A round in which one of two groups has been told of a leave, and the other has not yet."""

    def __init__(self, member: Callable[..., Subscriber] = Subscriber) -> None:
        self.node = SmallNode(Shape(namespaces=PRESENCE, slice_sessions=2))
        self.told, _ = Subscriber(self.node, "a"), Subscriber(self.node, "a")
        self.untold, gone = member(self.node, "a"), member(self.node, "a")
        self.node.loop.settle()
        for reader in (self.told, self.untold):
            reader.read()
        gone.session.lost(1006, "gone")
        self.node.loop.turn()
        assert ops(self.told.read()) == ["leave"]

    def comes(self, late: Subscriber) -> None:
        """Subscribes a member, which joins the other group."""
        self.node.commands.submit(late.session, Subscribe(1, "a"))
        assert sizes(self.node) == [2, 2]
        assert ops(late.read()) == ["reply"]


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("publishes", [True, False])
def test_a_member_that_comes_between_two_turns_is_told_of_nothing_before_it(
    plain: bool, publishes: bool
) -> None:
    """A leave has no offset, so the batches that were sealed before the member came decide."""
    round_ = OneTurnOfTwo()
    late = Subscriber(round_.node, plain=plain)
    round_.comes(late)
    if publishes:
        round_.node.publish("a")
    round_.node.loop.settle()
    message = ["message"] * publishes
    assert ops(round_.untold.read()) == ["leave", "join", *message]
    assert ops(late.read()) == ["join", *message]


def test_a_member_that_came_and_leaves_between_two_turns_is_told_of_nothing_before_it() -> None:
    round_ = OneTurnOfTwo()
    late = Subscriber(round_.node)
    round_.comes(late)
    late.unsubscribe("a")
    assert ops(late.read()) == ["join", "reply"]


def test_a_member_that_got_all_that_came_ahead_of_its_turn_gets_none_of_it_again() -> None:
    """A member that leaves one of two ways to its channel gets what it is owed at once."""
    round_ = OneTurnOfTwo()
    round_.node.fanout.settle(round_.untold.session.subscriptions["a"])
    assert ops(round_.untold.read()) == ["leave"]
    round_.untold.publish("a", 1)
    assert ops(round_.untold.read()) == ["message"]


def test_a_member_that_leaves_before_its_turn_gets_all_that_came_and_the_others_too() -> None:
    """The group that it leaves empty owes nothing any more."""
    node = SmallNode(Shape(slice_sessions=1))
    readers = [Subscriber(node, "a") for _ in range(4)]
    publish_and_turn(node)
    publish_and_turn(node)
    for reader in readers[1:3]:
        reader.unsubscribe("a")
    node.loop.settle()
    for reader in readers:
        assert offsets(reader.read()) == [1, 2]
    assert sizes(node) == [1, 1]
    assert node.fanout.backlog_bytes == 0
    assert node.channels["a"].under_way == ()


def test_all_members_that_end_in_the_middle_of_a_round_leave_nothing_behind() -> None:
    node = SmallNode(Shape(slice_sessions=1))
    readers = [Subscriber(node, "a") for _ in range(3)]
    channel = node.channels["a"]
    for _ in range(2):
        publish_and_turn(node)
    node.publish("a")
    for reader in readers:
        reader.session.lost(1006, "gone")
    node.loop.settle()
    assert (channel.under_way, channel.open, node.fanout.backlog_bytes) == ((), [], 0)
    newcomer = Subscriber(node, "a")
    newcomer.publish("a", 1)
    assert offsets(newcomer.read()) == [4]


@pytest.mark.parametrize("slice_sessions", [1, 3])
def test_a_session_that_changes_its_dialect_between_two_turns_misses_and_repeats_nothing(
    slice_sessions: int,
) -> None:
    """The session takes along what it is owed, and joins no group that has had its turn."""
    node = SmallNode(Shape(namespaces=PRESENCE, slice_sessions=slice_sessions))
    ahead = [sse(node, "a", "b") for _ in range(2)]
    leaving, _ = Subscriber(node, "a"), Subscriber(node, "a")
    moving = sse(node, "a")
    node.loop.settle()
    for reader in (*ahead, moving):
        reader.read()
    node.publish("a")
    leaving.session.lost(1006, "gone")
    node.loop.turn()
    assert ops(moving.read()) == []
    node.publish("a")
    moving.subscribe("b")
    node.loop.settle()
    for reader in (*ahead, moving):
        got = [op for op in ops(reader.read()) if op in ("message", "leave")]
        assert got == ["message", "leave", "message"]


def test_a_session_that_comes_and_changes_its_dialect_is_told_of_nothing_before_it() -> None:
    round_ = OneTurnOfTwo(sse)
    late = sse(round_.node)
    round_.comes(late)
    late.node.commands.submit(late.session, Subscribe(2, "b"))
    round_.node.loop.settle()
    assert "leave" not in ops(late.read())


def test_newcomers_fill_groups_that_have_room() -> None:
    node = SmallNode(Shape(slice_sessions=4))
    readers = [Subscriber(node, "a") for _ in range(12)]
    assert sizes(node) == [4, 4, 4]
    readers[1].unsubscribe("a")
    readers[5].unsubscribe("a")
    newcomers = [Subscriber(node, "a") for _ in range(3)]
    assert sizes(node) == [4, 4, 4, 1]
    newcomers[0].publish("a", 1)
    assert all(offsets(each.read()) == [1] for each in (*newcomers, readers[0], readers[11]))


@pytest.mark.parametrize("between", [False, True])
def test_groups_that_have_shrunk_become_one(between: bool) -> None:
    """Each group costs a turn. They become one also if one of them has what the other one lacks."""
    node = SmallNode(Shape(namespaces=PRESENCE, slice_sessions=4))
    readers = [Subscriber(node, "a") for _ in range(16)]
    readers[0].publish("a", 1)
    stay = [readers[n] for n in (0, 4, 8, 12)]
    for reader in readers:
        if reader not in stay:
            reader.session.lost(1006, "gone")
    for reader in stay:
        reader.read()
    for _ in range(4):
        node.publish("a")
        if between:
            node.loop.turn()
            node.publish("a")
        node.loop.settle()
    assert sizes(node) == [4]
    first, *others = [reader.read() for reader in stay]
    assert offsets(first) == list(range(2, 10 if between else 6))
    assert ops(first).count("leave") == 12
    assert others == [first] * 3


def test_a_group_that_lacks_batches_takes_in_the_members_of_one_that_has_them() -> None:
    """Each member gets what it lacks, once, also a leave, which has no offset."""
    node = SmallNode(Shape(namespaces=PRESENCE, slice_sessions=2))
    readers = [Subscriber(node, "a") for _ in range(8)]
    readers[0].publish("a", 1)
    for reader in readers:
        reader.read()
    readers.pop().session.lost(1006, "gone")
    for _ in range(3):
        publish_and_turn(node)
    for gone in (readers[1], readers[5]):
        gone.session.lost(1006, "gone")
    node.loop.settle()
    readers[0].publish("a", 1)
    assert len(sizes(node)) < 4
    for stayed in (0, 2, 3, 4, 6):
        pushes = readers[stayed].read()
        assert offsets(pushes) == [2, 3, 4, 5]
        assert ops(pushes).count("leave") == 3
