"""What a subscription makes of its channel's pushes: `hub_client.sequence`."""

import json

from hypothesis import given
from hypothesis import strategies as st

from hub_client.frames import decode
from hub_client.messages import Gap, Item, Message, Position
from hub_client.sequence import Sequence


def feed(sequence: Sequence, **push: object) -> tuple[Item, ...]:
    raw = json.dumps({"channel": "a", **push}).encode()
    return sequence.push(decode(raw), raw)


def say(sequence: Sequence, offset: int) -> tuple[Item, ...]:
    return feed(sequence, op="message", offset=offset, data=offset)


def make(since: Position | None = None, epoch: str = "e1", offset: int = 0) -> Sequence:
    sequence = Sequence("a", since=since, last=None, fill=False)
    sequence.subscribed(Position(epoch, offset))
    return sequence


def test_a_message_carries_the_epoch_of_its_subscription() -> None:
    """Messages have no epoch on the wire; the subscription supplies it."""
    (item,) = say(make(offset=4), 5)
    assert isinstance(item, Message)
    assert item.position == Position("e1", 5)


def test_a_message_that_came_before_is_dropped_and_counted() -> None:
    """The hub may repeat after a resume; the application sees each offset once."""
    sequence = make()
    say(sequence, 1)
    assert say(sequence, 1) == ()
    assert sequence.duplicates == 1


def test_a_gap_moves_the_position_so_that_what_it_covers_is_not_asked_for() -> None:
    """After a gap to 9 a resume asks from 9, not from before the gap."""
    sequence = make()
    say(sequence, 1)
    (gap,) = feed(sequence, op="gap", epoch="e1", **{"from": 2, "to": 9}, reason="slow")
    assert isinstance(gap, Gap)
    assert (gap.first, gap.last, gap.missing, gap.reason) == (2, 9, 8, "slow")
    assert sequence.options()["since"] == "e1:9"


def test_a_gap_never_names_what_was_already_delivered() -> None:
    """A gap that overlaps what came before is cut to what is really missing."""
    sequence = make()
    say(sequence, 5)
    (gap,) = feed(sequence, op="gap", epoch="e1", **{"from": 3, "to": 8}, reason="broker")
    assert isinstance(gap, Gap)
    assert (gap.first, gap.last) == (6, 8)
    assert feed(sequence, op="gap", epoch="e1", **{"from": 3, "to": 8}, reason="broker") == ()


def test_a_reset_forgets_offsets_and_lower_ones_of_the_new_epoch_are_delivered() -> None:
    """Offset 1 of the new epoch is new although offset 50 of the old one came before."""
    sequence = make(offset=49)
    say(sequence, 50)
    sequence.disconnected()
    sequence.subscribed(Position("e2", 0))
    (gap,) = feed(sequence, op="gap", epoch="e2", position="e2:0", reason="reset")
    (item,) = say(sequence, 1)
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.position, gap.missing) == ("reset", Position("e2", 0), 0)
    assert isinstance(item, Message)
    assert item.position == Position("e2", 1)


def test_a_cut_between_subscribed_and_its_reset_asks_again_from_the_old_position() -> None:
    """Otherwise the next resume would look complete and the reset would be lost silently."""
    sequence = make(offset=7)
    sequence.disconnected()
    sequence.subscribed(Position("e2", 0))
    sequence.disconnected()
    assert sequence.options()["since"] == "e1:7"


def test_a_new_epoch_without_a_reset_is_announced_by_the_client() -> None:
    """Never silently: a message of an epoch nobody announced comes after a reset gap."""
    sequence = make(since=Position("e1", 7))
    sequence.disconnected()
    sequence.subscribed(Position("e2", 3))
    gap, item = say(sequence, 4)
    assert isinstance(gap, Gap)
    assert json.loads(gap.frame)["position"] == "e2:3"
    assert isinstance(item, Message)


def test_what_comes_before_subscribed_belongs_to_a_former_subscription() -> None:
    """Messages still under way after an unsubscribe are not those of the next subscribe."""
    sequence = Sequence("a", since=None, last=2, fill=True)
    assert say(sequence, 9) == ()
    assert sequence.options() == {"channel": "a", "fill": True, "last": 2}


def test_an_unsequenced_message_is_always_delivered_and_moves_nothing() -> None:
    """Plain Redis PUBLISH has no offset: it is no duplicate and no position."""
    sequence = make(offset=3)
    (item,) = feed(sequence, op="message", data="x")
    (gap,) = feed(sequence, op="gap", epoch="e1", unsequenced=4, reason="slow")
    assert isinstance(item, Message)
    assert item.position is None
    assert isinstance(gap, Gap)
    assert (gap.unsequenced, gap.missing) == (4, 0)
    assert sequence.position == Position("e1", 3)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 30), st.integers(0, 5)), max_size=40))
def test_offsets_only_rise_whatever_is_repeated(
    pushes: list[tuple[bool, int, int]],
) -> None:
    """Within an epoch, what is delivered covers each offset at most once and in order."""
    sequence = make()
    reached = 0
    for is_gap, offset, length in pushes:
        if is_gap:
            span = {"from": offset, "to": offset + length}
            items = feed(sequence, op="gap", epoch="e1", reason="slow", **span)
        else:
            items = say(sequence, offset)
        for item in items:
            assert isinstance(item, Message | Gap)
            first = item.first if isinstance(item, Gap) else item.offset
            assert first is not None
            assert first > reached
            reached = item.position.offset if item.position else reached
