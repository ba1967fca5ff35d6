"""Patterns with many channels, and channels with many patterns, in turns of the loop."""

import pytest

from hub.core.commands import SubscribePattern, UnsubscribePattern
from hub.core.options import ChannelOptions, Namespaces
from hub.core.publication import BEGINNING
from hub.core.recovery import pattern_subscribing
from hub.core.session.session import Session
from tests.core.fakes import FakeLink
from tests.core.small_node import Shape, SmallNode

COUNT = 20


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> SmallNode:
    for bound in ("LEFT_AT_ONCE", "SLICE_SESSIONS"):
        monkeypatch.setattr(pattern_subscribing, bound, 4)
    keeps = ChannelOptions(history_size=10, history_ttl_seconds=60)
    return SmallNode(Shape(Namespaces(keeps)))


def follows_all(node: SmallNode, *others: str) -> tuple[Session, FakeLink]:
    """Opens a session in 20 channels by `p:*`, and by other patterns."""
    for number in range(COUNT):
        node.publish(f"p:{number}")
    session, link = node.open()
    for pattern in ("p:*", *others):
        node.do(session, SubscribePattern(1, pattern, {pattern: BEGINNING}))
    assert len(session.subscriptions) == COUNT
    return session, link


def steps(node: SmallNode, session: Session) -> list[int]:
    """Turn and step until nothing is left; return how many channels each step left."""
    found, before = [], len(session.subscriptions)
    while node.loop.tasks or node.loop.callbacks:
        node.loop.turn()
        node.loop.step()
        found.append(before - len(session.subscriptions))
        before = len(session.subscriptions)
    return found


def test_the_channels_of_a_pattern_are_left_in_turns_and_the_reply_comes_behind(
    node: SmallNode,
) -> None:
    """Leaving a thousand channels in one step took 15 ms. Other channels are served meanwhile."""
    session, link = follows_all(node)
    node.commands.submit(session, UnsubscribePattern(7, "p:*"))
    at_once = COUNT - len(session.subscriptions)
    assert b'"id":7' not in link.received
    node.publish("p:19", b'"meanwhile"')
    left = steps(node, session)
    assert max(at_once, *left) == 4
    assert at_once + sum(left) == COUNT
    received = bytes(link.received)
    assert 0 < received.index(b'"meanwhile"') < received.index(b'"id":7')
    node.publish("p:19", b'"later"')
    node.publish("p:20")
    node.loop.settle()
    assert b'"later"' not in link.received
    assert not session.subscriptions


def test_a_command_behind_the_end_of_a_pattern_waits_for_it(node: SmallNode) -> None:
    """The same pattern may be asked for again, and begins anew."""
    session, link = follows_all(node)
    node.commands.submit(session, UnsubscribePattern(7, "p:*"))
    node.commands.submit(session, SubscribePattern(8, "p:*"))
    node.loop.settle()
    received = bytes(link.received)
    assert received.index(b'"id":7') < received.index(b'"id":8')
    assert len(session.subscriptions) == COUNT
    node.publish("p:19", b'"later"')
    node.loop.settle()
    assert link.received.count(b'"later"') == 1


def test_a_channel_that_another_pattern_matches_stays(node: SmallNode) -> None:
    session, _ = follows_all(node, "*:19")
    node.do(session, UnsubscribePattern(7, "p:*"))
    assert list(session.subscriptions) == ["p:19"]


def test_a_session_that_ends_between_two_turns_leaves_all(node: SmallNode) -> None:
    session, _ = follows_all(node)
    node.commands.submit(session, UnsubscribePattern(7, "p:*"))
    session.close(1000, "enough")
    node.loop.settle()
    assert not session.subscriptions
    assert (node.membership.held, node.patterns.held) == (0, 0)
    assert node.faults == []


def test_many_sessions_join_a_new_channel_in_turns(node: SmallNode) -> None:
    """Only some sessions are looked at in one step, and none misses the first publication."""
    opened = [node.open() for _ in range(COUNT)]
    for session, _ in opened:
        node.do(session, SubscribePattern(1, "p:*"))
    node.publish("p:a", b'"first"')

    def joined() -> int:
        return sum("p:a" in session.subscriptions for session, _ in opened)

    before, turns = joined(), []
    assert before == 4
    while node.loop.tasks or node.loop.callbacks:
        node.loop.turn()
        node.loop.step()
        turns.append(joined() - before)
        before = joined()
    assert max(turns) == 4
    assert before == COUNT
    assert [link.received.count(b'"first"') for _, link in opened] == [1] * COUNT


def test_a_pattern_that_ends_or_begins_while_others_join_is_right(node: SmallNode) -> None:
    """The one joins nothing any more, and the other gets what its answer does not name."""
    opened = [node.open() for _ in range(COUNT)]
    for session, _ in opened:
        node.do(session, SubscribePattern(1, "p:*"))
    node.publish("p:a", b'"first"')
    ended, ended_link = opened[-1]
    node.commands.submit(ended, UnsubscribePattern(2, "p:*"))
    late, late_link = node.open()
    node.commands.submit(late, SubscribePattern(1, "p:*"))
    node.publish("p:b", b'"second"')
    node.loop.settle()
    assert not ended.subscriptions
    assert b'"first"' not in ended_link.received
    assert sorted(late.subscriptions) == ["p:a", "p:b"]
    assert late_link.received.count(b'"second"') == 1
    for _, link in opened[:-1]:
        assert (link.received.count(b'"first"'), link.received.count(b'"second"')) == (1, 1)


def test_channels_that_may_have_appeared_unreported_are_looked_at_in_turns(
    node: SmallNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand of them, as after a cut, are no single step."""
    session, _ = node.open()
    node.do(session, SubscribePattern(1, "p:*"))
    looked: list[str] = []
    monkeypatch.setattr(node.patterns, "appeared", looked.append)
    for number in range(COUNT):
        node.publish(f"p:{number}")
    looked.clear()
    node.patterns.missed()
    before, turns = 0, []
    while node.loop.tasks:
        node.loop.step()
        turns.append(len(looked) - before)
        before = len(looked)
    assert len(looked) == COUNT
    assert max(turns) == 4
