"""Questions between nodes: so many at a time, and those that last have room of their own."""

import pytest

from hub.brokers import questions
from hub.brokers.questions import UnderWay
from hub.errors import UnavailableError


@pytest.mark.parametrize(("lasts", "most"), [(False, 1000), (True, 5000)])
def test_questions_under_way_are_bounded_in_number(lasts: bool, most: int) -> None:
    under_way = UnderWay()
    for _ in range(most):
        under_way.check(lasts=lasts)
    with pytest.raises(UnavailableError, match=f"{most:,} questions to other nodes wait already"):
        under_way.check(lasts=lasts)
    assert not under_way.enter(lasts=lasts)
    assert under_way.enter(lasts=not lasts)
    under_way.leave(lasts=lasts)
    assert under_way.enter(lasts=lasts)


def test_an_answer_takes_no_longer_than_an_operator_waits() -> None:
    assert questions.ANSWER_SECONDS == 2.0
