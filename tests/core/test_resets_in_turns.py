"""Very many members of one channel move to a new epoch, or get its rows again, group by group."""

import pytest

from hub.core.commands import Subscribe
from hub.core.fanout import member_acts
from hub.core.forensics.answers import Fate
from hub.core.forensics.question import Question
from hub.core.options import ChannelOptions, Namespaces, Overflow
from hub.core.publication import BEGINNING, Position
from hub.core.session.subscription import Subscription
from tests.core.small_node import Shape, SmallNode, limits
from tests.core.subscribers import Subscriber
from tests.support.stream import Push

COUNT = 10
SLICE = 3
OPTIONS = ChannelOptions(keyed=True, history_size=100)
NAMESPACES = Namespaces(ChannelOptions(), {"rows": OPTIONS})


def crowd(channel: str = "a", *, state: bool = False) -> tuple[SmallNode, list[Subscriber]]:
    node = SmallNode(Shape(namespaces=NAMESPACES, slice_sessions=SLICE))
    readers = [Subscriber(node) for _ in range(COUNT)]
    for reader in readers:
        node.do(reader.session, Subscribe(1, channel, state=state))
        reader.read()
    return node, readers


def crowd_with_a_reader_of_history() -> tuple[SmallNode, Subscriber]:
    """A crowd, and a member that reads five publications from history and has room for two."""
    node, _ = crowd()
    for _ in range(5):
        node.publish("a", b'"%0998d"' % 0)
    node.loop.settle()
    reader = Subscriber(node)
    reader.link.room = 2500
    node.do(reader.session, Subscribe(1, "a", since=BEGINNING))
    return node, reader


def said(pushes: list[Push]) -> list[object]:
    """Returns the offset of each message, and the reason of each gap."""
    found = [push for push in pushes if push["op"] in {"message", "gap"}]
    return [push.get("offset") or push["reason"] for push in found]


def placed(reader: Subscriber) -> Position:
    return reader.session.subscriptions["a"].resume_from


def test_members_move_to_a_new_epoch_some_in_each_turn() -> None:
    """Each member gets all of the old epoch before its `reset`, and all
    of the new one behind it."""
    node, readers = crowd()
    node.publish("a")
    old = node.channels["a"].epoch
    node.begin_epoch("a")
    node.publish("a")
    new = node.channels["a"].epoch
    moved, before = [], 0
    while node.loop.callbacks:
        node.loop.turn()
        epochs = [reader.session.subscriptions["a"].epoch for reader in readers]
        assert set(epochs) <= {old, new}
        moved.append(epochs.count(new) - before)
        before = epochs.count(new)
    assert sum(moved) == COUNT
    assert max(moved) == SLICE
    for reader in readers:
        assert said(reader.read()) == [1, "reset", 1]
    node.publish("a")
    node.loop.settle()
    assert [said(reader.read()) for reader in readers] == [[2]] * COUNT


def test_a_member_that_is_cut_before_its_reset_resumes_from_the_old_epoch() -> None:
    """A resume from the new epoch would never tell the member of the reset."""
    node, readers = crowd()
    node.publish("a")
    node.loop.settle()
    old, new = placed(readers[0]), Position("new", 5)
    node.downstream.reset("a", new)
    assert {placed(reader) for reader in readers} == {old}
    node.loop.turn()
    at = [placed(reader) for reader in readers]
    assert (at.count(new), at.count(old)) == (SLICE, COUNT - SLICE)


def test_a_second_new_epoch_comes_behind_the_first_for_each_member() -> None:
    node, readers = crowd()
    node.downstream.reset("a", Position("second", 0))
    node.loop.turn()
    node.downstream.reset("a", Position("third", 7))
    node.loop.settle()
    for reader in readers:
        assert said(reader.read()) == ["reset", "reset"]
        assert placed(reader) == Position("third", 7)


def test_a_session_that_subscribes_while_others_move_gets_no_reset() -> None:
    node, readers = crowd()
    node.publish("a")
    node.begin_epoch("a")
    node.loop.turn()
    late = Subscriber(node)
    node.commands.submit(late.session, Subscribe(1, "a"))
    node.publish("a")
    node.loop.settle()
    assert said(late.read()) == [1]
    assert [said(reader.read()) for reader in readers] == [[1, "reset", 1]] * COUNT


