"""A table shows where a subscription starts, for everything that can be asked of every history."""

from hypothesis import assume, given
from hypothesis import strategies as st

from hub.core.publication import Position
from hub.core.recovery.start import Start, start

HEAD = Position("e", 10)
SIZES = st.integers(0, 12)


def test_without_a_wish_it_starts_at_the_head() -> None:
    assert start(since=None, last=None, head=HEAD, oldest=3) == Start(HEAD, 0, recovered=True)
    assert start(since=None, last=0, head=HEAD, oldest=3) == Start(HEAD, 0, recovered=True)


def test_resuming_replays_exactly_what_was_missed() -> None:
    since = Position("e", 6)
    assert start(since=since, last=None, head=HEAD, oldest=3) == Start(since, 4, recovered=True)


def test_resuming_from_before_the_history_is_not_recovered() -> None:
    """The stream starts at what was asked for, so that the gap is announced in it."""
    since = Position("e", 1)
    assert start(since=since, last=None, head=HEAD, oldest=3) == Start(since, 8, recovered=False)


def test_the_last_offset_before_the_history_is_enough() -> None:
    """With 2 everything after it is held; with 1, offset 2 is missing."""
    assert start(since=Position("e", 2), last=None, head=HEAD, oldest=3).recovered
    assert not start(since=Position("e", 1), last=None, head=HEAD, oldest=3).recovered


def test_another_epoch_is_a_reset_to_its_beginning() -> None:
    """All of the new epoch is missed, and what history has of it is replayed."""
    began = start(since=Position("old", 99), last=None, head=HEAD, oldest=3)
    assert began == Start(Position("e", 0), 8, recovered=False, reset=True)


def test_an_offset_that_was_never_given_out_is_a_reset_to_the_head() -> None:
    began = start(since=Position("e", 11), last=None, head=HEAD, oldest=3)
    assert began == Start(HEAD, 0, recovered=False, reset=True)


def test_since_wins_over_last() -> None:
    since = Position("e", 9)
    assert start(since=since, last=5, head=HEAD, oldest=1).position == since


@given(SIZES, SIZES, SIZES)
def test_last_gives_the_newest_that_are_held(head: int, held: int, last: int) -> None:
    """The start has as many as asked for, or as there are; it is recovered if
    that is all there ever were."""
    held = min(held, head)
    began = start(since=None, last=last, head=Position("e", head), oldest=head - held + 1)
    assert began.replayed == min(last, held)
    assert began.position.offset == head - began.replayed
    assert began.recovered == (began.replayed == min(last, head))
    assert not began.reset


@given(SIZES, SIZES, SIZES)
def test_replayed_and_missing_publications_make_up_the_distance(
    head: int, held: int, since: int
) -> None:
    """Recovered means that nothing of it is missing."""
    held = min(held, head)
    assume(since <= head)
    position = Position("e", since)
    began = start(since=position, last=None, head=Position("e", head), oldest=head - held + 1)
    missing = head - since - began.replayed
    assert began.position == position
    assert 0 <= began.replayed <= held
    assert missing >= 0
    assert began.recovered == (missing == 0)
