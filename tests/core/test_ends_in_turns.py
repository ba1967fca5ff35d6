"""A session of many channels leaves them in turns, and nobody sees that it is not done yet."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from hub.admin import drain
from hub.admin.drain import Drainer
from hub.admin.explain import Explain, Explaining
from hub.admin.explain_subject import ExplainSubject
from hub.admin.subject_here import SubjectExplaining
from hub.core.commands import Subscribe, SubscribePattern
from hub.core.fanout.membership import LEFT_AT_ONCE
from hub.core.forensics.answers import Fate
from hub.core.forensics.journal import Journal
from hub.core.forensics.noted import What
from hub.core.forensics.question import Question
from hub.core.identity import Identity
from hub.core.options import ChannelOptions, Namespaces
from hub.core.publication import BEGINNING
from hub.core.session.session import Session
from hub.core.session.subscription import Subscription
from tests.core.fakes import FakeLink
from tests.core.small_node import Shape, SmallNode, limits

NAMES = tuple(f"a:{number}" for number in range(4 * LEFT_AT_ONCE + 7))
SOMEBODY = Identity("ann", subscribe=("*",), publish=("*",))


def a_node(*, presence: bool = False) -> SmallNode:
    options = ChannelOptions(history_size=10, history_ttl_seconds=60, presence=presence)
    return SmallNode(Shape(Namespaces(options), limits(max_subscriptions=len(NAMES))))


def in_all(node: SmallNode, names: Sequence[str] = NAMES) -> tuple[Session, FakeLink]:
    session, link = node.open(identity=SOMEBODY)
    for name in names:
        node.commands.submit(session, Subscribe(None, name))
    node.loop.settle()
    return session, link


def left_by_turn(node: SmallNode) -> list[int]:
    """Turn the loop until nothing is left; return how many channels were closed in each turn."""
    found, before = [], len(node.channels)
    while node.loop.callbacks:
        node.loop.turn()
        found.append(before - len(node.channels))
        before = len(node.channels)
    return found


def test_a_session_of_many_channels_leaves_a_bounded_number_of_them_in_a_turn() -> None:
    """The end of a session with 990 channels was one step of 6 to 16 ms."""
    node = a_node(presence=True)
    session, _ = in_all(node)
    session.close(1000, "enough")
    at_once = len(NAMES) - len(node.channels)
    turns = left_by_turn(node)
    assert max(at_once, *turns) <= LEFT_AT_ONCE
    assert at_once + sum(turns) == len(NAMES)
    assert not node.registry.parting
    assert not session.subscriptions


def test_a_session_of_few_channels_leaves_them_in_the_step_that_ends_it() -> None:
    """Nearly all sessions are such, and a turn costs more than their end."""
    node = a_node()
    session, _ = in_all(node, NAMES[:LEFT_AT_ONCE])
    session.close(1000, "enough")
    assert not len(node.channels)
    assert not node.registry.parting


@pytest.mark.parametrize("place", [LEFT_AT_ONCE - 1, LEFT_AT_ONCE, len(NAMES) - 1])
def test_a_fault_at_one_channel_keeps_the_session_in_no_other(
    monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """A stop waits until all are left, so it would never end."""
    node = a_node()
    session, _ = in_all(node)
    left = Journal.left

    def faulty(journal: Journal, subscription: Subscription, *rest: Any) -> None:
        if subscription.channel.name == NAMES[place]:
            raise RuntimeError("a fault")
        left(journal, subscription, *rest)

    monkeypatch.setattr(Journal, "left", faulty)
    session.close(1000, "enough")
    with pytest.raises(RuntimeError, match="a fault"):
        node.loop.settle()
    node.loop.settle()
    assert (len(node.channels), len(session.subscriptions)) == (0, 0)
    assert not node.registry.parting


def test_an_ended_session_is_no_member_from_the_first_moment() -> None:
    """Counts of subscribers and of announced gaps do not see how far it has come."""
    node = a_node()
    session, link = in_all(node)
    other, _ = in_all(node, NAMES[-1:])
    session.close(1000, "enough")
    assert [len(node.channels[name]) for name in NAMES[-3:]] == [0, 0, 1]
    assert node.membership.held == 1
    received = bytes(link.received)
    node.publish(NAMES[-1])
    node.begin_epoch(NAMES[-2])
    node.loop.settle()
    assert bytes(link.received) == received
    assert other.subscriptions[NAMES[-1]].offset == 1


def test_a_channel_that_somebody_enters_meanwhile_stays_open() -> None:
    """The one that leaves must not take the channel from the one that came."""
    node = a_node(presence=True)
    session, _ = in_all(node)
    session.close(1000, "enough")
    after, link = in_all(node, NAMES[-1:])
    assert list(node.channels) == [NAMES[-1]]
    assert [member.id for member in node.members(NAMES[-1])] == ["ann"]
    node.publish(NAMES[-1], b'"later"')
    node.loop.settle()
    assert b"later" in link.received
    assert after.subscriptions[NAMES[-1]].live
    assert node.faults == []


def test_members_of_an_ended_session_have_left_when_the_turns_are_over() -> None:
    """Each member's leave comes once."""
    node = a_node(presence=True)
    session, _ = in_all(node)
    watcher, link = node.open()
    node.do(watcher, Subscribe(None, NAMES[-1]))
    before = link.received.count(b'"leave"')
    session.close(1000, "enough")
    node.loop.settle()
    assert link.received.count(b'"leave"') - before == 1
    assert not [member for member in node.members(NAMES[-1]) if member.id == "ann"]