def test_an_unsubscribe_before_its_turn_is_answered_behind_the_reset() -> None:
    node, readers = crowd()
    node.publish("a")
    node.begin_epoch("a")
    leaver = readers[-1]
    node.publish("a")
    leaver.unsubscribe("a")
    *_, first, second, third, reply = leaver.read()
    assert said([first, second, third]) == [1, "reset", 1]
    assert reply["op"] == "reply"


@pytest.mark.parametrize("drains_first", [False, True])
def test_a_member_that_reads_history_reads_none_of_a_new_epoch_before_its_reset(
    drains_first: bool,
) -> None:
    """The epoch may begin while the member reads, and before its turn."""
    node, reader = crowd_with_a_reader_of_history()
    node.begin_epoch("a")
    node.publish("a")
    if drains_first:
        reader.link.drain()
    node.loop.settle()
    reader.link.drain()
    node.loop.settle()
    *before, reset, first = said(reader.read())
    assert (reset, first) == ("reset", 1)
    assert before == [*range(1, len(before) + 1)]
    assert 0 < len(before) < 5


def test_a_fault_at_one_member_ends_those_of_its_turn_and_moves_all_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node, readers = crowd()
    reset = member_acts.MemberActs._enter

    def faulty(
        acts: object, subscription: Subscription, before: Position, frame: bytes, offset: int
    ) -> None:
        if subscription.session is readers[4].session:
            raise ZeroDivisionError
        reset(acts, subscription, before, frame, offset)  # type: ignore[arg-type]

    monkeypatch.setattr(member_acts.MemberActs, "_enter", faulty)
    node.begin_epoch("a")
    while node.loop.callbacks:
        try:
            node.loop.turn()
        except ZeroDivisionError:
            continue
    ended = [reader for reader in readers if reader.session.closing]
    assert len(ended) == SLICE
    node.publish("a")
    node.loop.settle()
    for reader in readers:
        if reader not in ended:
            assert said(reader.read()) == ["reset", 1]


