"""Very many members of one channel come into step, and leave at its end, some at a time."""

import pytest

from hub.core.commands import Subscribe
from hub.core.fanout import group, membership
from hub.core.fanout.membership import Ending
from hub.core.ports import PublishRequest
from hub.core.publication import ENDS
from hub.core.session.subscription import Subscription
from tests.core.small_node import SmallNode
from tests.core.subscribers import Subscriber

COUNT = 10


def test_members_that_arrive_together_come_into_step_some_with_each_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The others get the batch separately, and nobody gets it twice."""
    monkeypatch.setattr(group, "COME_IN_AT_ONCE", 4)
    node = SmallNode()
    readers = [Subscriber(node, "a") for _ in range(COUNT)]
    in_step = []
    for _ in range(4):
        node.publish("a")
        node.loop.settle()
        in_step.append(sum(g.in_step for g in node.channels["a"].groups()))
    assert in_step == [4, 8, 10, 10]
    for reader in readers:
        offsets = [push["offset"] for push in reader.read() if push["op"] == "message"]
        assert offsets == [1, 2, 3, 4]


def test_members_leave_an_ended_channel_some_in_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members of two channels leave in turns too; one that comes after the end is
    judged by what it has read."""
    monkeypatch.setattr(membership, "_AT_ONCE", 4)
    node = SmallNode()
    sessions = []
    for _ in range(COUNT):
        session, _link = node.open()
        for name in ("a", "b"):
            node.do(session, Subscribe(None, name))
        sessions.append(session)
    for name in ("a", "b"):
        node.request(PublishRequest(name, b"1", "backend", marks=ENDS))

    def held() -> int:
        return sum(len(session.subscriptions) for session in sessions)

    left, before = [], held()
    while node.loop.callbacks:
        node.loop.turn()
        left.append(before - held())
        before = held()
    assert max(left) == 4
    assert sum(left) == 2 * COUNT


def test_a_fault_at_one_member_keeps_no_other_in_an_ended_channel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The fault keeps no member in a channel that ends later, either."""
    node = SmallNode()
    readers = [Subscriber(node, "a") for _ in range(COUNT)]
    later = Subscriber(node, "b")
    leave = Ending._leave

    def faulty(ending: Ending, subscription: Subscription) -> None:
        if subscription.session is readers[3].session:
            raise RuntimeError("a fault")
        leave(ending, subscription)

    monkeypatch.setattr(Ending, "_leave", faulty)
    node.request(PublishRequest("a", b"1", "backend", marks=ENDS))
    with pytest.raises(RuntimeError, match="a fault"):
        node.loop.settle()
    node.request(PublishRequest("b", b"1", "backend", marks=ENDS))
    node.loop.settle()
    assert [len(each.session.subscriptions) for each in readers].index(1) == 3
    assert sum(len(each.session.subscriptions) for each in readers) == 1
    assert not later.session.subscriptions
