"""Very many publications that cannot be written are refused some in each turn of the loop."""

from functools import partial

import pytest

from hub.brokers.sqlite import intake
from hub.brokers.sqlite.intake import Outcome, Waiting, refuse
from hub.core.eager import Rest, begin
from hub.core.ports import PublishRequest
from hub.errors import NotPublishedError

COUNT = 10
ERROR = NotPublishedError("the disk is full")


@pytest.fixture(autouse=True)
def four_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "REFUSED_AT_ONCE", 4)


def waiting() -> tuple[Waiting, list[tuple[int, Outcome]]]:
    """Ten publications, and a list that gets the place and the outcome of each."""
    made, told = Waiting(), list[tuple[int, Outcome]]()

    def settled(place: int, outcome: Outcome) -> None:
        told.append((place, outcome))

    for place in range(COUNT):
        made.add(PublishRequest("a", b"12345", "backend"), partial(settled, place))
    return made, told


def test_publications_are_refused_in_their_order_some_in_each_turn() -> None:
    """None of them waits any more from the first turn on, so later ones find room."""
    made, told = waiting()
    work = refuse(made.all(), ERROR)
    seen = []
    for _ in range(2):
        work.send(None)
        seen.append(len(told))
        assert (len(made), made.bytes) == (0, 0)
    with pytest.raises(StopIteration):
        work.send(None)
    assert seen == [4, 8]
    assert told == [(place, ERROR) for place in range(COUNT)]


def test_a_few_publications_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "REFUSED_AT_ONCE", COUNT)
    made, told = waiting()
    assert begin(refuse(made.all(), ERROR)) is None
    assert len(told) == COUNT


def test_a_stop_between_two_turns_leaves_no_publisher_without_an_answer() -> None:
    made, told = waiting()
    rest = begin(refuse(made.all(), ERROR))
    assert isinstance(rest, Rest)
    assert len(told) == 4
    rest.close()
    assert told == [(place, ERROR) for place in range(COUNT)]