@pytest.mark.parametrize("leaves", [False, True])
def test_a_fault_at_a_new_epoch_ends_members_that_read_history_too(
    monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    """They would read the new epoch's history without a `reset`, also where one leaves."""
    node, reader = crowd_with_a_reader_of_history()

    def faulty(*_: object) -> None:
        raise ZeroDivisionError

    node.begin_epoch("a")
    monkeypatch.setattr(member_acts.MemberActs, "_enter", faulty)
    if leaves:
        with pytest.raises(ZeroDivisionError):
            node.fanout.settle(reader.session.subscriptions["a"])
    while node.loop.callbacks:
        try:
            node.loop.turn()
        except ZeroDivisionError:
            continue
    assert reader.session.closing


def test_members_with_state_get_rows_in_place_of_a_gap_some_in_each_turn() -> None:
    """A member without state gets the gap at the same place."""
    node, readers = crowd("rows:a", state=True)
    plain = Subscriber(node, "rows:a")
    node.publish("rows:a", key="x")
    node.loop.settle()
    for reader in (*readers, plain):
        reader.read()
    with node.losing_all():
        node.publish("rows:a", key="x")
    got, before = [], 0
    while node.loop.callbacks:
        node.loop.turn()
        now = sum(b'"state"' in bytes(reader.link.received[reader._seen :]) for reader in readers)
        got.append(now - before)
        before = now
    assert sum(got) == COUNT
    assert max(got) <= SLICE + 1
    assert all(push["op"] != "gap" for reader in readers for push in reader.read())
    assert said(plain.read()) == ["broker"]


def test_members_with_state_get_rows_in_place_of_one_gap_once() -> None:
    """A member that came behind the gap gets them too, and one that had it
    before the turn of its group."""
    node, readers = crowd("rows:a", state=True)
    node.publish("rows:a", key="x")
    node.loop.settle()
    for reader in readers:
        reader.read()
    with node.losing_all():
        node.publish("rows:a", key="x")
    late = Subscriber(node)
    node.commands.submit(late.session, Subscribe(1, "rows:a", state=True))
    early = readers[-1]
    node.fanout.catch_up(early.session.subscriptions["rows:a"])
    node.loop.settle()
    for reader in (*readers, late):
        assert [push["op"] for push in reader.read()].count("state") == 1


@pytest.mark.parametrize("between", [False, True])
def test_rows_in_place_of_two_gaps_come_once(between: bool) -> None:
    """The rows that come for the first gap hold as of the second one, or later."""
    node, readers = crowd("rows:a", state=True)
    node.publish("rows:a", key="x")
    node.loop.settle()
    for reader in readers:
        reader.read()
    for _ in range(2):
        with node.losing_all():
            node.publish("rows:a", b"2", key="x")
        if between:
            node.publish("rows:a", b"3", key="y")
    node.loop.settle()
    for reader in readers:
        [push] = [push for push in reader.read() if push["op"] != "reply"]
        assert (push["op"], len(push["rows"])) == ("state", 1 + between)
    node.publish("rows:a", b"4", key="x")
    node.loop.settle()
    assert all([push["op"] for push in reader.read()] == ["message"] for reader in readers)


def test_a_member_that_has_two_resets_at_once_is_in_each_epoch_in_its_turn() -> None:
    """A member that is cut between the two resets was not told of the third epoch,
    and resumes in the second."""
    node, readers = crowd()
    reader = readers[-1]
    reader.block()
    node.publish("a")
    node.loop.settle()
    node.downstream.reset("a", Position("second", 5))
    node.downstream.reset("a", Position("third", 7))
    node.fanout.catch_up(reader.session.subscriptions["a"])
    ring = reader.session.subscriptions["a"].ring
    assert ring is not None
    assert [entry.resumes for entry in ring.untold][1:] == [Position("second", 5)]
    assert said(reader.drain()) == [1, "reset", "reset"]


def test_a_channel_of_a_new_epoch_has_no_more_turns_than_others() -> None:
    """The channel has no extra turn even if its publication waited for its first
    turn when the epoch began."""
    node, readers = crowd()
    others = [Subscriber(node, "b") for _ in range(COUNT)]
    for name in ("b", "a"):
        node.publish(name)
    node.loop.turn()
    node.downstream.reset("a", Position("new", 0))
    written = []
    while node.loop.callbacks:
        before = [len(each.link.received) for each in (*readers, *others)]
        node.loop.turn()
        after = [len(each.link.received) for each in (*readers, *others)]
        got = [one != two for one, two in zip(before, after, strict=True)]
        written.append("a" if any(got[:COUNT]) else "b")
    assert "".join(written).startswith("ababa")


def test_rows_of_a_new_epoch_come_behind_all_of_the_old_one() -> None:
    """A session that leaves before the turn of its group gets the rows too,
    while they replace a gap."""
    node, readers = crowd("rows:a", state=True)
    with node.losing_all():
        node.publish("rows:a", key="x")
    node.publish("rows:a", key="y")
    node.begin_epoch("rows:a")
    node.publish("rows:a", key="z")
    new = str(node.channels["rows:a"].head)
    leaver = readers[-1]
    leaver.unsubscribe("rows:a")
    *before, reply = leaver.read()
    assert reply["op"] == "reply"
    assert [push.get("position") for push in before].count(new) == 1
    assert before[-1].get("position") == new


def test_a_session_that_ends_as_its_old_epoch_is_written_is_noted_in_no_other() -> None:
    """The withheld publications of the old epoch are more than the outbox holds, so the
    session gets no `reset`."""
    shape = Shape(
        Namespaces(ChannelOptions(overflow=Overflow.DISCONNECT)), limits(outbox_max_bytes=900)
    )
    node = SmallNode(shape)
    reader = Subscriber(node, "b")
    node.do(reader.session, Subscribe(1, "a", every_ms=60_000))
    reader.publish("a", 1)
    reader.block()
    reader.publish("b", 1)
    node.publish("b", b'"%0698d"' % 0)
    node.publish("a", b'"%0298d"' % 0)
    node.loop.settle()
    assert not reader.session.closing
    node.downstream.reset("a", Position("new", 5))
    node.loop.settle()
    assert reader.session.closing
    fate = node.explain(reader.session, Question("a", "new", 3, 5)).answer
    assert fate is Fate.NOT_SUBSCRIBED