def test_the_end_is_noted_in_the_epoch_in_which_it_was() -> None:
    """A channel may be in another epoch when the turn comes that notes its end."""
    node = a_node()
    session, _ = in_all(node)
    watcher, _ = in_all(node, NAMES[-1:])
    name, epoch = NAMES[-1], node.channels[NAMES[-1]].epoch
    node.publish(name)
    node.loop.settle()
    session.close(1000, "enough")
    node.begin_epoch(name)
    node.loop.settle()
    assert session.notes is not None
    held = [e for e in session.notes.events if e.what is What.HELD and e.channel == name]
    assert [(e.epoch, e.last, e.detail) for e in held] == [(epoch, 1, "closed")]
    assert watcher.subscriptions[name].channel.epoch != epoch


def test_ranges_that_an_ended_session_was_still_owed_are_known() -> None:
    """The ranges that were not sent are noted behind the end of their subscription, as always."""
    node = a_node()
    session, link = in_all(node)
    link.room = 0
    for name in NAMES:
        node.publish(name)
        node.loop.settle()
    for name in NAMES:
        node.publish(name)
    node.loop.settle()
    name, epoch = NAMES[-1], node.channels[NAMES[-1]].epoch
    assert session.outbox is not None
    session.close(1000, "enough")
    assert node.outbox_budget.bytes == 0
    node.loop.settle()
    question = Question(name, epoch, 2, 2, current=True)
    assert node.explain(session, question).answer is Fate.CLOSED
    assert session.notes is not None
    noted = [e.what for e in session.notes.events if e.channel == name]
    assert noted.index(What.HELD) < noted.index(What.UNSENT)


def test_channels_of_a_pattern_are_noted_with_the_pattern_of_an_ended_session() -> None:
    """The pattern itself has ended before the turn that notes it."""
    node = a_node()
    for name in NAMES:
        node.publish(name)
    session, _ = node.open()
    node.do(session, SubscribePattern(None, "a:*", {"a:*": BEGINNING}))
    assert len(session.subscriptions) == len(NAMES)
    session.close(1000, "enough")
    assert node.patterns.held == 0
    node.loop.settle()
    assert session.notes is not None
    matched = [e for e in session.notes.events if e.what is What.MATCHED]
    assert len(matched) == len(NAMES)
    assert {e.detail for e in matched} == {"a:*"}
    assert session.patterns is not None
    assert not session.patterns.by_text
    assert not session.patterns.channels


@pytest.mark.parametrize("asks", ["for the connection", "for the subject"])
async def test_a_question_about_a_connection_that_has_just_ended_waits_for_its_notes(
    asks: str,
) -> None:
    """The last channels are noted some turns after the end; until then the answer is not known."""
    node = a_node()
    session, _ = in_all(node)
    name = NAMES[-1]
    node.publish(name)
    node.loop.settle()
    session.close(1000, "enough")
    node.clock.advance(1)
    node.publish(name)
    answering: asyncio.Task[Any]
    if asks == "for the connection":
        explain = Explaining(node.evidence()).explain(Explain(session.id, name, 1))
        answering = asyncio.create_task(explain)
    else:
        told = SubjectExplaining(node.evidence()).explain(ExplainSubject(subject="ann"))
        answering = asyncio.create_task(told)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not answering.done()
    node.loop.settle()
    answer = await answering
    if asks == "for the connection":
        assert answer.answer == "written"
    else:
        assert name in {moment.channel for moment in answer.moments}


async def test_a_stop_waits_until_all_channels_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leaves of members are on their way to other nodes when the process ends."""
    node = a_node(presence=True)
    in_all(node)
    monkeypatch.setattr(drain, "_STEP_SECONDS", 0)

    async def is_alone() -> bool:
        return True

    drainer = Drainer(node.registry, is_alone)
    stopping = asyncio.create_task(drainer.stop(ready_delay_seconds=0, window_seconds=0))
    while node.registry.sessions:
        await asyncio.sleep(0)
    for session in tuple(node.registry.leaving):
        session.lost(1000, "gone")
    for _ in range(9):
        await asyncio.sleep(0)
    assert not stopping.done()
    node.loop.settle()
    await stopping
    assert not len(node.channels)


def test_a_reset_of_a_channel_that_an_ended_session_has_still_to_leave_comes_to_an_end() -> None:
    """No batch waits for a group that has no members any more."""
    node = a_node()
    session, link = in_all(node)
    watcher, other = in_all(node, NAMES[-1:])
    for name in NAMES[-2:]:
        node.publish(name)
    session.close(1000, "enough")
    received = bytes(link.received)
    for name in NAMES[-2:]:
        node.begin_epoch(name)
    node.loop.settle()
    assert bytes(link.received) == received
    assert other.received.count(b'"reason":"reset"') == 1
    assert list(node.channels) == [NAMES[-1]]
    assert not node.channels[NAMES[-1]].has_more
    assert watcher.subscriptions[NAMES[-1]].live
